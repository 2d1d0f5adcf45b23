"""Slices over a volume against the same model plane by plane."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.errors import NeuroError
from neurocli.core.infer.slices import slice_labels


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, 4, 3, padding=1).eval().requires_grad_(False)


def volume() -> Tensor:
    x = torch.randn(2, 12, 10, 11, generator=torch.Generator().manual_seed(2))
    x[..., 3] = 0  # an empty plane between filled ones
    return x


@pytest.mark.parametrize("batch", [1, 4, 99])
def test_equals_plane_by_plane(net: nn.Module, batch: int) -> None:
    x = volume()
    found = slice_labels(x, net, batch=batch)
    for plane in range(x.shape[-1]):
        expected = net(x[None, ..., plane]).argmax(1)[0]
        if plane == 3:
            assert not found[..., plane].any()  # nothing is there, so nothing is found
        else:
            assert torch.equal(found[..., plane].long(), expected)


def test_mirrored_copies_are_averaged(net: nn.Module) -> None:
    x = volume()
    found = slice_labels(x, net, mirror=True)
    image = x[None, ..., 5]
    flips = [(), (2,), (3,), (2, 3)]
    mean = sum(net(image.flip(a)).flip(a) if a else net(image) for a in flips) / 4
    assert torch.equal(found[..., 5].long(), mean.argmax(1)[0])


def test_an_empty_volume_needs_no_model() -> None:
    def fail(image: Tensor) -> Tensor:
        raise AssertionError("called")

    assert not slice_labels(torch.zeros(2, 4, 4, 3), fail).any()


def test_a_list_is_read_from_its_finest_and_damage_is_refused(net: nn.Module) -> None:
    x = volume()
    assert torch.equal(slice_labels(x, lambda p: [net(p), None]), slice_labels(x, net))
    with pytest.raises(NeuroError, match="gives"):
        slice_labels(x, lambda p: net(p)[..., 1:])
    with pytest.raises(NeuroError, match="not finite"):
        slice_labels(x, lambda p: net(p) * torch.nan)
