"""Where windows lie and what they weigh: every voxel is covered, and its shares add up to one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from neurocli.core.errors import UsageError
from neurocli.core.infer.windows import (
    BLENDS,
    Weights,
    axis_weights,
    grid_starts,
    plan_grid,
    window_weights,
    zeros,
)

SIZES = [(5, 5), (6, 5), (17, 5), (240, 128), (155, 128), (31, 8), (9, 1)]
OVERLAPS = [0.0, 0.1, 0.25, 0.5, 0.9, 0.99]


@pytest.mark.parametrize(("length", "size"), SIZES)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_windows_cover_an_axis_and_stay_inside(length: int, size: int, overlap: float) -> None:
    starts = grid_starts(length, size, overlap)
    covered = np.zeros(length, dtype=int)
    for start in starts:
        assert 0 <= start <= length - size
        covered[start : start + size] += 1
    assert covered.min() >= 1
    assert starts == sorted(set(starts))
    assert starts[-1] == length - size


@pytest.mark.parametrize(("length", "size"), SIZES)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_starts_equal_monai(length: int, size: int, overlap: float) -> None:
    from monai.data.utils import dense_patch_slices

    # MONAI's step is the whole window where an axis is just as long, else at least one voxel.
    step = size if length == size else max(1, int(size * (1 - overlap)))
    theirs = [box[0].start for box in dense_patch_slices((length,), (size,), (step,))]
    assert grid_starts(length, size, overlap) == theirs


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_weights_are_positive_symmetric_and_largest_in_the_middle(blend: str, size: int) -> None:
    weights = axis_weights(size, blend)
    assert (weights > 0).all()
    torch.testing.assert_close(weights, weights.flip(0))
    middle = weights[: (size + 1) // 2]
    assert (middle.diff() >= 0).all()


def test_the_gaussian_equals_monai() -> None:
    from monai.data.utils import compute_importance_map

    for size in ((16, 16, 16), (8, 20, 12), (1, 4, 4)):
        theirs = compute_importance_map(size, mode="gaussian", sigma_scale=0.125)
        torch.testing.assert_close(window_weights(size, "gaussian"), theirs)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.75])
def test_shares_of_every_voxel_add_up_to_one(blend: str, overlap: float) -> None:
    grid = plan_grid((21, 16, 13), (8, 8, 8), overlap, blend)
    weights, total = Weights(grid, torch.device("cpu")), torch.zeros(21, 16, 13)
    seen = 0
    for window in itertools.chain.from_iterable(grid.rows()):
        box = tuple(slice(a, a + 8) for a in window.start)
        total[box] += weights.of(window)
        seen += 1
    assert seen == grid.n_windows
    torch.testing.assert_close(total, torch.ones(21, 16, 13))


def test_rows_share_their_place_along_the_first_axis() -> None:
    grid = plan_grid((20, 20, 20), (8, 8, 8), 0.5, "constant")
    rows = list(grid.rows())
    assert [len({window.start[0] for window in row}) for row in rows] == [1] * len(rows)
    firsts = [row[0].start[0] for row in rows]
    assert firsts == sorted(firsts)
    places = [window.place for row in rows for window in row]
    assert len(set(places)) == grid.n_windows


def test_zeros_are_zero_and_of_their_shape() -> None:
    found = zeros((3, 4, 5), torch.device("cpu"))
    assert found.shape == (3, 4, 5)
    assert found.dtype == torch.float32
    assert not found.any()
    found += 1  # the memory may be written


@pytest.mark.parametrize("size", [(0, 1, 1), (-4, 4, 4), (4, 4), (4, 4, 4, 4)])
def test_sizes_that_are_no_window(size: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="no window"):
        plan_grid((8, 8, 8), size, 0.1, "constant")


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0])
def test_overlaps_that_are_none(overlap: float) -> None:
    with pytest.raises(UsageError, match="outside"):
        plan_grid((8, 8, 8), (4, 4, 4), overlap, "constant")
