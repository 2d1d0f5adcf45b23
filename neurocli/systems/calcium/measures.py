"""What the decoding figures are made of: one row per judged window, in blocks of time.

Blocks of two seconds are drawn with replacement, since neighbouring windows share frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.decoding import Decoded, is_right, r2_of
from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.samples import About

_BLOCK_S = 2.0
Columns = Mapping[str, npt.NDArray[Any]]
Found = dict[tuple[int, str], Decoded]


def primary_labels(found: Found, about: About) -> list[str]:
    """Return the one label that accuracy is told of: the first movie, else the first class."""
    told = [s.name for s in about.specs if any(name == s.name for _, name in found)]
    kinds = {spec.name: spec.kind for spec in about.specs}
    ranked = [n for n in told if kinds[n] == "movie"] + [n for n in told if kinds[n] == "class"]
    return ranked[:1]


def columns_of(found: Found, about: About) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return what each metric is made of, window by window."""
    columns: dict[str, dict[str, npt.NDArray[Any]]] = {}
    kinds: dict[str, LabelSpec] = {spec.name: spec for spec in about.specs}
    names = {"decode_accuracy": primary_labels(found, about)[:1], "decode_r2": [
        s.name for s in about.specs[: about.n_targets] if s.kind != "class"
        and any(name == s.name for _, name in found)][:1]}  # fmt: skip
    for metric, chosen in names.items():
        for name in chosen:
            own = {n: d for (n, label), d in found.items() if label == name}
            values = [d.hit if metric == "decode_accuracy" else d.wave for d in own.values()]
            kept = [v for v in values if v is not None]
            if len(kept) != len(own) or not kept:
                continue
            sizes = {n: block_frames(about.rates_hz[n], kinds[name]) for n in own}
            blocks = [[f"{n}/{c // sizes[n]:09d}" for c in d.centre] for n, d in own.items()]
            columns[metric] = {
                "value": np.concatenate(kept),
                "session": np.concatenate([np.full(len(d.centre), n) for n, d in own.items()]),
                "block": np.array([block for part in blocks for block in part]),
            }
    return columns


def block_frames(rate_hz: float, spec: LabelSpec) -> int:
    """Return the frames of a block, at least one."""
    # A presentation is one mean, so it is a block of its own.
    return 1 if spec.kind == "class" else max(1, round(_BLOCK_S * rate_hz))


def _by_session(columns: Columns) -> list[npt.NDArray[Any]]:
    return [columns["value"][columns["session"] == n] for n in np.unique(columns["session"])]


def _accuracy(columns: Columns) -> float:
    return float(np.mean([own.mean() for own in _by_session(columns)]))


def _r2(columns: Columns) -> float:
    return float(np.mean([r2_of(own) for own in _by_session(columns)]))


METRICS = {"decode_r2": _r2, "decode_accuracy": _accuracy}


def null_accuracies(
    found: Found, about: About, n: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return accuracy against labels that were turned in time, and against shuffled ones.

    Args:
        found: What was decoded.
        about: Sessions and labels.
        n: Draws.

    Returns:
        Control -> its mean, and control -> how many of its standard deviations the accuracy lies
        above that mean; means are over sessions.
    """
    specs = {spec.name: spec for spec in about.specs}
    name = next(iter(primary_labels(found, about)), None)
    judged = [own for (_, label), own in found.items() if label == name and own.hit is not None]
    if name is None or not judged:
        return {}, {}
    drawn: dict[str, list[list[float]]] = {"null_shift": [], "null_shuffle": []}
    for own in judged:
        rng = np.random.default_rng([30, len(own.target)])
        for draws in drawn.values():
            draws.append([])
        for _ in range(n):
            turn = int(rng.integers(1, max(2, len(own.target))))
            wrong = {
                "null_shift": np.roll(own.target, turn),
                "null_shuffle": rng.permutation(own.target),
            }
            for kind, target in wrong.items():
                right = is_right(specs[name], target, own.predicted)
                drawn[kind][-1].append(float(right.mean()))
    told = float(np.mean([own.hit.mean() for own in judged if own.hit is not None]))
    means, scores = {}, {}
    for kind, draws in drawn.items():
        by_draw = np.mean(draws, axis=0)
        means[kind] = {"decode_accuracy": float(by_draw.mean())}
        spread = float(by_draw.std(ddof=1)) if n > 1 else 0.0
        scores[kind] = (told - float(by_draw.mean())) / spread if spread > 0 else float("nan")
    return means, scores
