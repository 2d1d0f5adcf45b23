"""Where a map lies and what is counted: filled grids, windows that overlap or stick out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.infer.sliding_window import sliding_window_logits
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.gradcam import CamResult, default_stages, grad_cam, share_inside
from neurocli.systems.brats.models.branchnet import BranchNet

GRID = (16, 24, 20)


class Bright(nn.Module):
    """Call a voxel ET where the only modality is above a half; its stage is the input doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(self.stage.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.stage(x)
        none = torch.zeros_like(seen) - 9
        return torch.cat([torch.zeros_like(seen), none, none, seen - 1], 1)


def bright_box() -> tuple[Tensor, Tensor]:
    """Return a volume (1,D,H,W) of zeros with a box of ones, and the box."""
    mask = torch.zeros(GRID, dtype=torch.bool)
    mask[4:10, 6:14, 5:15] = True
    return mask.float()[None], mask


def by_label(labels: Tensor | None, **options: object) -> CamResult:
    volume, _ = bright_box()
    return grad_cam(Bright(), volume, "et", stages=["stage"], labels=labels, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("with_labels", [True, False])
def test_a_voxel_in_many_windows_is_counted_once(overlap: float, with_labels: bool) -> None:
    _, mask = bright_box()
    labels = 3 * mask.long() if with_labels else None
    found = by_label(labels, roi=(8, 8, 8), overlap=overlap)
    # 6 x 8 x 10 voxels of the box, however often windows see them.
    assert found.n_voxels == int(mask.sum()) == 480


@pytest.mark.parametrize("roi", [(32, 32, 32), (16, 32, 20), (24, 8, 8)])
def test_windows_larger_than_the_volume_explain_what_is_predicted(
    roi: tuple[int, int, int],
) -> None:
    # What is padded around a short axis is no label: the prediction is explained as ever.
    _, mask = bright_box()
    found = by_label(None, roi=roi, weighting="voxel")
    assert found.n_voxels == int(mask.sum())
    assert share_inside(found.maps["stage"], mask, dilate=0) == pytest.approx(1)


def test_a_window_of_the_volumes_size_is_one_pass() -> None:
    whole, window = by_label(None), by_label(None, roi=GRID)
    assert (window.n_voxels, window.scale) == (whole.n_voxels, pytest.approx(whole.scale))
    torch.testing.assert_close(window.maps["stage"], whole.maps["stage"])


def test_the_scale_by_hand() -> None:
    # The score is the sum of 2x - 1 over the box: d/d stage is 1 there, and the stage holds 2.
    voxel = by_label(None, weighting="voxel")
    assert voxel.scale == pytest.approx(2.0)
    # The mean of that gradient over the volume is the share of the box.
    _, mask = bright_box()
    assert by_label(None).scale == pytest.approx(2 * float(mask.float().mean()))


def test_the_volume_and_the_weights_are_left_as_they_were() -> None:
    model, (volume, _) = Bright(), bright_box()
    before = volume.clone()
    with torch.inference_mode():
        grad_cam(model, volume, "et", stages=["stage"])
    assert torch.equal(volume, before)
    assert model.stage.weight.grad is None
    assert not model.stage._forward_hooks


def planted_net(**axes: object) -> BranchNet:
    torch.manual_seed(0)
    return BranchNet(BranchNetConfig(name="x", width=4, norm="in", **axes), {}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [33, 37, 48])
def test_maps_lie_where_the_stage_looked_on_filled_grids(size: int) -> None:
    """A grid of 33 is filled to 48: a voxel of stage 3 covers four voxels, not 33 / 12."""
    model, value = planted_net(), [1.0]

    def lit(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # One voxel of the stage holds all there is: 6 of 12, which covers voxels 24 to 27.
        place = torch.zeros_like(output)
        place[:, :, 6, 6, 6] = value[0]
        return output * 0 + place

    model.branch_flair3.register_forward_hook(lit)
    peaks = []
    for sign in (1.0, -1.0):  # which sign the gradient has is not ours to choose
        value[0] = sign
        found = grad_cam(
            model,
            torch.randn(2, size, size, size),
            labels=torch.full((size,) * 3, 3),
            stages=["branch_flair3"],
        )
        cam = found.maps["branch_flair3"]
        if found.scale > 0:
            peaks.append(torch.unravel_index(cam.argmax(), cam.shape))
    assert peaks
    assert all(24 <= int(at) <= 27 for peak in peaks for at in peak)


@pytest.mark.parametrize(
    # 8^3 = 512 voxels is the least: 64 / 8 at stage 4, 32 / 4 at stage 3, 16 / 2 at stage 2.
    ("grid", "level"),
    [((64, 64, 64), 4), ((32, 32, 32), 3), ((16, 16, 16), 2), ((8, 8, 8), 1), ((64, 32, 16), 3)],
)
def test_the_deepest_stage_that_shows_a_place(grid: tuple[int, int, int], level: int) -> None:
    model = BranchNet(
        BranchNetConfig(name="x", width=4, branch_stages=3, fused_widths=(), decoder=(2, 1, 1)),
        {},
    )
    want = [f"branch_{name}{level}" for name in ("flair", "t1ce")]
    if level == 1:
        want = ["stem_flair", "stem_t1ce"]
    assert default_stages(model, grid) == want


def test_shares_by_hand() -> None:
    cam, mask = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10)
    cam[0, 0] = torch.arange(10.0)
    mask[0, 0, 9] = 1
    # 0 + ... + 9 = 45; one voxel, then two, then three from the end.
    for dilate, inside in ((0, 9), (1, 17), (2, 24)):
        assert share_inside(cam, mask, dilate=dilate) == pytest.approx(inside / 45)


def test_explaining_runs_inside_the_blending_of_predictions() -> None:
    # Three channels: a map for each stage and what was explained, blended like logits.
    volume, mask = bright_box()
    blended = sliding_window_logits(volume[None], Bright().eval(), (8, 8, 8), 0.5)
    assert torch.equal(blended.argmax(1)[0] == 3, mask)
