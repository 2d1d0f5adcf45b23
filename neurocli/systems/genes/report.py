"""Pictures of the genes room: genes of a sweep, ranks of people, attention between genes.

Everything is drawn from the files in the run folder, so that no torch is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

from neurocli.core.data.npz import read_array
from neurocli.core.data.tables import Table, read_table
from neurocli.core.errors import InputError
from neurocli.core.report.collect import collect_run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import LINE_STYLES, Figure, Palette, draw, plain_ticks
from neurocli.core.report.records import as_number
from neurocli.core.report.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NAMED = 30
_MAX_LABELS = 8
_N_BINS = 40
_Q, _LEAST_P = 0.05, 1e-300
_DIRECTIONS = {"rank_to_gene": "genes of a brain", "rank_to_neuro": "brains of genes"}
_MARKS = ("s", "^", "D", "v", "P", "X")

CITATIONS = {
    "clip": "Radford A et al. Learning transferable visual models from natural language "
    "supervision. ICML 2021.",
    "rcca": "Vinod HD. Canonical ridge and econometrics of joint production. J Econometrics "
    "4(2):147-166, 1976.",
    "fdr": "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B "
    "57(1):289-300, 1995.",
}


def figures(run_dir: Path) -> list[Figure]:
    """Return the pictures of a run.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.

    Returns:
        For a sweep its genes, for any run how soon the own genes are found and their ranks, for a
        transformer the attention.

    Raises:
        InputError: A file of the run is damaged.
    """
    found = [
        _manhattan(run_dir), _genes(run_dir), _retrieval(run_dir), _ranks(run_dir),
        _attention(run_dir),
    ]  # fmt: skip
    return [picture for picture in found if picture is not None]


def _numbers(table: Table, name: str) -> list[float | None]:
    return [as_number(cell) for cell in table.columns.get(name, [])]


def _genes(run_dir: Path) -> Figure | None:
    path = run_dir / "genes.csv"
    if not path.is_file():
        return None
    table = read_table(path, id_column="gene")
    values, q_values = _numbers(table, "percentile"), _numbers(table, "q")
    rows = [
        (value, q < 0.05, name)
        for value, q, name in zip(values, q_values, table.ids, strict=True)
        if value is not None and q is not None
    ]
    rows.sort(key=lambda row: -row[0])
    n_found = sum(is_found for _, is_found, _ in rows)

    def paint(axes: Axes, palette: Palette) -> None:
        for is_found, mark, label in ((True, "o", "found, q < 0.05"), (False, "x", "not found")):
            points = [(i + 1, row[0]) for i, row in enumerate(rows) if row[1] == is_found]
            if points:
                x, y = zip(*points, strict=True)
                color = palette.series[0 if is_found else 1]
                axes.plot(x, y, mark, color=color, markersize=4, label=label)
        axes.axhline(0.5, color=palette.text, linestyle=":", linewidth=1.0, label="chance")
        axes.set_xlabel("genes, sorted")
        axes.set_ylabel("percentile of own genes\n[share]")
        axes.legend()

    return draw(
        paint,
        title="Every gene by itself, test",
        caption=f"n = {len(rows)} genes; {run_dir.name}/genes.csv",
        alt=f"{n_found} of {len(rows)} genes are found at q below 0.05.",
    )


def _manhattan(run_dir: Path) -> Figure | None:
    """Return how sure each gene of a sweep is, in alphabetical order: tables hold no positions."""
    path = run_dir / "genes.csv"
    if not path.is_file():
        return None
    table = read_table(path, id_column="gene")
    rows = sorted(
        (name, -log10(max(p, _LEAST_P)), q < _Q)
        for name, p, q in zip(table.ids, _numbers(table, "p"), _numbers(table, "q"), strict=True)
        if p is not None and q is not None
    )
    if not rows:
        return None
    # What Benjamini and Hochberg's rule let pass lies above the surest gene that it did not.
    found = [height for _, height, is_found in rows if is_found]
    line = min(found) if found else None
    best = sorted(range(len(rows)), key=lambda i: -rows[i][1])[:_MAX_LABELS]

    def paint(axes: Axes, palette: Palette) -> None:
        for is_found, mark in ((True, "o"), (False, "x")):
            points = [(i + 1, row[1]) for i, row in enumerate(rows) if row[2] == is_found]
            if points:
                color = palette.series[0 if is_found else 1]
                label = f"{'q < 0.05' if is_found else 'q of 0.05 or more'}, {len(points)} genes"
                axes.plot(*zip(*points, strict=True), mark, color=color, markersize=4, label=label)
        if line is not None:
            label = "least sure of those with q < 0.05"
            axes.axhline(line, color=palette.text, linestyle=":", linewidth=1.0, label=label)
        for i in best:
            if rows[i][2]:
                at = (i + 1, rows[i][1])
                axes.annotate(
                    visible(rows[i][0]), at, xytext=(4, 3), textcoords="offset points", fontsize=7
                )
        axes.set_yscale("symlog", linthresh=2)
        # Room for the names of the surest.
        axes.set_ylim(0, 4 * max(height for _, height, _ in rows) + 1)
        plain_ticks(axes.yaxis)
        axes.set_xlabel("gene, in alphabetical order [rank]")
        axes.set_ylabel("-log10 of p\n[no unit]")
        axes.legend(fontsize=7)

    named = ", ".join(rows[i][0] for i in best if rows[i][2]) or "none"
    return draw(
        paint,
        title="Sweep over genes, test",
        caption=f"n = {len(rows)} genes, q by Benjamini-Hochberg; {run_dir.name}/genes.csv",
        alt=f"{len(found)} of {len(rows)} genes have q below 0.05; the surest: {named}.",
    )


def _retrieval(run_dir: Path) -> Figure | None:
    """Return the share of people whose own partner is among the first k, for every k."""
    run = collect_run(run_dir, with_curves=False)
    for evaluation in run.evaluations:
        table = evaluation.subjects
        sizes = [as_number(cell) for cell in table.column("n_candidates") or ()]
        ranks = {
            label: sorted(r for r in map(as_number, table.column(name) or ()) if r is not None)
            for name, label in _DIRECTIONS.items()
        }
        n = int(max((size for size in sizes if size), default=0))
        if n < 2 or not all(ranks.values()):
            continue
        more = (round(n * part / 60) for part in range(1, 61))
        steps = tuple(sorted({*range(1, min(n, 50) + 1), *more} - {0}))

        def paint(
            axes: Axes,
            palette: Palette,
            ranks: dict[str, list[float]] = ranks,
            steps: tuple[int, ...] = steps,
            evaluation: Evaluation = evaluation,
            n: int = n,
        ) -> None:
            for place, (label, own) in enumerate(ranks.items()):
                shares = [bisect_right(own, k) / len(own) for k in steps]
                style = LINE_STYLES[place]
                axes.plot(steps, shares, color=palette.series[place], linestyle=style, label=label)
            axes.plot(steps, [k / n for k in steps], ":", color=palette.text, label="chance")
            marks = zip(_MARKS, (b for b in evaluation.baselines if b != "chance"), strict=False)
            for place, (mark, name) in enumerate(marks, start=2):
                base = evaluation.baselines[name]
                points = [(k, base.get(f"r_at_{k}")) for k in (1, 5, 10)]
                known = [(k, value) for k, value in points if value is not None]
                if known:
                    color = palette.series[place % len(palette.series)]
                    label = visible(name)
                    axes.plot(*zip(*known, strict=True), mark, color=color, label=label)
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.set_ylim(0, 1.02)
            axes.set_xlabel("k, length of the list [candidates]")
            axes.set_ylabel("own partner among the first k\n[share of people]")
            axes.legend(fontsize=7)

        first = ranks[_DIRECTIONS["rank_to_gene"]]
        at_10 = bisect_right(first, 10) / len(first)
        return draw(
            paint,
            title=f"Retrieval among all people, {evaluation.part}",
            caption=f"people, n = {len(first)}; marks: other methods at k = 1, 5, 10; "
            f"{run.name}/{evaluation.subjects_source}, {evaluation.source}",
            alt=f"Of {n} candidates the own genes are among the first ten for {at_10:.3f} of "
            f"people; chance is {min(10, n) / n:.3f}.",
        )
    return None


def _ranks(run_dir: Path) -> Figure | None:
    run = collect_run(run_dir, with_curves=False)
    for evaluation in run.evaluations:
        cells = evaluation.subjects.column("percentile") or []
        values = [value for value in map(as_number, cells) if value is not None]
        if not values:
            continue
        mean = sum(values) / len(values)

        def paint(axes: Axes, palette: Palette, values: list[float] = values) -> None:
            axes.hist(values, bins=_N_BINS, range=(0, 1), color=palette.series[0])
            even = len(values) / _N_BINS
            axes.axhline(even, color=palette.text, linestyle=":", linewidth=1.0, label="chance")
            axes.set_xlabel("percentile of the own gene among all people [share]")
            axes.set_ylabel("people [count]")
            axes.legend()

        return draw(
            paint,
            title=f"Where own genes stand, {evaluation.part}",
            caption=f"people, n = {len(values)}; {run.name}/{evaluation.subjects_source}",
            alt=f"The mean percentile of own genes is {mean:.3f}; chance is 0.5.",
        )
    return None


def _attention(run_dir: Path) -> Figure | None:
    path, names_path = run_dir / "gene_attention.npy", run_dir / "gene_attention_genes.txt"
    if not (path.is_file() and names_path.is_file()):
        return None
    names = names_path.read_text(encoding="utf-8").splitlines()
    found = read_array(path)
    if found.ndim != 4 or found.shape[2:] != (len(names),) * 2 or not found.size:
        sizes = "x".join(map(str, found.shape))
        raise InputError(
            path,
            f"of shape {sizes} is no attention between {len(names)} genes",
            "align again with --force, or delete it",
        )
    weights = found.mean(axis=(0, 1))
    strongest = int(weights.sum(0).argmax())

    def paint(axes: Axes, palette: Palette) -> None:
        axes.grid(visible=False)
        axes.pcolormesh(weights, cmap="cividis", rasterized=True)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        if len(names) <= _MAX_NAMED:
            ticks = [place + 0.5 for place in range(len(names))]
            axes.set_xticks(ticks, [visible(name) for name in names], rotation=90, fontsize=6)
            axes.set_yticks(ticks, [visible(name) for name in names], fontsize=6)
        axes.set_xlabel("gene attended to")
        axes.set_ylabel("gene")

    return draw(
        paint,
        title="Attention between genes, mean over layers, heads and test people",
        caption=f"n = {len(names)} tokens, rows sum to 1; {run_dir.name}/{path.name}",
        alt=f"Most attention goes to {names[strongest]}.",
        inches=(4.4, 4.0),
    )
