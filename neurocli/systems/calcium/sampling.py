"""Which windows are compared: exact laws of references, positives and negatives.

References and negatives are uniform over the points. A positive is either a fixed step later in
the same segment (`TimePairs`), or has a label like the reference's (`LabelPairs`): the same class,
and a continuous value next to the reference's value plus a step that the labels make themselves.
Among equal labels the choice is uniform. Everything is a function of the generator that is given.

Letters: n points, B references, S sessions, K columns of a continuous label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import NeuroError

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Hold what sampling must know of the windows of one session.

    Args:
        centre: Frame of each (n,), ascending within a segment.
        segment: Number of its segment (n,).
        key: Class (n,), -1 without a label.
        value: Continuous label (n, K).
    """

    centre: Int
    segment: Int
    key: Int
    value: Float


@dataclass(frozen=True)
class Pairs:
    """Hold one draw: indices of points per session.

    Args:
        ref: References, (B,) per session.
        pos: Positives, (B,) per session.
        neg: Negatives, (B,) per session.
        align: (S B,) place among all positives of the positive of each reference; None when they
            stand in the references' own order.
    """

    ref: list[Int]
    pos: list[Int]
    neg: list[Int]
    align: Int | None = None


class Sampler(Protocol):
    """Draw pairs."""

    def draw(self, rng: np.random.Generator, n: int) -> Pairs:
        """Return pairs with `n` references of every session."""
        ...


class TimePairs:
    """Pair each window with one a fixed number of frames later in the same segment.

    Args:
        sessions: Points per session.
        offsets: Steps in frames; one of them is drawn for each pair.

    Raises:
        NeuroError: A session has no such pair.
    """

    def __init__(self, sessions: Sequence[Points], offsets: Sequence[int]) -> None:
        self._sizes = [len(points.centre) for points in sessions]
        self._offsets = np.array(offsets, dtype=np.int64)
        self._starts: list[list[Int]] = []
        for number, points in enumerate(sessions):
            valid = [_with_partner(points, offset) for offset in offsets]
            if not all(len(own) for own in valid):
                raise NeuroError(
                    f"session {number + 1} has no windows {max(offsets)} frames apart in a segment",
                    hint="lower task.time_offsets, or take a shorter receptive field",
                )
            self._starts.append(valid)

    def draw(self, rng: np.random.Generator, n: int) -> Pairs:
        """Return `n` pairs of every session.

        Args:
            rng: Decides everything.
            n: References per session.
        """
        refs, poss, negs = [], [], []
        for size, valid in zip(self._sizes, self._starts, strict=True):
            if len(valid) == 1:
                ref = valid[0][rng.integers(0, len(valid[0]), n)]
                step = np.full(n, self._offsets[0])
            else:
                which = rng.integers(0, len(valid), n)
                step = self._offsets[which]
                lengths = np.array([len(own) for own in valid])
                place = (rng.random(n) * lengths[which]).astype(np.int64)
                ref = np.concatenate(valid)[(np.cumsum(lengths) - lengths)[which] + place]
            refs.append(ref)
            # Points of a segment are consecutive frames, so a step in frames is one in points.
            poss.append(ref + step)
            negs.append(rng.integers(0, size, n))
        return Pairs(refs, poss, negs)


def _with_partner(points: Points, offset: int) -> Int:
    n = len(points.centre)
    if offset >= n:
        return np.zeros(0, dtype=np.int64)
    same = points.segment[offset:] == points.segment[: n - offset]
    return np.flatnonzero(same).astype(np.int64)


