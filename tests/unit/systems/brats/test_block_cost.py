"""Closed costs of single blocks against the blocks themselves and torch's counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from neurocli.core.cost.flops import count_forward
from neurocli.core.nn.blocks3d import DOWNS, STEMS, Up
from neurocli.core.nn.layers3d import Style
from neurocli.systems.brats.block_cost import (
    Grid,
    Tally,
    Widening,
    down_cost,
    stem_cost,
    total,
    up_cost,
)
from neurocli.systems.brats.stages import StagePlan

GRID: Grid = (12, 8, 16)
WIDES = [Widening(4, 2, 13, "3x3"), Widening(2, 3, 7, "1x1")]


def style_of(wide: Widening, plan: StagePlan) -> Style:
    return Style(
        expand=wide.expand,
        ffn_ratio=wide.ffn_ratio,
        large_kernel=wide.large_kernel,
        fusion=wide.fusion,
        repeats=plan.repeats,
        reduction=plan.reduction,
        dilations=plan.rates,
    )


def counted(make: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> tuple[int, int]:
    """Return parameters and multiply-adds of one sample, by torch."""
    with torch.device("meta"):
        block = make().eval()
        inputs = [torch.empty(1, *shape) for shape in shapes]

    class Called(nn.Module):
        def forward(self, x: Any) -> Any:
            return block(x, *inputs[1:])

    params = sum(weight.numel() for weight in block.parameters())
    return params, count_forward(Called(), inputs[0]) // 2


@pytest.mark.parametrize("wide", WIDES)
@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(("c_in", "c_out"), [(1, 8), (3, 16)])
def test_stems(name: str, wide: Widening, c_in: int, c_out: int) -> None:
    plan = StagePlan(name)
    cost = stem_cost(plan, c_in, c_out, GRID, wide)
    style = style_of(wide, plan)
    assert (cost.params, cost.macs) == counted(
        lambda: STEMS[name](c_in, c_out, style), (c_in, *GRID)
    )
    # Something of a stem reads the input itself, and never all of it.
    assert 0 < cost.first_macs < cost.macs


@pytest.mark.parametrize("wide", WIDES)
@pytest.mark.parametrize("name", DOWNS)
def test_downs(name: str, wide: Widening) -> None:
    plan = StagePlan(name)
    cost = down_cost(plan, 8, 16, GRID, wide)
    style = style_of(wide, plan)
    assert (cost.params, cost.macs) == counted(lambda: DOWNS[name](8, 16, style), (8, *GRID))
    assert cost.first_macs == 0


@pytest.mark.parametrize(
    "plan",
    [
        StagePlan("mobilenetv2", 2, 8),
        StagePlan("mobilenetv2", 3, None, (1, 5)),
        StagePlan("mobilenetv2", 1, 64, (1, 2, 5)),
    ],
)
def test_adjusted_stages(plan: StagePlan) -> None:
    style = style_of(WIDES[0], plan)
    down = down_cost(plan, 8, 16, GRID, WIDES[0])
    assert (down.params, down.macs) == counted(lambda: DOWNS[plan.block](8, 16, style), (8, *GRID))
    stem = stem_cost(plan, 1, 8, GRID, WIDES[0])
    assert (stem.params, stem.macs) == counted(lambda: STEMS[plan.block](1, 8, style), (1, *GRID))


@pytest.mark.parametrize("reduction", [None, 2, 64])
@pytest.mark.parametrize("c_squeezed", [None, 4, 24])
def test_ups(reduction: int | None, c_squeezed: int | None) -> None:
    cost = up_cost(16, 12, 8, GRID, reduction=reduction, c_squeezed=c_squeezed)
    doubled = tuple(2 * size for size in GRID)
    assert (cost.params, cost.macs) == counted(
        lambda: Up(16, 12, 8, Style(), reduction=reduction, c_squeezed=c_squeezed),
        (16, *GRID),
        (12, *doubled),
    )


def test_a_convolution_by_hand() -> None:
    tally = Tally()
    tally.conv(3, 5, 3, (2, 2, 2), bias=True)
    assert (tally.params, tally.macs) == (3 * 5 * 27 + 5, 3 * 5 * 27 * 8)
    tally.norm(5, 7)
    assert tally.params == 3 * 5 * 27 + 5 + 2 * 12
    both = total({"a": tally, "b": tally})
    assert (both.params, both.macs) == (2 * tally.params, 2 * tally.macs)
