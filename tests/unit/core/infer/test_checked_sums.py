"""Windows are checked while they are added, and narrow logits are widened there."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.errors import NeuroError
from neurocli.core.infer.ensemble import MeanOutput
from neurocli.core.infer.sliding_window import sliding_window_labels, sliding_window_logits
from neurocli.core.infer.windows import BLENDS

ROI, OVERLAP = (8, 8, 8), 0.25
RUNS = [sliding_window_logits, sliding_window_labels]


def volume() -> Tensor:
    return torch.randn(1, 2, 14, 12, 10, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("run", RUNS)
def test_one_bad_voxel_of_the_last_window_is_refused(
    run: Callable[..., Tensor], blend: str, mirror: bool
) -> None:
    x = volume()
    x[0, 1, -1, -1, -1] = 77  # only the last window holds this corner

    def broken(patch: Tensor) -> Tensor:
        return torch.where(patch == 77, math.inf, patch)

    with pytest.raises(NeuroError, match="not finite"):
        run(x, broken, ROI, OVERLAP, blend, mirror=mirror)
    assert torch.isfinite(run(x, lambda patch: patch, ROI, OVERLAP, blend).float()).all()


@pytest.mark.parametrize("roi", [ROI, (14, 12, 10)])
def test_narrow_logits_give_what_the_same_in_float32_give(roi: tuple[int, int, int]) -> None:
    def narrow(patch: Tensor) -> Tensor:
        return patch.bfloat16()

    def wide(patch: Tensor) -> Tensor:
        return patch.bfloat16().float()

    x = volume()
    found = sliding_window_logits(x, narrow, roi, OVERLAP)
    assert found.dtype == torch.float32
    assert torch.equal(found, sliding_window_logits(x, wide, roi, OVERLAP))
    labels = sliding_window_labels(x, narrow, roi, OVERLAP)
    assert torch.equal(labels, sliding_window_labels(x, wide, roi, OVERLAP))


@pytest.mark.parametrize("mirror", [False, True])
def test_the_volume_is_not_changed_by_a_model_that_gives_it_back(mirror: bool) -> None:
    x = volume()
    before = x.clone()
    for run in RUNS:
        run(x, lambda patch: patch, ROI, OVERLAP, mirror=mirror)
    assert torch.equal(x, before)


def test_an_ensemble_leaves_what_its_members_give_alone() -> None:
    x = volume()
    before = x.clone()
    with torch.no_grad():
        mean = MeanOutput([nn.Identity(), nn.Identity(), nn.Identity()])(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(mean, before)
