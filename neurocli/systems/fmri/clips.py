"""Clips: windows of a run as a model takes them, (1, H, W, D, T) with a brain mask (H, W, D).

A clip is read packed (in-mask voxels only), scaled, and scattered into a grid that is padded on
the far side of each axis to what the model needs. Voxels outside the mask hold the background
value of the scaling. The mask travels with the clip, so that no model has to guess it from values.

A patch store that was cut as the model cuts gives ready patches instead, (K, F) and one patch of
background behind them, with a mask (N,) of the tokens that they are: no grid is ever built.

Shape letters: T frames, V voxels in the mask, H W D the padded grid, B clips, N tokens of the
grid, K kept ones, F voxels of one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from neurocli.core.data.buffers import Buffers
from neurocli.core.data.scaling import background_value, scale
from neurocli.core.data.windows import window_frames
from neurocli.systems.fmri.store import RunStore, open_store
from neurocli.systems.fmri.store_patch import PatchStore, place_patches

_OPEN_FILES = 32  # well under the usual limit of 1024 open files, also with several readers


@dataclass(frozen=True)
class Run:
    """Name one stored run: its id, its person, its file, and which of joined datasets it is of."""

    subject: str
    participant: str
    path: Path
    dataset: str | None = None


@dataclass(frozen=True)
class ClipPlan:
    """Say how every clip of a dataset is made.

    Args:
        grid: H, W, D of the model's input, voxels.
        length: T, frames.
        stride_within: Frames from one to the next.
        scaling: Applied while reading; none leaves the values as stored.
        stored_scaling: Already applied in the files.
        patch: pH, pW, pD, pT of a model that takes the files' own patches; None for whole clips.
    """

    grid: tuple[int, int, int]
    length: int
    stride_within: int
    scaling: str
    stored_scaling: str
    patch: tuple[int, int, int, int] | None = None


def window_name(subject: str, start: int) -> str:
    """Return the name of one window of a run.

    >>> window_name("sub-01_run-2", 40)
    'sub-01_run-2@40'
    """
    return f"{subject}@{start}"


def draw_of(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one sample in one epoch, the same on any machine.

    >>> draw_of(0, 1, 2) == draw_of(0, 1, 2) != draw_of(0, 2, 1)
    True
    """
    digest = hashlib.sha256(f"{seed} {epoch} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # fits a signed word


class ClipReader:
    """Read clips of many runs through a small cache of open files."""

    def __init__(self, runs: Sequence[Run], plan: ClipPlan) -> None:
        self.runs = tuple(runs)
        self.plan = plan
        self.buffers = Buffers()
        self._open: OrderedDict[int, RunStore] = OrderedDict()

    def read(self, run: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one clip.

        Args:
            run: Index into `runs`.
            start: First frame.

        Returns:
            The clip (1, H, W, D, T) float32 and its brain mask (H, W, D) bool; or, where the plan
            has a patch, its patches and one of background (K + 1, F) as stored, float16 or
            float32, and the mask of their tokens (N,) bool.

        Raises:
            InputError: The file is damaged or holds non-finite values there.
        """
        store = self._store(run)
        plan = self.plan
        if plan.patch is not None:
            return _patches(cast(PatchStore, store), plan, start, self.buffers)
        as_stored = plan.scaling == "none"
        values_TV = store.read_packed(window_frames(start, plan.length, plan.stride_within))
        scaled_TV = values_TV if as_stored else self._scaled(store, values_TV)
        clip = self.buffers.take((*plan.grid, plan.length), np.float32)
        clip.fill(self.outside(run))
        brain = self.brain(run)
        clip[brain] = scaled_TV.T
        return clip[None], brain

    def blocks(self, run: int, frames: slice, size: int) -> Iterator[np.ndarray]:
        """Yield consecutive frames of a run as models see them, without the voxels outside.

        Args:
            run: Index into `runs`.
            frames: Which.
            size: Frames at once.

        Yields:
            (t, V) float32, t <= size.

        Raises:
            InputError: The file is damaged or holds non-finite values there.
        """
        store = self._store(run)
        for first in range(frames.start, frames.stop, size):
            values_TV = store.read_packed(slice(first, min(first + size, frames.stop)))
            yield values_TV if self.plan.scaling == "none" else self._scaled(store, values_TV)

    def brain(self, run: int) -> np.ndarray:
        """Return the mask of a run on the grid of clips, (H, W, D) bool.

        Raises:
            InputError: The file is damaged.
        """
        mask = self._store(run).mask
        brain = np.zeros(self.plan.grid, dtype=bool)
        brain[tuple(slice(0, size) for size in mask.shape)] = mask
        return brain

    def outside(self, run: int) -> float:
        """Return what voxels outside the mask hold in clips of a run.

        Raises:
            InputError: The file is damaged.
        """
        store = self._store(run)
        if self.plan.scaling == "none":
            return store.background
        return background_value(self.plan.scaling, store.stats)

    def space(self, run: int) -> tuple[tuple[int, ...], np.ndarray]:
        """Return a run's own grid: its shape (X, Y, Z) and its affine (4, 4) to millimetres.

        Raises:
            InputError: The file is damaged.
        """
        store = self._store(run)
        return tuple(store.shape[:3]), store.affine

    def partners(self, run: int, start: int) -> list[int]:
        """Return first frames of clips of the same run that share no time with one.

        Args:
            run: Index into `runs`.
            start: First frame of that clip.

        Raises:
            InputError: The file is damaged.
        """
        plan = self.plan
        duration = plan.length * plan.stride_within
        last = self._store(run).n_frames - duration
        return [s for s in range(last + 1) if abs(s - start) >= duration]

    def _scaled(self, store: RunStore, values_TV: np.ndarray) -> np.ndarray:
        per_voxel = self.plan.scaling in ("voxel-z", "psc")
        return scale(
            values_TV,
            self.plan.scaling,
            stats=store.stats,
            voxel_mean_V=store.voxel_mean_V if per_voxel else None,
            voxel_std_V=store.voxel_std_V if per_voxel else None,
        )

    def _store(self, run: int) -> RunStore:
        if run in self._open:
            self._open.move_to_end(run)
            return self._open[run]
        store = open_store(self.runs[run].path)
        self._open[run] = store
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return store


def _patches(
    store: PatchStore, plan: ClipPlan, start: int, buffers: Buffers
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kept patches of a window (K + 1, F), the last one background, and (N,) bool."""
    height, width, depth, frames = cast(tuple[int, int, int, int], plan.patch)
    wanted = range(store.n_frames)[window_frames(start, plan.length, plan.stride_within)]
    n_times, n_places, n_voxels = plan.length // frames, store.cut.n_patches, store.cut.n_voxels
    out = buffers.take((n_places * n_times + 1, n_voxels * frames), store.dtype)
    # Files are frame by frame, tokens place by place, and time runs fastest inside a token too. A
    # few frames at a time stay in the processor's cache on their way.
    placed = out[:-1].reshape(n_places, n_times, n_voxels, frames)
    step = max(1, store.at_once // frames)
    for first in range(0, n_times, step):
        part = wanted[first * frames : (first + step) * frames]
        stored = store.read_patches(slice(part.start, part.stop, part.step))
        if frames == 1:
            place_patches(stored, placed[:, first : first + len(stored), :, 0])
            continue
        by_time = stored.reshape(-1, frames, n_places, n_voxels)
        for time, offset in product(range(len(by_time)), range(frames)):
            placed[:, first + time, :, offset] = by_time[time, offset]
    out[-1] = store.background
    grid = tuple(
        length // side for length, side in zip(plan.grid, (height, width, depth), strict=True)
    )
    return out, store.cut.tokens(grid, n_times)


def _together(arrays: Sequence[np.ndarray], buffers: Buffers) -> torch.Tensor:
    """Return clips as a batch; ready patches (K + 1, F) that are fewer get more background."""
    if len(arrays) == 1:
        return torch.from_numpy(arrays[0])[None]
    longest = max(map(len, arrays))
    shape = (len(arrays), longest, *arrays[0].shape[1:])
    batch = buffers.take(shape, np.result_type(*arrays))
    for row, own in zip(batch, arrays, strict=True):
        row[: len(own)] = own
        row[len(own) :] = own[-1]
    return torch.from_numpy(batch)


class ClipSet:
    """Hold the clips of one part.

    Args:
        reader: Reads clips.
        clips: (run index, first frame) of each clip.
        targets: Unit -> label or number; None when nothing is supervised.
        by_window: Judge every window by itself, as labelled windows are; else outputs are averaged
            over a participant.
        pairs: Give each clip a second one of its run, drawn anew every epoch from the times
            outside the first.
        seed: Of whatever is drawn.
    """

    def __init__(
        self,
        reader: ClipReader,
        clips: Sequence[tuple[int, int]],
        targets: Mapping[str, float] | None = None,
        *,
        by_window: bool = False,
        pairs: bool = False,
        seed: int = 0,
    ) -> None:
        self.reader, self.by_window, self.pairs, self.seed = reader, by_window, pairs, seed
        self.clips = tuple(clips)
        self.targets = targets

    def __len__(self) -> int:
        """Return how many clips there are."""
        return len(self.clips)

    def dataset(self, index: int) -> str | None:
        """Return which of joined datasets a clip is of."""
        return self.reader.runs[self.clips[index][0]].dataset

    @property
    def participants(self) -> list[str]:
        """Return the participants, each once, in the order of their clips."""
        return list(dict.fromkeys(self.reader.runs[run].participant for run, _ in self.clips))

    @property
    def units(self) -> list[str]:
        """Return what is judged, each once, in the order of the clips."""
        return list(dict.fromkeys(self.unit(index) for index in range(len(self))))

    def unit(self, index: int) -> str:
        """Return the name of what a clip's outputs are averaged over: its window or person."""
        run, start = self.clips[index]
        entry = self.reader.runs[run]
        return window_name(entry.subject, start) if self.by_window else entry.participant

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return one clip with its names, and `draw`, the seed of whatever is random about it.

        Raises:
            InputError: The file is damaged.
        """
        run, start = self.clips[index]
        clip, brain = self.reader.read(run, start)
        entry = self.reader.runs[run]
        draw = draw_of(self.seed, epoch, index)
        sample = {
            "clip": clip,
            "brain": brain,
            "subject": entry.subject,
            "participant": entry.participant,
            "unit": self.unit(index),
            "start": start,
            "draw": draw,
            "target": self.targets[self.unit(index)] if self.targets is not None else None,
        }
        if self.pairs:
            starts = self.reader.partners(run, start)
            sample["pair"] = self.reader.read(run, starts[draw % len(starts)])[0]
        return sample

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch: `clip` (B, 1, H, W, D, T) float32, `brain` (B, H, W, D) bool, names.

        Ready patches come as `clip` (B, K + 1, F) with `brain` (B, N).
        """
        batch: dict[str, Any] = {
            "clip": _together([sample["clip"] for sample in samples], self.reader.buffers),
            "brain": torch.from_numpy(np.stack([sample["brain"] for sample in samples])),
        }
        for key in ("subject", "participant", "unit", "start", "draw"):
            batch[key] = [sample[key] for sample in samples]
        if self.pairs:
            pairs = [sample["pair"] for sample in samples]
            batch["pair"] = _together(pairs, self.reader.buffers)
        if self.targets is not None:
            batch["target"] = torch.tensor([sample["target"] for sample in samples])
        return batch
