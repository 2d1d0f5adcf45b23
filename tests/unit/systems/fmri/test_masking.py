"""Hidden patches: how many, where, the same from the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neurocli.core.errors import UsageError
from neurocli.systems.fmri.masking import draw_mask, mask_grid

GRID, PATCH = (4, 4, 2, 6), (6, 6, 6, 2)


def mask_of(draw: int, kind: str, ratio: float = 0.6, mask_patch: tuple[int, ...] | None = None):  # type: ignore[no-untyped-def]
    counts, tokens = mask_grid(GRID, PATCH, mask_patch)
    return draw_mask(draw, counts, tokens, ratio=ratio, kind=kind).reshape(GRID)


def test_random_hides_the_share_rounded_up() -> None:
    # Expected: ceil(0.6 * 192) of 192 tokens; with mask patches of 12x12x6x4, ceil(0.6 * 24) of 24
    # blocks of 2x2x1x2 tokens.
    assert mask_of(1, "random").sum() == math.ceil(0.6 * 192)
    coarse = mask_of(1, "random", mask_patch=(12, 12, 6, 4))
    assert coarse.sum() == math.ceil(0.6 * 24) * 8
    blocks = coarse.reshape(2, 2, 2, 2, 2, 1, 3, 2)
    assert (blocks == blocks[:, :1, :, :1, :, :1, :, :1]).all()


def test_tubes_hide_places_and_temporal_masks_hide_the_end() -> None:
    tube = mask_of(2, "tube")
    assert (tube == tube[..., :1]).all()
    assert tube[..., 0].sum() == math.ceil(0.6 * 32)
    late = mask_of(2, "temporal")
    assert late.reshape(-1, 6).all(0).tolist() == [False, False, True, True, True, True]
    assert not late[..., :2].any()


@pytest.mark.parametrize("kind", ["random", "tube"])
def test_the_draw_decides(kind: str) -> None:
    assert np.array_equal(mask_of(5, kind), mask_of(5, kind))
    assert not np.array_equal(mask_of(5, kind), mask_of(6, kind))


@pytest.mark.parametrize(
    ("mask_patch", "axis"),
    [((9, 6, 6, 2), "H"), ((6, 18, 6, 2), "W"), ((6, 6, 6, 1), "T"), ((6, 6, 6, 8), "T")],
)
def test_a_mask_patch_that_does_not_fit_is_named(mask_patch: tuple[int, ...], axis: str) -> None:
    with pytest.raises(UsageError, match=f"along {axis} does not fit") as caught:
        mask_grid(GRID, PATCH, mask_patch)
    assert caught.value.where == "task.mask_patch_size"


def test_hiding_everything_is_refused() -> None:
    with pytest.raises(UsageError, match="hides all 6 mask patches"):
        mask_of(0, "temporal", ratio=0.9)
