"""Axes of the networks: what follows from them, and every refusal by key."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch

from neurocli.core.errors import ExitCode, UsageError
from neurocli.systems.brats.config import (
    BranchNetConfig,
    MobileUnetr2dConfig,
    SwinUnetrConfig,
    UnetrConfig,
)
from neurocli.systems.brats.models.routing import fill_grid
from neurocli.systems.brats.stages import StagePlan


def axes(**values: Any) -> BranchNetConfig:
    return BranchNetConfig(name="x", **values)


def refused(kind: Any, **values: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        kind(name="x", **values)
    assert caught.value.code == ExitCode.USAGE
    return caught.value


def test_widths_of_two_branches_by_hand() -> None:
    config = axes(width=8)
    # Two stems of 8; each branch doubles twice; then 8 and 16 widths of both stems together.
    assert (config.n_branches, config.total_width, config.n_stages) == (2, 16, 5)
    assert config.skip_channels() == [16, 32, 64, 128, 256]
    assert config.divisor == 2**4


def test_one_branch_reads_all_modalities() -> None:
    config = axes(
        branches="one", modalities=("t1", "t2", "flair"), width=12, fused_widths=(), decoder=(2, 1)
    )
    assert (config.n_branches, config.total_width, config.n_stages) == (1, 12, 3)
    assert config.skip_channels() == [12, 24, 48]
    assert config.fused_plans() == ()
    assert len(config.branch_plans()) == 1


@pytest.mark.parametrize("n_fused", [0, 1, 3])
@pytest.mark.parametrize("branch_stages", [1, 3])
def test_the_configs_grid_is_the_one_the_network_fills_to(n_fused: int, branch_stages: int) -> None:
    # Two places know how inputs are filled: the closed costs, and the network itself.
    n_stages = 1 + branch_stages + n_fused
    config = axes(
        branch_stages=branch_stages, fused_widths=(4,) * n_fused, decoder=(1,) * (n_stages - 1)
    )
    step = config.divisor
    for grid in itertools.product((1, step - 1, step, step + 1), repeat=3):
        if min(grid) < 1:
            continue
        filled = fill_grid(torch.empty(1, 1, *grid, device="meta"), step).shape[2:]
        assert config.filled(grid) == tuple(filled)


def test_filled_grids_by_hand() -> None:
    config = axes()  # divides by 16
    assert config.filled((17, 16, 1)) == (32, 16, 16)
    assert config.filled((240, 240, 155)) == (240, 240, 160)
    # Norms need two voxels at the bottom.
    assert config.filled((16, 5, 16)) == (16, 16, 32)


def test_encoders_are_for_all_branches_or_one_for_each() -> None:
    both = axes(encoder=("conv/ghost",)).branch_plans()
    assert both == [(StagePlan("conv"), StagePlan("ghost"))] * 2
    each = axes(encoder="replk,mobilenetv2*2@4/stride").branch_plans()
    assert each == [
        (StagePlan("replk"),) * 2,
        (StagePlan("mobilenetv2", 2, 4), StagePlan("stride")),
    ]


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"large_kernel": 6}, "model.large_kernel", "6 is even"),
        ({"stem": "stride"}, "model.stem", "unknown block 'stride'"),
        ({"stem": "ghost*2"}, "model.stem", "adjusts a block"),
        ({"encoder": "conv,conv,conv"}, "model.encoder", "3 branches are described, the network "),
        ({"encoder": "conv/conv/conv"}, "model.encoder", "has 3 stages, 2 are wanted"),
        ({"fused": "conv/conv/conv"}, "model.fused", "has 3 stages, 2 are wanted"),
        ({"decoder": (1, 1)}, "model.decoder", "2 decoder stages for 5 encoder stages"),
        ({"decoder": (8, 4, 0, 1)}, "model.decoder", r"\[8, 4, 0, 1\] holds a size below 1"),
        ({"fused_widths": (8, -1)}, "model.fused_widths", "holds a size below 1"),
        ({"decoder_attention": (2, 2)}, "model.decoder_attention", "2 reductions for 4 decoder"),
        ({"modality_attention": (0,)}, "model.modality_attention", r"\[0\] are no stages"),
        ({"modality_attention": (2, 4)}, "model.modality_attention", r"\[2, 4\] are no stages"),
        ({"modalities": ()}, "model.modalities", "each modality once"),
        ({"modalities": ("t1", "t1")}, "model.modalities", "'t1,t1' must name each modality once"),
    ],
)
def test_refusals_name_their_key(values: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        axes(**values)
    # An unknown name tells its key in the hint, beside the names that are known.
    assert where in (caught.value.where, str(caught.value.hint).rpartition("in ")[2])


def test_hints_tell_what_fits() -> None:
    assert refused(BranchNetConfig, decoder=(1,)).hint == "4 sizes: one for each halving"
    assert refused(BranchNetConfig, encoder="conv,conv,conv").hint == (
        "one for each modality, or one for all"
    )
    assert refused(BranchNetConfig, modality_attention=(4,)).hint == (
        "1 to 3, with branches per-modality"
    )


def test_a_single_branch_has_no_modalities_to_weigh() -> None:
    error = refused(BranchNetConfig, branches="one", modality_attention=(1,))
    assert error.where == "model.modality_attention"


@pytest.mark.parametrize("values", [{"width": 2}, {"width": 6}, {"expand": 0}, {"act": "tanh"}])
def test_ranges_are_held_by_the_schema(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        axes(**values)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"img_size": (32, 32)}, "model.img_size"),
        ({"img_size": (32, 32, 40)}, "model.img_size"),
        ({"img_size": (0, 32, 32)}, "model.img_size"),
        ({"hidden_size": 100, "num_heads": 12}, "model.num_heads"),
    ],
)
def test_vision_transformers_that_cannot_be(values: dict[str, Any], where: str) -> None:
    assert refused(UnetrConfig, **values).where == where


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"depths": (2, 2)}, "model.depths", "[2, 2] are no 4 sizes of 1 or more"),
        ({"depths": (2, 0, 2, 2)}, "model.depths", "[2, 0, 2, 2] are no 4 sizes of 1 or more"),
        ({"num_heads": (3,) * 5}, "model.num_heads", "[3, 3, 3, 3, 3] are no 4 sizes of 1 or more"),
        # 24 channels at the first stage, doubled at each: 24, 48, 96, 192.
        (
            {"num_heads": (5, 6, 12, 24)},
            "model.num_heads",
            "5 heads do not divide the 24 channels of stage 1",
        ),
        (
            {"num_heads": (3, 6, 36, 24)},
            "model.num_heads",
            "36 heads do not divide the 96 channels of stage 3",
        ),
    ],
)
def test_shifted_windows_that_cannot_be(values: dict[str, Any], where: str, message: str) -> None:
    error = refused(SwinUnetrConfig, **values)
    assert (error.where, error.message) == (where, message)


def test_other_sizes_of_shifted_windows_are_taken() -> None:
    config = SwinUnetrConfig(name="x", depths=(1, 1, 3, 1), num_heads=(1, 2, 4, 8), feature_size=12)
    assert config.depths == (1, 1, 3, 1)


def test_slices_are_axial_unless_told() -> None:
    assert MobileUnetr2dConfig(name="x").slice_axis == 2
    with pytest.raises(ValueError, match="slice_axis"):
        MobileUnetr2dConfig(name="x", slice_axis=3)


def test_no_torch_is_loaded() -> None:
    code = "import sys, neurocli.systems.brats.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
