"""Decode labels from embeddings: nearest neighbours by cosine, templates, ridge regression.

Settings (number of neighbours, penalty, and for a movie over how long a stretch embeddings are
averaged and whether neighbours or templates tell the frame) are chosen on the validation part; the
judged part is used once. Letters: n fitted windows, m judged windows, D outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.labels import LabelSpec, trials_of
from neurocli.systems.calcium.templates import SHRINKAGE, WIDTHS_S, template_frames

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
NEIGHBOURS = (1, 3, 5, 11, 21, 41)
PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
SMOOTHING_S = (0.0, 1 / 3, 2 / 3, 1.0, 1.5)
_USUAL_K, _USUAL_PENALTY = 11, 1.0
_CHUNK = 1024


@dataclass(frozen=True)
class Side:
    """Hold windows of one role.

    Args:
        x: Embeddings (n, D).
        y: Label (n,) or (n, K).
        segment: Number of the segment of each.
        centre: Frame of each.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    segment: Int
    centre: Int


@dataclass(frozen=True)
class Decoded:
    """Hold what was decoded of one label of one session.

    Args:
        target: What was shown (m,) or (m, K).
        predicted: What was decoded, like it.
        hit: Whether right (m,); None for continuous labels.
        wave: Target and prediction (m, 2 P) of the regression; None for classes.
        centre: Frame of each.
        setting: What was chosen on the validation part.
    """

    target: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    hit: Float | None
    wave: Float | None
    centre: Int
    setting: dict[str, float]


def decode(
    spec: LabelSpec, fit: Side, choose: Side | None, judge: Side, *, rate_hz: float = 30.0
) -> Decoded:
    """Decode one label.

    Args:
        spec: The label.
        fit: Labelled windows of the training part.
        choose: Those of the validation part; None takes usual settings.
        judge: Those to decode.
        rate_hz: Windows per second.
    """
    if spec.kind == "number":
        return _number(fit, choose, judge)[1]
    if spec.kind == "movie":
        return _movie(spec, fit, choose, judge, rate_hz)
    fit, judge = _by_trial(fit), _by_trial(judge)
    choose = _by_trial(choose) if choose is not None else None
    k = _USUAL_K if choose is None else _best_k(spec, fit, choose)[0]
    found = neighbours(fit, judge.x, [k], spec)[k]
    hit = is_right(spec, judge.y, found).astype(np.float64)
    return Decoded(judge.y, found, hit, None, judge.centre, {"k": k})


def _movie(spec: LabelSpec, fit: Side, choose: Side | None, judge: Side, rate_hz: float) -> Decoded:
    """Decode frames and their phase from averaged embeddings, and tell of single ones."""
    tried = {
        s: _framed(spec, fit, choose, judge, rate_hz=rate_hz, seconds=s)
        for s in (SMOOTHING_S if choose is not None else (0.0,))
    }
    seconds = max(tried, key=lambda s: tried[s].score)
    best, alone = tried[seconds], tried[0.0]
    hit = is_right(spec, judge.y, best.frame).astype(np.float64)
    waves = {
        s: _number(*(_phased(spec, own, s * rate_hz) for own in (fit, choose, judge)))
        for s in tried
    }
    of_wave = min(waves, key=lambda s: waves[s][0])
    regressed, single = waves[of_wave][1], waves[0.0][1].wave
    setting = {
        **best.setting,
        "smoothing_s": seconds,
        "accuracy_single": float(is_right(spec, judge.y, alone.frame).mean()),
        "penalty": regressed.setting["penalty"],
        "r2_smoothing_s": of_wave,
        "r2_single": r2_of(cast(Float, single)),
    }
    return Decoded(judge.y, best.frame, hit, regressed.wave, judge.centre, setting)


def _phased(spec: LabelSpec, side: Any, width: float) -> Any:
    """Return averaged windows with the phase of the movie as label; None stays None."""
    if side is None:
        return None
    own = smoothed(side, width)
    return Side(own.x, phase(own.y, spec.period), own.segment, own.centre)


@dataclass(frozen=True)
class _Framed:
    """Hold decoded frames (m,), and how well the same decoder did on the validation part."""

    frame: Float
    score: tuple[float, float]
    setting: dict[str, float]