class LabelPairs:
    """Pair each window with one of a like label, in any session.

    Args:
        sessions: Points per session; those with key -1 are never drawn.
        offset: Frames over which the labels' own steps are taken.
        delta: Spread of a Gaussian step instead; None takes the labels' own.

    Raises:
        NeuroError: A session has no labelled point, or lacks a class that another one has.
    """

    def __init__(self, sessions: Sequence[Points], offset: int, delta: float | None = None) -> None:
        if any(not (points.key >= 0).any() for points in sessions):
            raise NeuroError("a session has no labelled window", where="task.target")
        self._labelled = [np.flatnonzero(points.key >= 0).astype(np.int64) for points in sessions]
        self._points, self._delta = sessions, delta
        self._nodes = [
            _Nodes(points, own) for points, own in zip(sessions, self._labelled, strict=True)
        ]
        n_classes = 1 + max(int(points.key.max()) for points in sessions)
        present = [np.isin(np.arange(n_classes), points.key) for points in sessions]
        if any((own != present[0]).any() for own in present):
            raise NeuroError(
                "sessions do not share the same labels, so a positive cannot be found in each",
                where="task.target",
                hint="name labels that all sessions have, or train with data.mode=first-only",
            )
        moving = np.zeros(n_classes, dtype=bool)
        for nodes in self._nodes:
            moving[nodes.moving_classes()] = True
        self._moving = np.flatnonzero(moving)
        self._steps = {int(c): _steps_of(sessions, int(c), offset) for c in self._moving}

    def draw(self, rng: np.random.Generator, n: int) -> Pairs:
        """Return `n` pairs of every session, positives spread evenly over all sessions.

        Args:
            rng: Decides everything.
            n: References per session.
        """
        count = len(self._labelled)
        ref = [own[rng.integers(0, len(own), n)] for own in self._labelled]
        neg = [own[rng.integers(0, len(own), n)] for own in self._labelled]
        key = np.concatenate([p.key[i] for p, i in zip(self._points, ref, strict=True)])
        query = np.concatenate([p.value[i] for p, i in zip(self._points, ref, strict=True)])
        for c in self._moving:
            chosen = np.flatnonzero(key == c)
            if len(chosen):
                query[chosen] += self._step(rng, int(c), len(chosen), query.shape[1])
        order = rng.permutation(count * n) if count > 1 else np.arange(n)
        pos = [
            nodes.near(rng, key[own], query[own], self._moving)
            for nodes, own in zip(self._nodes, order.reshape(count, n), strict=True)
        ]
        if count == 1:
            return Pairs(ref, pos, neg)
        align = np.empty(count * n, dtype=np.int64)
        align[order] = np.arange(count * n)
        return Pairs(ref, pos, neg, align)

    def _step(self, rng: np.random.Generator, key: int, n: int, width: int) -> Float:
        if self._delta is not None:
            return rng.normal(0, self._delta, (n, width))
        steps = self._steps[key]
        return steps[rng.integers(0, len(steps), n)]


def _steps_of(sessions: Sequence[Points], key: int, offset: int) -> Float:
    found = []
    for points in sessions:
        later = _with_partner(points, offset) + offset
        later = later[(points.key[later] == key) & (points.key[later - offset] == key)]
        found.append(points.value[later] - points.value[later - offset])
    steps = np.concatenate(found)
    return steps if len(steps) else np.zeros((1, sessions[0].value.shape[1]))


class _Nodes:
    """Find points by label: every distinct (class, value) is a node that lists its points."""

    def __init__(self, points: Points, labelled: Int) -> None:
        table = np.column_stack([points.key[labelled], points.value[labelled]])
        nodes, node_of = np.unique(table, axis=0, return_inverse=True)
        node_of = node_of.reshape(-1)
        self._members = labelled[np.argsort(node_of, kind="stable")]
        self._count = np.bincount(node_of, minlength=len(nodes))
        self._first = np.cumsum(self._count) - self._count
        keys = nodes[:, 0].astype(np.int64)
        edges = np.searchsorted(keys, np.arange(keys.max() + 2))
        self._start, self._stop = edges[:-1], edges[1:]
        self._values = nodes[:, 1:]
        self._trees: dict[int, Any] = {}

    def moving_classes(self) -> Int:
        """Return the classes with more than one value."""
        found: Int = np.flatnonzero(self._stop - self._start > 1)
        return found

    def near(self, rng: np.random.Generator, key: Int, query: Float, moving: Int) -> Int:
        """Return a random point of the node nearest to each query within its class."""
        node = self._start[key]
        for c in moving:
            chosen = np.flatnonzero(key == c)
            if len(chosen) and self._stop[c] - self._start[c] > 1:
                node[chosen] = self._start[c] + self._nearest(rng, int(c), query[chosen])
        place = (rng.random(len(node)) * self._count[node]).astype(np.int64)
        found: Int = self._members[self._first[node] + place]
        return found

    def _nearest(self, rng: np.random.Generator, key: int, query: Float) -> Int:
        values = self._values[self._start[key] : self._stop[key]]
        if values.shape[1] == 1:
            column = values[:, 0]
            right = np.clip(np.searchsorted(column, query[:, 0]), 1, len(column) - 1)
            low, high = query[:, 0] - column[right - 1], column[right] - query[:, 0]
            take_left = (low < high) | ((low == high) & (rng.random(len(low)) < 0.5))
            left: Int = right - take_left
            return left
        if key not in self._trees:
            from scipy.spatial import cKDTree

            self._trees[key] = cKDTree(values)
        distance, near = self._trees[key].query(query, k=2)
        is_tie = (distance[:, 0] == distance[:, 1]) & (rng.random(len(query)) < 0.5)
        found: Int = np.where(is_tie, near[:, 1], near[:, 0]).astype(np.int64)
        return found
