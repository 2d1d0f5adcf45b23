"""Next-token loss and the comparison with persistence, against plain loops."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.models.forecast import (
    ForecastSums,
    next_token_loss,
    same_place_persistence,
)
from neurocli.systems.fmri.models.patches import kept_index


def loop(
    pred: torch.Tensor, patches: torch.Tensor, masks: torch.Tensor, n_times: int
) -> list[float]:
    """Return sums and target counts by walking over the kept tokens of each sample."""
    all_sse = model_sse = persistence_sse = 0.0
    n_all = n_same = 0
    for sample, mask in enumerate(masks):
        places = [place for place, kept in enumerate(mask) if kept]
        for k, (here, after) in enumerate(pairwise(places)):
            target = patches[sample, k + 1].double()
            error = float((pred[sample, k].double() - target).square().sum())
            all_sse, n_all = all_sse + error, n_all + 1
            same = here // n_times == after // n_times and after == here + 1
            if same or n_times == 1:
                model_sse, n_same = model_sse + error, n_same + 1
                persistence_sse += float((patches[sample, k].double() - target).square().sum())
    n_voxels = patches.shape[-1]
    return [all_sse, n_all * n_voxels, model_sse, persistence_sse, n_same * n_voxels]


def values(sums: ForecastSums) -> list[float]:
    return [
        sums.sse_all, sums.n_all, sums.sse_model, sums.sse_persistence, sums.n_compared
    ]  # fmt: skip


@pytest.mark.parametrize("n_times", [1, 2, 4])
@pytest.mark.parametrize("shared_mask", [True, False])
def test_sums_equal_the_loop(n_times: int, shared_mask: bool) -> None:
    torch.manual_seed(0)
    masks = torch.rand(3, 24) > 0.3
    if shared_mask:
        masks = masks[:1].expand(3, -1)
    index = kept_index(masks[0] if shared_mask else masks)
    pred, patches = torch.randn(2, 3, index.shape[-1], 5, dtype=torch.float64).unbind()
    got = values(same_place_persistence(pred, patches, index, n_times))
    assert got == pytest.approx(loop(pred, patches, masks, n_times), rel=1e-12)


def test_sums_add_up_over_batches() -> None:
    # Expected: the whole batch at once; means of means would differ.
    torch.manual_seed(0)
    index = kept_index(torch.rand(4, 12) > 0.5)
    pred, patches = torch.randn(2, 4, index.shape[-1], 3).unbind()
    whole = same_place_persistence(pred, patches, index, 3)
    parts = sum(
        (same_place_persistence(pred[i : i + 1], patches[i : i + 1], index[i : i + 1], 3)
         for i in range(4)),
        ForecastSums(),
    )  # fmt: skip
    assert values(parts) == pytest.approx(values(whole), rel=1e-12)
    assert parts.loss == pytest.approx(float(next_token_loss(pred, patches, index)), rel=1e-6)


def test_skill_of_known_forecasts() -> None:
    # Expected: a perfect model has skill 1, persistence itself 0, a twice worse error -3.
    patches = torch.tensor([[[0.0], [1.0], [5.0], [7.0]]])
    index = torch.arange(4)
    after = torch.cat([patches[:, 1:], patches[:, :1]], 1)
    for pred, skill in ((after, 1.0), (patches, 0.0), (after - 2 * (after - patches), -3.0)):
        assert same_place_persistence(pred, patches, index, 2).skill == pytest.approx(skill)
    sums = same_place_persistence(patches, patches, index, 2)
    assert (sums.mse_persistence, sums.mse_model) == (2.5, 2.5)  # (1 + 4) / 2, the jump left out
    assert sums.loss == pytest.approx((1 + 16 + 4) / 3)


def test_nothing_to_compare_gives_nan() -> None:
    empty = ForecastSums()
    assert all(
        math.isnan(x) for x in (empty.loss, empty.skill, empty.mse_model, empty.mse_persistence)
    )
    still = torch.ones(1, 4, 2)
    assert math.isnan(same_place_persistence(still, still, torch.arange(4), 2).skill)


def test_padding_is_no_target() -> None:
    # Expected: the mean over the three real targets; huge values stand in the padding.
    index = torch.tensor([[0, 1, 2], [4, 5, -1]])
    pred = torch.zeros(2, 3, 1)
    patches = torch.tensor([[[9.0], [1.0], [2.0]], [[9.0], [3.0], [1e9]]])
    assert float(next_token_loss(pred, patches, index)) == pytest.approx((1 + 4 + 9) / 3)


def test_the_loss_is_float32_under_reduced_precision() -> None:
    loss = next_token_loss(torch.zeros(1, 3, 2).bfloat16(), torch.ones(1, 3, 2), torch.arange(3))
    assert (loss.dtype, float(loss)) == (torch.float32, 1.0)
    half = torch.ones(1, 3, 2).half()
    assert next_token_loss(half, half, torch.arange(3)).dtype == torch.float32


@pytest.mark.parametrize("index", [torch.tensor([3]), torch.tensor([[3], [4]])])
def test_one_token_cannot_be_forecast(index: torch.Tensor) -> None:
    values = torch.zeros(2, 1, 4)
    with pytest.raises(NeuroError, match="next-token prediction needs two"):
        next_token_loss(values, values, index)
