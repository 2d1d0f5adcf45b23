"""Patches: order, inverse, masks, and errors that name the axis."""

from __future__ import annotations

import itertools

import pytest
import torch

from neurocli.core.errors import UsageError
from neurocli.systems.fmri.models.patches import (
    brain_tokens,
    check_clip,
    foreground_tokens,
    kept_index,
    patchify,
    token_grid,
    unpatchify,
)


def test_token_and_voxel_order() -> None:
    # Expected: plain loops over the raster, t fastest, and over voxels, channel fastest.
    x = torch.arange(2.0 * 3 * 4 * 6 * 2 * 4).view(2, 3, 4, 6, 2, 4)
    patch = (2, 3, 1, 2)
    got = patchify(x, patch)
    n = 0
    for h, w, d, t in itertools.product(range(0, 4, 2), range(0, 6, 3), range(2), range(0, 4, 2)):
        voxels = [
            x[1, c, h + i, w + j, d + k, t + m]
            for i, j, k, m in itertools.product(range(2), range(3), range(1), range(2))
            for c in range(3)
        ]
        assert got[1, n].tolist() == voxels
        n += 1
    assert got.shape == (2, n, 36)


@pytest.mark.parametrize("patch", [(1, 1, 1, 1), (2, 3, 1, 2), (4, 6, 2, 4)])
def test_unpatchify_is_the_inverse(patch: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 6, 2, 4)
    grid = token_grid(x.shape[2:], patch)
    assert torch.equal(unpatchify(patchify(x, patch), grid, patch), x)


def test_unpatchify_refuses_another_grid() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5, 8\), expected \(B, 4, 8 \* C\) for grid"):
        unpatchify(torch.zeros(1, 5, 8), (2, 2, 1, 1), (2, 2, 2, 1))


def test_token_grid_of_the_published_model() -> None:
    assert token_grid((96, 96, 96, 20), (6, 6, 6, 2)) == (16, 16, 16, 10)


@pytest.mark.parametrize(
    ("axis", "img_size", "hint"),
    [
        (
            "H = 91",
            (91, 96, 96, 20),
            "patch sizes that divide 91: 1, 7, 13; or bring H to 90 or 96",
        ),
        ("W = 109", (96, 109, 96, 20), "divide 109: 1, 109; or bring W to 108 or 114"),
        ("D = 5", (96, 96, 5, 20), "divide 5: 1, 5; or bring D to 6"),
        ("T = 9", (96, 96, 96, 9), "divide 9: 1, 3, 9; or bring T to 8 or 10"),
    ],
)
def test_a_patch_that_does_not_divide_names_the_axis(
    axis: str, img_size: tuple[int, ...], hint: str
) -> None:
    with pytest.raises(UsageError, match=rf"patch size \d does not divide {axis}$") as caught:
        token_grid(img_size, (6, 6, 6, 2))
    assert hint in (caught.value.hint or "")
    assert caught.value.where == "model.patch_size"


@pytest.mark.parametrize("sizes", [(6, 6, 6), (6, 6, 6, 0), (), (6, 6, 6, 2, 1)])
def test_four_positive_sizes_are_needed(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="expected four sizes of at least 1"):
        token_grid((6, 6, 6, 2), sizes)


def test_patchify_wants_six_axes() -> None:
    with pytest.raises(ValueError, match=r"x has shape \(4, 4, 4, 2\), expected \(B, C, H"):
        patchify(torch.zeros(4, 4, 4, 2), (2, 2, 2, 1))


def test_foreground_is_any_voxel_off_the_background() -> None:
    # Expected: by hand; the minimum is per sample and compared exactly.
    patches = torch.tensor([[[0.0, 0.0], [0.0, -1.0]], [[2.0, 2.0], [2.0, 3.0]]])
    zero = foreground_tokens(patches, minimum_is_background=False)
    least = foreground_tokens(patches, minimum_is_background=True)
    assert zero.tolist() == [[False, True], [True, True]]
    assert least.tolist() == [[True, True], [False, True]]


def test_brain_tokens_follow_the_voxel_masks() -> None:
    # Expected: the patches of a clip that repeats the mask over time.
    torch.manual_seed(0)
    brain = torch.rand(2, 4, 6, 2) > 0.9
    patch, grid = (2, 3, 1, 2), (2, 2, 2, 3)
    clip = brain[:, None, ..., None].expand(-1, -1, -1, -1, -1, 6)
    assert torch.equal(brain_tokens(brain, 2, grid, patch), patchify(clip, patch).any(-1))


def test_brain_masks_must_fit() -> None:
    with pytest.raises(ValueError, match=r"brain has shape \(1, 4, 6, 2\), expected \(B 2, H 4"):
        brain_tokens(torch.zeros(1, 4, 6, 2, dtype=torch.bool), 2, (2, 2, 2, 3), (2, 3, 1, 2))
    with pytest.raises(ValueError, match=r"brain has dtype torch\.float32, expected bool"):
        brain_tokens(torch.zeros(2, 4, 6, 2), 2, (2, 2, 2, 3), (2, 3, 1, 2))


def test_kept_index_pads_short_samples() -> None:
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])
    assert kept_index(mask).tolist() == [[0, 2, 3], [1, -1, -1]]
    assert kept_index(mask[0]).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 4, 4, 2), r"clip has shape \(4, 4, 4, 2\), expected \(B, C, H, W, D, T\)"),
        ((0, 1, 4, 4, 4, 2), r"clip has shape \(0, 1,"),
        ((1, 2, 4, 4, 4, 2), "clip has C = 2, the model was built for C = 1"),
        ((1, 1, 4, 4, 6, 2), "clip has D = 6, the model was built for D = 4"),
        ((1, 1, 4, 4, 4, 3), "clip has T = 3, the model was built for T = 2"),
    ],
)
def test_a_clip_that_does_not_fit_is_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_clip(torch.zeros(shape), (1, 4, 4, 4, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_clip_that_is_not_finite_is_named(value: float) -> None:
    x = torch.zeros(3, 1, 4, 4, 4, 2)
    x[1, 0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="sample 1 of the batch holds 2 NaN or infinite voxels"):
        check_clip(x, (1, 4, 4, 4, 2))


def test_finite_voxels_whose_sum_leaves_the_range_are_accepted() -> None:
    # Expected: no error; 64 voxels of 3e38 add up to infinity in float32.
    check_clip(torch.full((1, 1, 2, 2, 2, 8), 3e38), (1, 2, 2, 2, 8))
    torch.testing.assert_close(torch.full((64,), 3e38).sum(), torch.tensor(float("inf")))
