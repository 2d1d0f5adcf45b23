"""Torch's counter with its mends against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurocli.core.cost.flops import count_forward, count_train_step, count_with_thop, scalar_of


def _conv_forward(n: int, voxels: int, taps: int, channels_in: int, channels_out: int) -> int:
    return 2 * n * voxels * taps * channels_in * channels_out


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_convolution_knows_its_groups_backwards(groups: int) -> None:
    conv = nn.Conv3d(8, 16, 3, padding=1, groups=groups)
    # Every output channel reads 8 / groups inputs through 27 taps at each of 4^3 voxels.
    forward = _conv_forward(2, 64, 27, 8 // groups, 16)
    example = torch.randn(2, 8, 4, 4, 4)
    assert count_forward(conv, example) == forward
    # Nobody asks for the gradient to the input, so only that to the weights is added.
    assert count_train_step(conv, example) == 2 * forward
    deep = nn.Sequential(conv, nn.Conv3d(16, 16, 1))
    second = _conv_forward(2, 64, 1, 16, 16)
    assert count_train_step(deep, example) == 2 * forward + 3 * second


def test_transposed_convolution() -> None:
    conv = nn.ConvTranspose3d(4, 6, 2, stride=2)
    forward = 2 * 27 * 8 * 4 * 6
    assert count_forward(conv, torch.randn(1, 4, 3, 3, 3)) == forward
    assert count_train_step(conv, torch.randn(1, 4, 3, 3, 3)) == 2 * forward


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_on_a_cpu_is_counted() -> None:
    example = torch.randn(2, 3, 32, 16)
    # Scores and weighted values: two products of 32 x 32 x 16 per head.
    forward = 2 * (2 * 2 * 3 * 32 * 32 * 16)
    assert count_forward(_Attention(), example) == forward
    assert count_train_step(_Attention(), example) == forward + forward * 5 // 2


class _Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 7))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"first": torch.einsum("bi,ij->bj", x, self.weight), "count": torch.tensor(3)}


def test_einsum_and_mappings() -> None:
    example = torch.randn(4, 5)
    assert count_forward(_Einsum(), example) == 2 * 4 * 5 * 7
    assert count_train_step(_Einsum(), example) == 2 * (2 * 4 * 5 * 7)


def test_a_training_step_leaves_no_gradient() -> None:
    model = nn.Linear(3, 3)
    count_train_step(model, torch.randn(2, 3))
    assert all(part.grad is None for part in model.parameters())


def test_scalar_of_takes_every_differentiable_output() -> None:
    x, y = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    scalar_of([x, {"y": y * 3, "z": torch.ones(2)}, 5, None]).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.5]
    assert y.grad is not None
    assert y.grad.tolist() == [1.0, 1.0, 1.0]


def test_thop_counts_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 5, bias=False))
    macs, parameters = count_with_thop(model, torch.randn(2, 3))
    assert (macs, parameters) == (30, 15)