def _framed(
    spec: LabelSpec, fit: Side, choose: Side | None, judge: Side, *, rate_hz: float, seconds: float
) -> _Framed:
    """Decode frames by neighbours or by templates, whichever the validation part decodes better."""
    known, asked = smoothed(fit, seconds * rate_hz), smoothed(judge, seconds * rate_hz)
    if choose is None:
        frame = neighbours(known, asked.x, [_USUAL_K], spec)[_USUAL_K]
        return _Framed(frame, (0.0, 0.0), {"k": _USUAL_K})
    tried = smoothed(choose, seconds * rate_hz)
    k, score = _best_k(spec, known, tried)
    best = _Framed(neighbours(known, asked.x, [k], spec)[k], score, {"k": k})
    settings = [(width, share) for width in WIDTHS_S for share in SHRINKAGE]
    found = template_frames(
        (known.x, known.y),
        [tried.x, asked.x],
        spec.period,
        [(width * spec.tolerance, share) for width, share in settings],
    )
    for (width, share), (chosen, frame) in zip(settings, found, strict=True):
        score = _score(spec, choose.y, chosen)
        if score > best.score:
            best = _Framed(
                frame, score, {"template_width": width * spec.tolerance, "shrinkage": share}
            )
    return best


def smoothed(side: Side, width: float) -> Side:
    """Return windows averaged with their neighbours in time, never across a cut.

    Args:
        side: The windows, those of a segment in order.
        width: Windows of the average, made odd; at the ends of a stretch there are fewer.
    """
    half = int(width / 2)
    if half == 0:
        return side
    gap = (np.diff(side.segment) != 0) | (np.diff(side.centre) != 1)
    edges = np.concatenate([[0], np.flatnonzero(gap) + 1, [len(side.x)]])
    at = np.arange(len(side.x))
    stretch = np.searchsorted(edges, at, side="right") - 1
    low = np.maximum(at - half, edges[stretch])
    high = np.minimum(at + half + 1, edges[stretch + 1])
    total = np.concatenate([np.zeros((1, side.x.shape[1])), np.cumsum(side.x, 0, np.float64)])
    mean = (total[high] - total[low]) / (high - low)[:, None]
    return Side(mean.astype(np.float32), side.y, side.segment, side.centre)


