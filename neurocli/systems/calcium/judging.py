"""From embedded segments to a judgement: loss, goodness of fit, decoding, agreement, controls.

Decoders are fitted on segments of the role "fit", set on "choose" and reported on "judge". While a
run trains there are only segments to judge, and decoding is left out. Intervals come from blocks
of two seconds that are drawn with replacement, since neighbouring windows share frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import Rows, Summary
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.systems.calcium.config import CalciumTaskBlock
from neurocli.systems.calcium.consistency import (
    by_value,
    consistency_interval,
    mean_of,
    pairwise,
)
from neurocli.systems.calcium.decoding import Decoded, Side, decode, r2_of
from neurocli.systems.calcium.fitness import attainable_bits, fixed_loss
from neurocli.systems.calcium.measures import (
    METRICS,
    Found,
    block_frames,
    columns_of,
    null_accuracies,
)
from neurocli.systems.calcium.samples import About
from neurocli.systems.calcium.sampling import LabelPairs, Points, Sampler, TimePairs

_RESAMPLES = 500
_MAX_DRAW = 512


class Judgement:
    """Judge rows of `EmbeddingTask.eval_step`.

    Args:
        rows: One per segment.
        objective: labels, time or hybrid.
        task: Offsets, temperature, distance.
        n_refs: References per session and draw of the fixed pairs, at most 512.
    """

    def __init__(self, rows: Rows, objective: str, task: CalciumTaskBlock, *, n_refs: int) -> None:
        unique = {(r["piece"].session, r["piece"].start, r["piece"].role): r for r in rows}
        self._rows = list(unique.values())
        self._objective, self._task = objective, task
        self._n_refs = min(n_refs, _MAX_DRAW)
        self._about: About = self._rows[0]["about"]
        self._scale = float(self._rows[0]["scale"])
        self._notes: list[str] = []

    def summary(self, *, is_baseline: bool = False) -> Summary:
        """Return the judgement.

        Args:
            is_baseline: Leave controls, embeddings and the table of segments out.
        """
        metrics, details = self._fit_metrics(with_null=not is_baseline)
        tables, block = self._tables()
        agreed = pairwise(tables)
        metrics["consistency"] = mean_of(agreed[0])
        found = self._decoded
        columns = columns_of(found, self._about)
        metrics |= {
            name: metric(columns[name]) for name, metric in METRICS.items() if name in columns
        }
        ci95: dict[str, tuple[float, float]] = {}
        for name in columns:
            ci95 |= bootstrap_ci(
                columns[name], {name: METRICS[name]}, participants=list(columns[name]["block"]),
                n=_RESAMPLES,
            )  # fmt: skip
        limits = consistency_interval(tables, block, _RESAMPLES)
        if limits is not None:
            ci95["consistency"] = limits
        for name in ("decode_r2", "decode_accuracy"):
            metrics.setdefault(name, float("nan"))
        if not math.isfinite(metrics["consistency"]):
            self._notes.append("consistency needs two sessions that saw one movie")
        details |= {
            "decoding": [self._line(key, own) for key, own in found.items()],
            "consistency_in_sample": mean_of(agreed[1]),
            "consistency_pairs": {"sessions": list(self._about.names), "r2": agreed[0].tolist()},
        }
        nulls: dict[str, dict[str, float]] = {}
        if not is_baseline:
            nulls, details["null_z"] = null_accuracies(found, self._about, self._task.n_nulls)
        judged = self._judged
        return Summary(
            metrics=metrics,
            ci95=ci95,
            baselines=nulls,
            per_subject=[] if is_baseline else self._session_lines(),
            n=sum(len(row["centre"]) for row in judged),
            unit="windows",
            details={} if is_baseline else details,
            notes=self._notes,
            arrays={} if is_baseline or not found_fit(self._rows) else self._arrays(),
        )

    def window_table(self) -> Rows:
        """Return one row per decoded window: session, label, time, target and prediction."""
        table: Rows = []
        for (number, name), own in self._decoded.items():
            time_s = self._times(number)
            for at, centre in enumerate(own.centre):
                table.append(
                    {
                        "session": self._about.names[number],
                        "label": name,
                        "frame": int(centre),
                        "seconds": time_s[int(centre)],
                        "target": _cell(own.target[at]),
                        "predicted": _cell(own.predicted[at]),
                    }
                )
        return table

    def _times(self, number: int) -> dict[int, float]:
        """Return frame -> time in seconds on the session's own clock."""
        own = [row for row in self._judged if row["piece"].session == number]
        return {
            int(c): float(t) for r in own for c, t in zip(r["centre"], r["time_s"], strict=True)
        }

    @cached_property
    def _judged(self) -> Rows:
        return [row for row in self._rows if "judge" in row["piece"].role]

    def _fit_metrics(self, *, with_null: bool) -> tuple[dict[str, float], dict[str, Any]]:
        metrics = {"infonce": float("nan"), "goodness_of_fit": float("nan")}
        details: dict[str, Any] = {}
        try:
            sampler, embedded = self._sampler()
        except NeuroError as error:
            self._notes.append(f"no fixed pairs in this part: {error.message}")
            return metrics, details
        if len({own.shape[1] for own in embedded}) > 1:
            return metrics, details  # frames of sessions with other neurons cannot be compared
        distance = self._task.distance
        n = min(self._n_refs, *(len(own) for own in embedded))
        loss, n_neg = fixed_loss(sampler, embedded, n, self._scale, distance)
        bits = (math.log(n_neg) - loss) / math.log(2)
        metrics = {"infonce": loss, "goodness_of_fit": bits}
        if distance == "cosine":
            cap = attainable_bits(embedded[0].shape[1], self._scale)
            details = {"attainable_bits": cap, "goodness_of_fit_share": bits / cap}
        if with_null:
            null, _ = fixed_loss(sampler, embedded, n, self._scale, distance, is_null=True)
            details["goodness_of_fit_null"] = (math.log(n_neg) - null) / math.log(2)
        return metrics, details

    def _sampler(self) -> tuple[Sampler, list[npt.NDArray[np.float32]]]:
        points, embedded = [], []
        for number in range(len(self._about.names)):
            own = [row for row in self._judged if row["piece"].session == number]
            if not own:
                raise NeuroError(f"session {self._about.names[number]} has no segment in it")
            segment = [np.full(len(r["centre"]), i, dtype=np.int64) for i, r in enumerate(own)]
            joined = {
                key: np.concatenate([r[key] for r in own])
                for key in ("centre", "key", "value", "embedding")
            }
            points.append(
                Points(joined["centre"], np.concatenate(segment), joined["key"], joined["value"])
            )
            embedded.append(joined["embedding"])
        if self._objective == "time":
            return TimePairs(points, self._task.time_offsets), embedded
        points = _shared_classes(points)
        return LabelPairs(points, self._task.time_offsets[0], self._task.delta), embedded

    def _side(self, number: int, role: str, name: str) -> Side | None:
        own = [r for r in self._rows if r["piece"].session == number and role in r["piece"].role]
        if not own:
            return None
        labels = np.concatenate([row["labels"][name] for row in own])
        on = (
            np.isfinite(labels.reshape(len(labels), -1)).all(1)
            if labels.dtype.kind == "f"
            else labels >= 0
        )
        if not on.any():
            return None
        segment = [np.full(len(r["centre"]), i, dtype=np.int64) for i, r in enumerate(own)]
        return Side(
            np.concatenate([row["embedding"] for row in own])[on],
            labels[on],
            np.concatenate(segment)[on],
            np.concatenate([row["centre"] for row in own])[on],
        )

    @cached_property
    def _decoded(self) -> Found:
        found: Found = {}
        for number in range(len(self._about.names)):
            for spec in self._about.specs:
                sides = {
                    role: self._side(number, role, spec.name) for role in ("fit", "choose", "judge")
                }
                fit, judge = sides["fit"], sides["judge"]
                if fit is not None and judge is not None:
                    rate = self._about.rates_hz[number]
                    found[number, spec.name] = decode(
                        spec, fit, sides["choose"], judge, rate_hz=rate
                    )
        return found

    def _tables(self) -> tuple[list[npt.NDArray[np.float32]], int]:
        """Return mean embeddings by movie frame of every session, and the frames of a block."""
        movie = next((s for s in self._about.specs if s.kind == "movie"), None)
        if movie is None:
            return [], 1
        sides = [self._side(n, "judge", movie.name) for n in range(len(self._about.names))]
        tables = [by_value(side.x, side.y.astype(np.int64), movie.period) for side in sides if side]
        return tables if len(tables) == len(sides) else [], block_frames(
            self._about.rates_hz[0], movie
        )

    def _line(self, key: tuple[int, str], own: Decoded) -> dict[str, Any]:
        number, name = key
        line: dict[str, Any] = {"session": self._about.names[number], "label": name}
        if own.hit is not None:
            line["accuracy"] = float(own.hit.mean())
        if own.wave is not None:
            line["r2"] = r2_of(own.wave)
        return {**line, **own.setting, "n": len(own.centre)}

    def _session_lines(self) -> Rows:
        """Return one row per session and part."""
        lines: Rows = []
        for name in dict.fromkeys(row["participant"] for row in self._judged):
            own = [row for row in self._judged if row["participant"] == name]
            line: dict[str, Any] = {
                "participant": name,
                "session": own[0]["subject"],
                "segments": len(own),
                "windows": sum(len(row["centre"]) for row in own),
            }
            for spec in self._about.specs:
                found = self._decoded.get((own[0]["piece"].session, spec.name))
                if found is not None and found.hit is not None:
                    line[f"accuracy_{spec.name}"] = float(found.hit.mean())
                if found is not None and found.wave is not None:
                    line[f"r2_{spec.name}"] = r2_of(found.wave)
            lines.append(line)
        return lines

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the embedding, time and labels of every session's judged windows."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for number, name in enumerate(self._about.names):
            own = [row for row in self._judged if row["piece"].session == number]
            if not own:
                continue
            arrays[f"{name}"] = np.concatenate([row["embedding"] for row in own])
            arrays[f"{name}.time_s"] = np.concatenate([row["time_s"] for row in own])
            for label in own[0]["labels"]:
                arrays[f"{name}.{label}"] = np.concatenate([row["labels"][label] for row in own])
        return arrays


def found_fit(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether rows hold segments that decoders may be fitted on."""
    return any("fit" in row["piece"].role for row in rows)


def _shared_classes(points: Sequence[Points]) -> list[Points]:
    """Return points with a class that not all sessions have, as a small part may, without it."""
    shared = set(points[0].key.tolist())
    for own in points[1:]:
        shared &= set(own.key.tolist())
    kept = np.array(sorted(shared - {-1}), dtype=np.int64)
    return [
        Points(p.centre, p.segment, np.where(np.isin(p.key, kept), p.key, -1), p.value)
        for p in points
    ]


def _cell(value: Any) -> Any:
    flat = np.asarray(value, dtype=np.float64).ravel()
    return float(flat[0]) if len(flat) == 1 else " ".join(f"{number:g}" for number in flat)
