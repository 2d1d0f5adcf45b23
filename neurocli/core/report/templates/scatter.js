"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 760, HEIGHT = 560, TURN = 0.12, START = { turn: -0.7, tilt: 0.42, zoom: 1 };
  // Cividis: even steps of lightness for every kind of colour vision.
  const STOPS = [[0, 34, 78], [61, 78, 107], [124, 123, 120], [187, 173, 108], [254, 232, 56]];

  const tint = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(place), STOPS.length - 2), part = place - low;
    return `rgb(${STOPS[low].map((v, i) => Math.round(v + part * (STOPS[low + 1][i] - v))).join(",")})`;
  };
  const short = (value) => {
    const size = Math.abs(value);
    for (const [limit, sign] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= limit) return `${+(value / limit).toPrecision(3)} ${sign}`;
    }
    return String(+value.toPrecision(3));
  };
  const add = (parent, name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };

  // One axis: where a value lies between -1 and 1, and its ticks.
  const axisOf = (values, name) => {
    let low = Math.min(...values), high = Math.max(...values);
    const isLog = low > 0 && high / low > 100;
    const to = isLog ? Math.log10 : (v) => v, from = isLog ? (v) => 10 ** v : (v) => v;
    low = to(low); high = to(high);
    const margin = (high - low || Math.abs(high) || 1) * 0.08;
    low -= margin; high += margin;
    const ticks = [0.1, 0.5, 0.9].map((part) => from(low + part * (high - low)));
    return { name: name + (isLog ? ", log scale" : ""), ticks,
      at: (value) => (2 * (to(value) - low)) / (high - low) - 1 };
  };

  const start = (space) => {
    const rows = [...space.parentElement.querySelectorAll("tbody tr[data-x]")];
    const names = ["x", "y", "z"].map((key) => space.dataset[key]);
    const points = rows.map((row) => ({
      name: row.cells[0].textContent,
      values: [row.dataset.x, row.dataset.y, row.dataset.z].map(Number),
    }));
    if (!points.length) return;
    const axes = names.map((name, i) => axisOf(points.map((p) => p.values[i]), name));
    const scores = points.map((p) => p.values[2]);
    const lowest = Math.min(...scores), range = Math.max(...scores) - lowest || 1;
    const picture = add(space, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
    const told = space.parentElement.querySelector("[data-told]");
    const view = { ...START };
    let chosen = -1;

    // The score points upwards; depth only orders what is drawn.
    const project = ([x, y, z]) => {
      const c = Math.cos(view.turn), s = Math.sin(view.turn);
      const right = x * c - y * s, back = x * s + y * c;
      const up = z * Math.cos(view.tilt) + back * Math.sin(view.tilt);
      const depth = back * Math.cos(view.tilt) - z * Math.sin(view.tilt);
      const scale = 140 * view.zoom;
      return [WIDTH / 2 + right * scale, HEIGHT / 2 - up * scale, depth];
    };
    const line = (from, to, kind) => {
      const [x1, y1] = project(from), [x2, y2] = project(to);
      add(picture, "line", { x1: x1.toFixed(1), y1: y1.toFixed(1), x2: x2.toFixed(1), y2: y2.toFixed(1), class: kind });
    };
    // Letters have the size that the style sheet gives them, so texts are moved once they are there.
    const label = (place, text, kind) => {
      const [x, y] = project(place);
      const node = add(picture, "text", { y: y.toFixed(1), class: kind, "text-anchor": "middle" }, text);
      const half = node.getComputedTextLength() / 2 + 6;
      node.setAttribute("x", Math.min(Math.max(x, half), WIDTH - half).toFixed(1));
    };
    const draw = () => {
      picture.replaceChildren();
      for (const a of [-1, 1]) {
        for (const b of [-1, 1]) {
          line([-1, a, b], [1, a, b], "edge");
          line([a, -1, b], [a, 1, b], "edge");
          line([a, b, -1], [a, b, 1], "edge");
        }
      }
      axes[0].ticks.forEach((v) => label([axes[0].at(v), -1.14, -1.06], short(v), "tick"));
      axes[1].ticks.forEach((v) => label([1.16, axes[1].at(v), -1.06], short(v), "tick"));
      axes[2].ticks.forEach((v) => label([-1.1, -1.1, axes[2].at(v)], short(v), "tick"));
      label([-0.2, -1.62, -1.22], axes[0].name, "name");
      label([1.75, 0.1, -1.3], axes[1].name, "name");
      label([-1, -1, 1.25], axes[2].name, "name");
      const placed = points.map((p, i) => ({ ...p, i, at: p.values.map((v, k) => axes[k].at(v)) }));
      placed.sort((p, q) => project(q.at)[2] - project(p.at)[2]);
      for (const p of placed) {
        line([p.at[0], p.at[1], -1], p.at, "stem");
        const [x, y] = project(p.at);
        const dot = add(picture, "circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: p.i === chosen ? 9 : 6,
          fill: tint((p.values[2] - lowest) / range), class: p.i === chosen ? "dot chosen" : "dot" });
        add(dot, "title", {}, describe(p));
        if (points.length <= 12 || p.i === chosen) {
          const node = add(picture, "text", { x: (x + 10).toFixed(1), y: (y + 4).toFixed(1), class: "point" }, p.name);
          if (x + 16 + node.getComputedTextLength() > WIDTH) {
            node.setAttribute("x", (x - 10).toFixed(1));
            node.setAttribute("text-anchor", "end");
          }
        }
      }
    };
    const describe = (p) => `${p.name}: ${names.map((n, i) => `${n} ${short(p.values[i])}`).join("; ")}`;
    const choose = (step) => {
      chosen = (chosen + step + points.length) % points.length;
      if (told) told.textContent = describe(points[chosen]);
    };
    const zoom = (by) => { view.zoom = Math.min(Math.max(view.zoom * by, 0.5), 4); };
    const keys = {
      ArrowLeft: () => { view.turn -= TURN; }, ArrowRight: () => { view.turn += TURN; },
      ArrowUp: () => { view.tilt = Math.min(view.tilt + TURN, 1.5); },
      ArrowDown: () => { view.tilt = Math.max(view.tilt - TURN, -0.2); },
      "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15),
      n: () => choose(1), p: () => choose(-1), Home: () => Object.assign(view, START),
    };
    space.addEventListener("keydown", (event) => {
      const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
      if (act) { act(); event.preventDefault(); draw(); }
    });
    let last = null;
    space.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      space.setPointerCapture(event.pointerId);
    });
    space.addEventListener("pointermove", (event) => {
      if (!last) return;
      view.turn += (event.clientX - last[0]) / 150;
      view.tilt = Math.min(Math.max(view.tilt + (event.clientY - last[1]) / 150, -0.2), 1.5);
      last = [event.clientX, event.clientY];
      draw();
    });
    for (const name of ["pointerup", "pointercancel"]) space.addEventListener(name, () => { last = null; });
    for (const button of space.parentElement.querySelectorAll("button[data-key]")) {
      button.addEventListener("click", () => { keys[button.dataset.key](); draw(); });
    }
    draw();
  };
  document.querySelectorAll("[data-space]").forEach(start);
})();