def phase(frame: npt.NDArray[Any], period: int) -> Float:
    """Return cosine and sine (n, 2) of where in a movie of `period` frames each frame is."""
    angle = 2 * np.pi * np.asarray(frame, dtype=np.float64) / period
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def is_right(
    spec: LabelSpec, target: npt.NDArray[Any], found: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Return whether each decoded value is right: the class, or a frame within one second.

    Args:
        spec: The label; the movie is taken as a circle, as it is shown end to end.
        target: What was shown.
        found: What was decoded.
    """
    if spec.kind == "class":
        return np.asarray(target == found)
    return np.asarray(_apart(spec, target, found) <= spec.tolerance)


def _apart(spec: LabelSpec, target: npt.NDArray[Any], found: npt.NDArray[Any]) -> Float:
    """Return frames between what was shown and what was decoded, the shorter way round."""
    apart: Float = np.abs(np.asarray(target, dtype=np.float64) - found) % spec.period
    return np.minimum(apart, spec.period - apart)


def neighbours(
    fit: Side, x: npt.NDArray[np.float32], ks: list[int], spec: LabelSpec
) -> dict[int, npt.NDArray[np.float64]]:
    """Return what the k windows with the highest cosine say, for several k.

    Classes are voted for, the nearest winning a tie; frames of a movie are averaged on a circle.

    Args:
        fit: Labelled windows.
        x: Embeddings to decode (m, D).
        ks: Numbers of neighbours.
        spec: The label.
    """
    known, asked = _unit(fit.x), _unit(x)
    most = min(max(ks), len(known))
    found: dict[int, list[Float]] = {k: [] for k in ks}
    for start in range(0, len(asked), _CHUNK):
        cosine = asked[start : start + _CHUNK] @ known.T
        near = np.argpartition(-cosine, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(cosine, near, 1), axis=1, kind="stable")
        labels = fit.y[np.take_along_axis(near, order, 1)]
        for k in ks:
            found[k].append(_said(labels[:, : min(k, most)], spec))
    return {k: np.concatenate(parts) for k, parts in found.items()}


def _said(labels: npt.NDArray[Any], spec: LabelSpec) -> Float:
    if spec.kind == "movie":
        mean = np.exp(2j * np.pi * labels / spec.period).mean(1)
        turns: Float = np.angle(mean) / (2 * np.pi)
        frame: Float = np.round(turns * spec.period) % spec.period
        return frame
    is_class = labels[:, None] == np.arange(spec.period)[:, None]  # (m, classes, k)
    # Less than a whole vote, and the more the later a class first comes.
    lateness = is_class.argmax(2) / (labels.shape[1] + 1)
    voted: Float = (is_class.sum(2) - lateness).argmax(1).astype(np.float64)
    return voted


def _unit(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return found


def _best_k(spec: LabelSpec, fit: Side, choose: Side) -> tuple[int, tuple[float, float]]:
    """Return the best number of neighbours and its score: accuracy, then nearness."""
    said = neighbours(fit, choose.x, list(NEIGHBOURS), spec)
    scores = {k: _score(spec, choose.y, found) for k, found in said.items()}
    best = max(NEIGHBOURS, key=lambda k: (*scores[k], k))
    return best, scores[best]


def _score(spec: LabelSpec, target: npt.NDArray[Any], found: Float) -> tuple[float, float]:
    """Return accuracy, then nearness: a validation part may be decoded without error by several."""
    near = -float(_apart(spec, target, found).mean()) if spec.kind == "movie" else 0.0
    return float(is_right(spec, target, found).mean()), near


def _number(fit: Side, choose: Side | None, judge: Side) -> tuple[float, Decoded]:
    """Return the squared error of the validation part, and what was decoded of the judged one."""
    target, wanted = _wide(fit.y), _wide(judge.y)
    penalty, error = _USUAL_PENALTY, 0.0
    if choose is not None:
        errors = {
            p: float(np.square(ridge(fit.x, target, choose.x, p) - _wide(choose.y)).mean())
            for p in PENALTIES
        }
        penalty = min(errors, key=lambda p: errors[p])
        error = errors[penalty]
    found = ridge(fit.x, target, judge.x, penalty)
    wave = np.concatenate([wanted, found], axis=1)
    return error, Decoded(wanted, found, None, wave, judge.centre, {"penalty": penalty})


def ridge(
    x: npt.NDArray[np.float32], y: Float, asked: npt.NDArray[np.float32], penalty: float
) -> Float:
    """Return a penalised linear regression's prediction at `asked`, fitted to x and y.

    Columns of x are scaled to unit variance and centred, and the intercept is not penalised.

    Args:
        x: (n, D).
        y: (n, K).
        asked: (m, D).
        penalty: Of squared coefficients, in windows.
    """
    centre, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64) + 1e-12
    a, b = (x - centre) / spread, (asked - centre) / spread
    gram = a.T @ a + penalty * np.eye(a.shape[1])
    found: Float = b @ np.linalg.solve(gram, a.T @ (y - y.mean(0))) + y.mean(0)
    return found


def r2_of(wave: Float) -> float:
    """Return the share of variance that is explained, over all columns together.

    Args:
        wave: Targets, then predictions (m, 2 P).
    """
    half = wave.shape[1] // 2
    target, found = wave[:, :half], wave[:, half:]
    total = float(np.square(target - target.mean(0)).sum())
    return 1 - float(np.square(target - found).sum()) / total if total > 0 else float("nan")


def _wide(y: npt.NDArray[Any]) -> Float:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)


def _by_trial(side: Side) -> Side:
    """Return the mean embedding of every presentation."""
    trial = trials_of(side.y.astype(np.int64), side.segment)
    n = int(trial[-1]) + 1 if len(trial) else 0
    counts = np.maximum(np.bincount(trial, minlength=n), 1)
    total = np.zeros((n, side.x.shape[1]))
    np.add.at(total, trial, side.x)
    _, first = np.unique(trial, return_index=True)
    mean = (total / counts[:, None]).astype(np.float32)
    return Side(mean, side.y[first], side.segment[first], side.centre[first])
