"""Grad-CAM on planted cases, where what must be found is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.errors import UsageError
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.gradcam import default_stages, grad_cam, share_inside
from neurocli.systems.brats.models.branchnet import BranchNet

GRID = (16, 24, 20)
BOX = (slice(4, 8), slice(8, 16), slice(12, 16))


class Planted(nn.Module):
    """Two branches of one blurring stage; ET comes from T1ce alone, edema from FLAIR alone."""

    def __init__(self) -> None:
        super().__init__()
        self.flair, self.t1ce = nn.AvgPool3d(4), nn.AvgPool3d(4)

    def forward(self, x: Tensor) -> Tensor:
        seen = [
            part.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
            for part in (self.flair(x[:, :1]), self.t1ce(x[:, 1:]))
        ]
        edema, core = 2 * seen[0] - 1, 3 * seen[1] - 1
        return torch.cat([torch.zeros_like(edema), torch.zeros_like(edema) - 9, edema, core], 1)


def planted() -> tuple[Tensor, Tensor]:
    """Return a volume (2,D,H,W) with a box bright in both, and the box as a mask."""
    mask = torch.zeros(GRID, dtype=torch.bool)
    mask[BOX] = True
    return mask.float().repeat(2, 1, 1, 1), mask


@pytest.mark.parametrize("weighting", ["mean", "voxel"])
def test_the_region_is_found_in_the_branch_that_tells_it(weighting: str) -> None:
    volume, mask = planted()
    found = grad_cam(Planted(), volume, "et", stages=["flair", "t1ce"], weighting=weighting)
    # In the box the scores are edema 1, core 2: all of it is predicted as ET.
    assert found.n_voxels == int(mask.sum())
    assert float(found.maps["flair"].abs().max()) == 0
    assert share_inside(found.maps["t1ce"], mask, dilate=2) > 0.7
    assert float(found.maps["t1ce"].max()) == 1
    peak = torch.unravel_index(found.maps["t1ce"].argmax(), GRID)
    assert bool(mask[peak])


def test_the_map_is_the_formula() -> None:
    volume, mask = planted()
    found = grad_cam(Planted(), volume, "et", stages=["t1ce"])
    coarse = functional.avg_pool3d(volume[None, 1:], 4)
    # d(sum of 3 f - 1 over the box) / df is 3 for each of the 64 voxels of a block of the box.
    gradient = 3 * 64 * functional.avg_pool3d(mask[None, None].float(), 4)
    want = (coarse * gradient.mean()).clamp_min(0)
    fine = functional.interpolate(want, size=GRID, mode="trilinear", align_corners=False)
    assert found.scale == pytest.approx(float(fine.max()), rel=1e-5)
    torch.testing.assert_close(found.maps["t1ce"], fine[0, 0] / fine.max())


def test_labels_ask_for_another_place() -> None:
    volume, _ = planted()
    labels = torch.zeros(GRID, dtype=torch.long)
    labels[:2] = 3
    found = grad_cam(Planted(), volume, "et", stages=["t1ce"], labels=labels)
    assert found.n_voxels == 2 * GRID[1] * GRID[2]
    # What no voxel of the region holds is not explained: nothing predicted, nothing shown.
    empty = grad_cam(Planted(), torch.zeros_like(volume), "et", stages=["t1ce"])
    assert (empty.n_voxels, empty.scale) == (0, 0)
    assert not empty.maps["t1ce"].any()


def test_windows_see_what_one_pass_sees() -> None:
    volume, mask = planted()
    for labels in (None, 3 * mask.long()):
        found = grad_cam(
            Planted(),
            volume,
            "et",
            stages=["t1ce"],
            labels=labels,
            roi=(16, 16, 16),
            weighting="voxel",
        )
        assert share_inside(found.maps["t1ce"], mask) > 0.7
        assert found.maps["t1ce"].shape == GRID


def test_branches_get_one_map_each_on_the_grid_of_any_input() -> None:
    torch.manual_seed(0)
    model = BranchNet(BranchNetConfig(name="x", width=4), {})
    volume = torch.randn(2, 33, 40, 35)
    labels = torch.randint(0, 4, (33, 40, 35))
    found = grad_cam(model, volume, "wt", labels=labels)
    assert list(found.maps) == ["branch_flair3", "branch_t1ce3"]
    assert all(cam.shape == volume.shape[1:] for cam in found.maps.values())
    assert max(float(cam.max()) for cam in found.maps.values()) == 1
    # A small window leaves a stage of 4^3 too coarse: the one before is taken.
    assert default_stages(model, (16, 16, 16)) == ["branch_flair2", "branch_t1ce2"]


def test_a_map_moves_with_its_input() -> None:
    torch.manual_seed(0)
    model = BranchNet(BranchNetConfig(name="x", width=4, norm="in"), {})
    volume, labels = torch.zeros(2, 64, 32, 32), torch.zeros(64, 32, 32)
    volume[:, 10:14, 10:14, 10:14] = torch.randn(2, 4, 4, 4)
    labels[10:14, 10:14, 10:14] = 3
    here = grad_cam(model, volume, "et", labels=labels, weighting="voxel")
    moved = grad_cam(model, volume.roll(32, 1), "et", labels=labels.roll(32, 0), weighting="voxel")
    for name, cam in here.maps.items():
        before = torch.unravel_index(cam.argmax(), cam.shape)
        after = torch.unravel_index(moved.maps[name].argmax(), cam.shape)
        assert abs(int(after[0]) - int(before[0]) - 32) <= 4


def test_wrong_words_are_told() -> None:
    volume, _ = planted()
    with pytest.raises(UsageError, match="did you mean t1ce"):
        grad_cam(Planted(), volume, "et", stages=["t1c"])
    with pytest.raises(UsageError, match="region"):
        grad_cam(Planted(), volume, "tumour", stages=["t1ce"])
    with pytest.raises(UsageError, match="weighting"):
        grad_cam(Planted(), volume, "et", stages=["t1ce"], weighting="max")
    with pytest.raises(UsageError, match="must be said"):
        grad_cam(Planted(), volume, "et")


def test_share_of_an_empty_map_is_nothing() -> None:
    assert share_inside(torch.zeros(2, 2, 2), torch.ones(2, 2, 2)) == 0
