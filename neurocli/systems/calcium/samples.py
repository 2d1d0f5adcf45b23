"""Samples of a run: draws of windows to train on, and segments to judge.

A training sample is a slot of a batch; the batch draws all its windows at once from a generator
that is a function of seed, epoch and slot, so references are independent draws and a resumed run
sees the same ones. A sample of a judged part is one segment, embedded window by window.

Letters: B references per session, L frames of a window, N neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.sampling import Pairs, Points, Sampler
from neurocli.systems.calcium.session import Session, centres_of

Int = npt.NDArray[np.int64]
_MAPPED_LIMIT = 128 << 20


@dataclass(frozen=True)
class Piece:
    """Name one segment to judge.

    Args:
        session: Number of the session.
        role: "fit" for decoders' training, "choose" for their settings, "judge", or several.
        part: Part that it belongs to.
        start: First frame.
        stop: Frame after the last.
    """

    session: int
    role: str
    part: str
    start: int
    stop: int


@dataclass(frozen=True)
class About:
    """Hold what judging must know of the data.

    Args:
        names: Names of the sessions.
        specs: Labels to decode; the first `n_targets` are those that positives come from.
        n_targets: How many.
        rates_hz: Frames per second of each session.
    """

    names: tuple[str, ...]
    specs: tuple[LabelSpec, ...]
    n_targets: int
    rates_hz: tuple[float, ...]


@dataclass(frozen=True)
class Recordings:
    """Hold the opened sessions of a run with what positives come from.

    Args:
        sessions: The sessions.
        keys: Class of every frame of each session (T,).
        values: Continuous label of every frame of each session (T, K).
        field: Frames before the centre of a window, and from the centre on.
        about: What judging must know.
    """

    sessions: Sequence[Session]
    keys: Sequence[Int]
    values: Sequence[npt.NDArray[np.float64]]
    field: tuple[int, int]
    about: About

    def points(self, session: int, part: str) -> Points:
        """Return the windows of a part of a session that cross no cut."""
        centre, segment = [], []
        for number, bounds in enumerate(self.sessions[session].segments[part]):
            own = centres_of(bounds[None], self.field)
            centre.append(own)
            segment.append(np.full(len(own), number, dtype=np.int64))
        at = np.concatenate(centre) if centre else np.zeros(0, dtype=np.int64)
        which = np.concatenate(segment) if segment else np.zeros(0, dtype=np.int64)
        return Points(at, which, self.keys[session][at], self.values[session][at])

    def pieces(self, part: str, role: str) -> list[Piece]:
        """Return the segments of a part that hold at least one window."""
        length = sum(self.field)
        return [
            Piece(number, role, part, int(start), int(stop))
            for number, session in enumerate(self.sessions)
            for start, stop in session.segments[part]
            if stop - start >= length
        ]


@dataclass
class SlotSet:
    """Draw training batches.

    Args:
        recordings: The sessions.
        samplers: Objective -> its sampler, over the training points of all sessions.
        n_slots: Slots of an epoch.
        seed: Of the draws.
        is_dense: Give every training frame once and draw places in it.
    """

    recordings: Recordings
    samplers: Mapping[str, Sampler]
    n_slots: int
    seed: int
    is_dense: bool = False
    _centres: list[Int] = field(init=False)
    _rows: dict[int, torch.Tensor] = field(init=False, default_factory=dict)
    _places: list[Int] = field(init=False, default_factory=list)
    _is_large: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        count = len(self.recordings.sessions)
        points = [self.recordings.points(number, "train") for number in range(count)]
        self._centres = [own.centre for own in points]
        # Random windows touch every page of a recording in time; many long ones must not stay.
        self._is_large = sum(s.mapped_bytes for s in self.recordings.sessions) > _MAPPED_LIMIT
        if self.is_dense:
            for number, own in enumerate(points):
                self._glue(number, own)

    def __len__(self) -> int:
        return self.n_slots

    @property
    def participants(self) -> list[str]:
        """Return one name per session and part."""
        return [f"{session.name}/train" for session in self.recordings.sessions]

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return a slot: nothing is drawn before the whole batch is known."""
        return {"slot": index, "epoch": epoch}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return one draw per objective: windows (3B, L, N) per session, or places in all rows."""
        return self.collate_share(samples, slice(0, len(samples)))

    def collate_share(self, samples: Sequence[dict[str, Any]], own: slice) -> dict[str, Any]:
        """Return one process's share of a draw that is the same for all.

        Args:
            samples: All slots of the batch.
            own: Places of the references, positives and negatives that are wanted.
        """
        first = samples[0]
        rng = np.random.default_rng([self.seed, first["epoch"], first["slot"]])
        draws = {name: sampler.draw(rng, len(samples)) for name, sampler in self.samplers.items()}
        taken = {name: self._taken(draw, own) for name, draw in draws.items()}
        batch: dict[str, Any] = {"draws": taken}
        if self.is_dense:
            batch["rows"] = self._rows
        return batch

    def _taken(self, draw: Pairs, own: slice) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        left, right = self.recordings.field
        for number, (ref, pos, neg) in enumerate(zip(draw.ref, draw.pos, draw.neg, strict=True)):
            chosen = np.concatenate([ref[own], pos[own], neg[own]])
            if self.is_dense:
                taken[str(number)] = torch.from_numpy(self._places[number][chosen])
                continue
            # The encoder wants frames first in memory.
            frames = self._centres[number][chosen] + np.arange(-left, right)[:, None]
            session = self.recordings.sessions[number]
            taken[str(number)] = torch.from_numpy(session.rows(frames)).transpose(0, 1)
            if self._is_large:
                session.release()
        if draw.align is None:
            return {"taken": taken, "align": None}
        align = draw.align.reshape(len(draw.ref), -1)[:, own]
        return {"taken": taken, "align": torch.from_numpy(align.ravel())}

    def _glue(self, number: int, points: Points) -> None:
        """Lay the training segments end to end; places across their seams are never drawn."""
        left, _ = self.recordings.field
        session = self.recordings.sessions[number]
        pieces = [p for p in self.recordings.pieces("train", "fit") if p.session == number]
        rows = [session.rows(slice(piece.start, piece.stop)) for piece in pieces]
        self._rows[number] = torch.from_numpy(np.concatenate(rows))
        lengths = np.array([piece.stop - piece.start for piece in pieces])
        offsets = np.cumsum(lengths) - lengths
        starts = np.array([piece.start for piece in pieces])
        which = np.searchsorted(starts, points.centre, side="right") - 1
        self._places.append(offsets[which] + points.centre - left - starts[which])


@dataclass(frozen=True)
class PieceSet:
    """Give segments to judge.

    Args:
        recordings: The sessions.
        pieces: The segments.
    """

    recordings: Recordings
    pieces: Sequence[Piece]

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def participants(self) -> list[str]:
        """Return one name per session and part that is judged."""
        names = self.recordings.about.names
        judged = [p for p in self.pieces if "judge" in p.role]
        return list(dict.fromkeys(f"{names[p.session]}/{p.part}" for p in judged))

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return the traces and the labels of a segment."""
        del epoch
        piece = self.pieces[index]
        session = self.recordings.sessions[piece.session]
        left, right = self.recordings.field
        centre = np.arange(piece.start + left, piece.stop - right + 1)
        labels = {s.name: session.labels[s.name][centre] for s in self.recordings.about.specs}
        repeats = {n: v[centre] for n, v in session.labels.items() if n.endswith("_repeat")}
        return {
            "piece": piece,
            "rows": torch.from_numpy(session.rows(slice(piece.start, piece.stop))),
            "centre": centre,
            "time_s": session.start_s + centre / session.rate_hz,
            "labels": {**labels, **repeats},
            "key": self.recordings.keys[piece.session][centre],
            "value": self.recordings.values[piece.session][centre],
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the samples as they are, since segments differ in length."""
        names = self.recordings.about.names
        pieces = [sample["piece"] for sample in samples]
        return {
            "samples": list(samples),
            "about": self.recordings.about,
            "rows": {number: sample["rows"] for number, sample in enumerate(samples)},
            "participant": [f"{names[p.session]}/{p.part}" for p in pieces],
            "subject": [names[p.session] for p in pieces],
            "start": [p.start for p in pieces],
        }
