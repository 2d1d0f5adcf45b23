"""Torch's counter with its mends against counts by hand."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from neurocli.core.cost.flops import count_forward, count_modules, count_train_step, scalar_of
from neurocli.core.cost.peers import count_with_deepspeed, count_with_thop
from neurocli.core.nn.ssd import ssd_scan


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


class _Scan(nn.Module):
    """A scan of two heads of 8 with a state of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        heads = torch.unflatten(x, -1, (2, 8))
        maps = x[..., None, :4]
        steps = x.new_full((*x.shape[:2], 2), 0.01)
        found = ssd_scan(heads, steps, -x.new_ones(2), maps, maps, 64)
        assert isinstance(found, torch.Tensor)
        return found


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_scan_is_counted_with_and_without_numbers(device: str) -> None:
    example = torch.randn(1, 128, 16).to(device)
    model = _Scan().to(device)
    # Two chunks of 64: scores 64 x 64 x 4, what is added to the state 4 x 64 x 16, and
    # [scores | C] times [inputs ; state], 64 x (64 + 4) x 16; a state of 4 x 16 that passes the
    # chunk. Two operations per multiply-add.
    scores, added, mixed, passed = 64 * 64 * 4, 4 * 64 * 16, 64 * (64 + 4) * 16, 4 * 16
    forward = 2 * 2 * (scores + added + mixed + passed)
    assert count_forward(model, example) == forward
    # Backwards both gradients of every product; scores and states are computed once more.
    assert count_train_step(model, example) == 3 * forward + 2 * 2 * (scores + added)


def test_products_in_place_are_counted() -> None:
    total, left, right = torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(3, 4)

    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return total.addmm_(x, right)

    assert count_forward(InPlace(), left) == 2 * 2 * 3 * 4


def test_modules_have_their_own_counts() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.Linear(5, 7)))
    found = count_modules(model, torch.zeros(2, 3))
    assert found == {"": 200, "0": 60, "1": 140, "1.0": 140}


def test_thop_counts_modules_and_its_faults_are_told() -> None:
    model = nn.Sequential(nn.Linear(3, 5, bias=False))
    assert count_with_thop(model, torch.randn(2, 3)) == (30, 15, "agrees")
    # Each of 2^3 places of a stride is counted once for each of its 2^3 taps.
    twice = nn.Sequential(nn.ConvTranspose3d(4, 6, 2, stride=2, bias=False), nn.Flatten())
    macs, _, why = count_with_thop(twice, torch.zeros(1, 4, 3, 3, 3))
    assert macs == 8 * (27 * 8 * 4 * 6)
    assert why == "ConvTranspose3d counted 8x"
    _, _, why = count_with_thop(_Einsum(), torch.zeros(4, 5))
    assert why == "products written as functions not seen, -100.0%"


def test_deepspeed_counts_element_wise_work_and_no_einsum(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Not imported here: what it says when it is first imported must not reach stdout either.
    if find_spec("deepspeed") is None:
        pytest.skip("the extra is not installed")
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    assert count_with_deepspeed(model, torch.zeros(2, 3)) == (200, 100, 62, "agrees")
    flops, macs, parameters, why = count_with_deepspeed(_Einsum(), torch.zeros(4, 5))
    assert (flops > 280, macs, parameters) == (True, 0, 35)
    assert "einsum" in why
    assert capsys.readouterr().out == ""
