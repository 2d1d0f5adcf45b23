"""A model over a volume by overlapping windows, to logits or straight to labels.

Labels are written plane by plane as soon as no further window can change them, so only the windows
of one row along the first axis are ever held. Letters: B volumes, C channels, K classes, D H W
space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.heap import kept_memory
from neurocli.core.infer.labels import label_into, labels_from_logits
from neurocli.core.infer.windows import (
    BLENDS,
    EXTENTS,
    Triple,
    Weights,
    WindowGrid,
    add_weighted,
    plan_grid,
    window_weights,
    zeros,
)

__all__ = [
    "BLENDS", "EXTENTS", "brain_box", "labels_from_logits", "sliding_window_labels",
    "sliding_window_logits",
]  # fmt: skip

Model = Callable[[Tensor], Any]
Models = Model | Sequence[Model]
_AXES = (2, 3, 4)
_STRIDE = 16
"""Voxels that the deepest layers of most networks join: boxes begin and end on multiples of it."""


def sliding_window_logits(
    volume: Tensor,
    model: Models,
    roi: Sequence[int],
    overlap: float = 0.1,
    blend: str = "gaussian",
    *,
    extent: str = "grid",
    mirror: bool = False,
    skip_empty: bool = True,
) -> Tensor:
    """Return the blended logits of volumes.

    Args:
        volume: (B, C, D, H, W).
        model: Takes (1, C, d, h, w), gives (1, K, d, h, w) or a list whose first is that; several
            models are averaged. They must be in evaluation mode.
        roi: Size of a window. Axes shorter than it are padded with zeros on both sides.
        overlap: Share of a window that the next one repeats.
        blend: constant; gaussian (sigma of an eighth, as MONAI cuts it off); or cosine.
        extent: grid covers all of the volume; brain only the box of its non-zero voxels, grown
            to multiples of 16; whole takes that box in one pass. The last two place windows
            elsewhere than grid does.
        mirror: Average over all eight mirrored copies of each window.
        skip_empty: Compute the windows that hold only zeros once; the result is the same.

    Returns:
        (B, K, D, H, W) float32; 0 outside the box that `extent` names.

    Raises:
        UsageError: The window, the overlap, the blend or the extent is no such thing.
        NeuroError: The model gives another size, or values that are not finite.
    """
    predict = _Predictor(_as_list(model), mirror, skip_empty)
    with kept_memory():
        found = [
            _place(_logits(cut, predict), cut)
            for cut in _cuts(volume, roi, overlap, blend, extent=extent)
        ]
        return _stacked(found)


def sliding_window_labels(
    volume: Tensor,
    model: Models,
    roi: Sequence[int],
    overlap: float = 0.1,
    blend: str = "gaussian",
    *,
    extent: str = "grid",
    mirror: bool = False,
    skip_empty: bool = True,
) -> Tensor:
    """Return the class of every voxel, never holding the logits of a volume.

    Equal to the largest class of `sliding_window_logits`; 0 outside the box that `extent` names.

    Args:
        volume: (B, C, D, H, W).
        model: As for `sliding_window_logits`, at most 256 classes.
        roi: Size of a window.
        overlap: Share of a window that the next one repeats.
        blend: constant, gaussian or cosine.
        extent: grid, brain or whole.
        mirror: Average over all eight mirrored copies of each window.
        skip_empty: Compute the windows that hold only zeros once.

    Returns:
        (B, D, H, W) uint8.

    Raises:
        UsageError: The window, the overlap, the blend or the extent is no such thing.
        NeuroError: The model gives another size, or values that are not finite.
    """
    predict = _Predictor(_as_list(model), mirror, skip_empty)
    with kept_memory():
        found = [
            _place(_labels(cut, predict)[None], cut)[0]
            for cut in _cuts(volume, roi, overlap, blend, extent=extent)
        ]
        return _stacked(found)


def _stacked(found: list[Tensor]) -> Tensor:
    # One volume is the usual case, and a copy of it would cost as much as all the blending.
    return found[0][None] if len(found) == 1 else torch.stack(found)


def brain_box(volume: Tensor) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds every non-zero voxel of any channel.

    Args:
        volume: (C, D, H, W).

    Returns:
        One slice per axis; the whole volume when everything is 0.
    """
    box = []
    for axis in range(1, 4):
        others = tuple(other for other in range(4) if other != axis)
        taken = torch.amax(volume != 0, dim=others).nonzero()
        full = slice(0, volume.shape[axis])
        box.append(slice(int(taken[0]), int(taken[-1]) + 1) if len(taken) else full)
    return box[0], box[1], box[2]


