"""The mean of several networks in one pass of windows equals the mean of their whole volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.infer.ensemble import MeanOutput
from neurocli.core.infer.sliding_window import (
    labels_from_logits,
    sliding_window_labels,
    sliding_window_logits,
)

ROI, OVERLAP = (8, 8, 8), 0.3


class Listed(nn.Module):
    """Give logits at two resolutions, as a deeply supervised network does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.net(x), self.net(x)[..., ::2, ::2, ::2]]


@pytest.fixture(scope="module")
def members() -> list[nn.Module]:
    torch.manual_seed(0)
    nets = [nn.Conv3d(2, 3, 3, padding=1) for _ in range(3)]
    return [nets[0], nets[1], Listed(nets[2])]


@pytest.fixture(scope="module")
def volume() -> Tensor:
    return torch.randn(1, 2, 13, 11, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blend", ["constant", "gaussian", "cosine"])
def test_logits_equal_the_mean_of_the_full_volumes(
    members: list[nn.Module], volume: Tensor, blend: str
) -> None:
    with torch.no_grad():
        single = [sliding_window_logits(volume, net, ROI, OVERLAP, blend) for net in members]
        mean = torch.stack(single).mean(0)
        found = sliding_window_logits(volume, MeanOutput(members), ROI, OVERLAP, blend)
        labels = sliding_window_labels(volume, MeanOutput(members), ROI, OVERLAP, blend)
    assert float((found - mean).abs().max()) < 1e-6
    assert torch.equal(labels, labels_from_logits(mean))
    # The members differ, so that the mean is none of them.
    assert not torch.equal(labels, labels_from_logits(single[0]))


def test_probabilities_equal_the_mean_of_the_full_volumes(
    members: list[nn.Module], volume: Tensor
) -> None:
    class Soft(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            output = self.net(x)
            return (output[0] if isinstance(output, list) else output).softmax(1)

    with torch.no_grad():
        single = [sliding_window_logits(volume, Soft(net), ROI, OVERLAP) for net in members]
        ensemble = MeanOutput(members, "probabilities")
        found = sliding_window_logits(volume, ensemble, ROI, OVERLAP)
    assert float((found - torch.stack(single).mean(0)).abs().max()) < 1e-6
    # Probabilities of a voxel add up to 1, with or without blending.
    assert torch.allclose(found.sum(1), torch.ones(1, 13, 11, 9), atol=1e-5)


def test_members_are_not_changed_and_gradients_pass(members: list[nn.Module]) -> None:
    x = torch.randn(1, 2, 4, 4, 4)
    before = members[0](x).detach().clone()
    MeanOutput(members)(x).sum().backward()
    weight = members[0].weight
    assert isinstance(weight, Tensor)
    assert weight.grad is not None
    with torch.no_grad():
        MeanOutput(members)(x)
    assert torch.equal(members[0](x), before)
    with pytest.raises(UsageError, match="members"):
        MeanOutput([])