def _aligned(box: Sequence[slice], shape: Triple) -> tuple[slice, ...]:
    """Return a box grown to where strided layers would begin a voxel in the whole volume, too."""
    return tuple(
        slice(part.start // _STRIDE * _STRIDE, min(size, -(-part.stop // _STRIDE) * _STRIDE))
        for part, size in zip(box, shape, strict=True)
    )


def _all_of(shape: Triple) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)


@dataclass(frozen=True)
class _Cut:
    """Hold the part of a volume that is computed, and where it belongs.

    `patch` (C, d, h, w) is padded to at least a window; `inner` is the part of it that is real.
    """

    patch: Tensor
    grid: WindowGrid
    inner: tuple[slice, ...]
    box: tuple[slice, ...]
    shape: Triple


def _cuts(
    volume: Tensor, roi: Sequence[int], overlap: float, blend: str, *, extent: str
) -> Iterator[_Cut]:
    if volume.ndim != 5:
        raise UsageError(f"a volume has shape (B, C, D, H, W), not {tuple(volume.shape)}")
    if extent not in EXTENTS:
        raise UsageError(f"unknown extent '{extent}'", hint=f"choices: {', '.join(EXTENTS)}")
    for one in volume:
        shape = (one.shape[1], one.shape[2], one.shape[3])
        box = _aligned(brain_box(one), shape) if extent != "grid" else _all_of(shape)
        patch = one[(slice(None), *box)]
        size = tuple(patch.shape[1:]) if extent == "whole" else tuple(roi)
        lacks = [max(0, want - have) for want, have in zip(size, patch.shape[1:], strict=True)]
        before = [lack // 2 for lack in lacks]
        inner = tuple(
            slice(skip, skip + have) for skip, have in zip(before, patch.shape[1:], strict=True)
        )
        if any(lacks):
            pairs = [(skip, lack - skip) for skip, lack in zip(before, lacks, strict=True)]
            patch = functional.pad(patch, [*itertools.chain(*reversed(pairs))])
        yield _Cut(patch, plan_grid(patch.shape[1:], size, overlap, blend), inner, box, shape)


def _place(computed: Tensor, cut: _Cut) -> Tensor:
    """Return a volume (K, D, H, W) with what was computed where it belongs, 0 elsewhere."""
    inner = computed[(slice(None), *cut.inner)]
    if tuple(inner.shape[1:]) == cut.shape:
        return inner
    whole = torch.zeros((len(inner), *cut.shape), dtype=inner.dtype, device=inner.device)
    whole[(slice(None), *cut.box)] = inner
    return whole


def _logits(cut: _Cut, predict: _Predictor) -> Tensor:
    grid, patch = cut.grid, cut.patch
    if grid.n_windows == 1:
        return _only(predict(patch)).float()
    weights = Weights(grid, patch.device)
    total: Tensor | None = None
    for window in itertools.chain.from_iterable(grid.rows()):
        box = _box(window.start, grid.size)
        logits = predict(patch[box])
        if total is None:
            total = torch.zeros((len(logits), *grid.shape), device=patch.device)
        _require_finite(weights.add(total[box], logits, window))
        del logits
    assert total is not None  # a grid has at least one window
    return total


def _labels(cut: _Cut, predict: _Predictor) -> Tensor:
    grid, patch = cut.grid, cut.patch
    labels = torch.empty(grid.shape, dtype=torch.uint8, device=patch.device)
    if grid.n_windows == 1:
        label_into(labels, _only(predict(patch)))
        return labels
    # The shares of a voxel need not add up to 1: the largest class is the same.
    is_flat = grid.blend == "constant"
    weight = None if is_flat else window_weights(grid.size, grid.blend).to(patch.device)
    depth = grid.size[0]
    slab: Tensor | None = None
    for number, row in enumerate(grid.rows()):
        first = row[0].start[0]
        for window in row:
            logits = predict(patch[_box(window.start, grid.size)])
            if slab is None:
                slab = zeros((len(logits), depth, *grid.shape[1:]), patch.device)
            box = _box((0, *window.start[1:]), grid.size)
            _require_finite(add_weighted(slab[box], logits, weight))
            del logits
        assert slab is not None  # a row has at least one window
        starts = grid.starts[0]
        done = starts[number + 1] - first if number + 1 < len(starts) else depth
        label_into(labels[first : first + done], slab[:, :done])
        _shift(slab, done)
    return labels


def _only(logits: Tensor) -> Tensor:
    """Return the logits of the only window."""
    _require_finite(logits.sum(dtype=torch.float32))
    return logits


def _require_finite(total: Tensor) -> None:
    # A sum of everything is finite only when everything is.
    if not torch.isfinite(total):
        raise NeuroError(
            "the model gives values that are not finite",
            hint="look at the volume and the weights, or use train.precision=fp32",
        )


def _shift(slab: Tensor, done: int) -> None:
    """Move the planes that the next row also covers to the front, and clear the others."""
    kept = slab.shape[1] - done
    # Pieces no longer than the distance never overlap their target.
    for start in range(0, kept, done):
        stop = min(start + done, kept)
        slab[:, start:stop] = slab[:, start + done : stop + done]
    slab[:, kept:] = 0


def _box(start: Triple, size: Triple) -> tuple[slice, ...]:
    return (slice(None), *(slice(a, a + length) for a, length in zip(start, size, strict=True)))


class _Predictor:
    """Give the mean logits (K, d, h, w) of several models and mirrored copies."""

    def __init__(self, models: Sequence[Model], mirror: bool, skip_empty: bool) -> None:
        self._models = models
        self._skip_empty = skip_empty
        subsets = itertools.chain.from_iterable(
            itertools.combinations(_AXES, count) for count in range(len(_AXES) + 1)
        )
        self._flips = list(subsets) if mirror else [()]
        self._of_zeros: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, patch: Tensor) -> Tensor:
        shape = tuple(patch.shape)
        if not self._skip_empty or not _is_empty(patch):
            return self._run(patch[None])
        if shape not in self._of_zeros:
            self._of_zeros[shape] = self._run(patch[None])
        return self._of_zeros[shape]

    def _run(self, patch: Tensor) -> Tensor:
        total: Tensor | None = None
        count = len(self._models) * len(self._flips)
        for model, axes in itertools.product(self._models, self._flips):
            logits = _first(model(patch.flip(axes) if axes else patch), patch)
            logits = logits.flip(axes) if axes else logits
            if count == 1:
                return logits[0]  # each chunk of it is widened where it is added
            # What a model gives may be its input or a buffer of its own: add to a copy.
            total = logits.to(torch.float32, copy=True) if total is None else total.add_(logits)
        assert total is not None  # there is at least one model
        return total[0].div_(count)


def _is_empty(patch: Tensor) -> bool:
    # Brains fill the middle: one line of voxels tells most windows apart from empty ones.
    _, depth, height, _ = patch.shape
    return not bool(patch[:, depth // 2, height // 2].any()) and not bool(patch.any())


def _first(output: Any, patch: Tensor) -> Tensor:
    logits: Tensor = output[0] if isinstance(output, (list, tuple)) else output
    if logits.shape[2:] != patch.shape[2:] or len(logits) != len(patch):
        raise NeuroError(
            f"the model gives {tuple(logits.shape)} for an input of {tuple(patch.shape)}",
            hint="its output must have the size of its input",
        )
    return logits


def _as_list(models: Models) -> Sequence[Model]:
    chosen = [models] if callable(models) else list(models)
    if not chosen:
        raise UsageError("no model was given")
    return chosen
