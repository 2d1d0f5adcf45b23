"""Who counts: one record from every engine, and what each says of itself."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.cost.command import count_flops, profile
from neurocli.core.cost.engines import ENGINES, FlopsResult
from neurocli.core.cost.flops import count_with_thop
from neurocli.core.errors import ExitCode, MissingDependencyError, NotBuiltYetError, UsageError
from neurocli.core.nn.conv3d import Conv3d
from neurocli.core.nn.depthwise3d import DepthwiseConv3d

NAME = "dualbranch_02_unet_xs"
SIZES = {"input_shape": (16, 16, 32), "set": ["model.width=4"]}


def test_every_engine_is_named_once() -> None:
    assert list(ENGINES) == ["formula", "torch", "thop", "deepspeed"]
    with pytest.raises(UsageError, match="unknown engine 'formular'; did you mean formula"):
        count_flops(NAME, engine="formular")


def test_formula_and_counter_agree_to_the_last_operation() -> None:
    one, other = (count_flops(NAME, engine=name, **SIZES) for name in ("formula", "torch"))  # type: ignore[arg-type]
    told = {"engine", "notes", "components"}
    for part in fields(FlopsResult):
        if part.name not in told:
            assert getattr(one, part.name) == getattr(other, part.name), part.name
    assert one.flops == 2 * one.macs
    # A training step is at most three forward passes; the images need no gradient.
    assert 2 * one.flops < one.flops_train_step < 3 * one.flops


def test_a_single_number_is_never_a_sum_of_other_parts() -> None:
    result = count_flops(NAME, **SIZES)  # type: ignore[arg-type]
    assert sum(result.components.values()) == result.flops
    assert all(value > 0 for value in result.components.values())


def test_thop_says_what_it_misses() -> None:
    result = count_flops(NAME, engine="thop", **SIZES)  # type: ignore[arg-type]
    formula = count_flops(NAME, **SIZES)  # type: ignore[arg-type]
    assert result.engine == "thop"
    assert result.params == formula.params
    # Norms and activations are counted by thop and free in the formula.
    assert result.macs >= formula.macs
    assert result.flops_train_step == 6 * result.macs
    assert any("three forward passes are assumed" in note for note in result.notes)


def test_thop_knows_layers_by_their_kin() -> None:
    # Our convolutions are torch's by inheritance; thop alone looks at exact types and sees none.
    dense, depthwise = Conv3d(2, 4, 3, bias=False), DepthwiseConv3d(4, 3)
    macs, params = count_with_thop(nn.Sequential(dense, depthwise), torch.zeros(1, 2, 4, 4, 4))
    # 2^3 outputs of 27 taps from 2 to 4 channels; padded, so again 2^3 outputs of 27 taps in 4.
    assert macs == 8 * 27 * 2 * 4 + 8 * 27 * 4
    assert params == 27 * 8 + 27 * 4


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="the package is there")
def test_a_missing_package_is_code_4_with_the_way_to_get_it() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        count_flops(NAME, engine="deepspeed")
    assert caught.value.code == ExitCode.MISSING_DEPENDENCY
    assert caught.value.where == "--engine deepspeed"
    assert "use --engine torch" in str(caught.value.hint)


def test_a_package_that_is_there_and_not_yet_used_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocli.core.cost.engines.find_spec", lambda _: object())
    with pytest.raises(NotBuiltYetError, match="not in this version"):
        count_flops(NAME, engine="deepspeed")


def test_runs_have_a_spread_and_one_has_none() -> None:
    many = profile(NAME, runs=3, mode="inference", device="cpu", **SIZES).models[0]  # type: ignore[arg-type]
    # Memory is followed exactly, so its spread over runs is nothing.
    assert many["pam_inference_bytes"]["std"] == 0
    assert many["latency_ms"]["runs"] == 3
    assert many["stages"] == []
    assert many["input_shape"] == [16, 16, 32]
    fake = profile(NAME, mode="inference", fake=True, **SIZES).models[0]  # type: ignore[arg-type]
    assert fake["pam_inference_bytes"]["mean"] == many["pam_inference_bytes"]["mean"]


def test_a_training_step_gives_its_gradients_to_every_weight() -> None:
    seen: list[nn.Module] = []
    build = torch.nn.Module.train

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        seen.append(self)
        return build(self, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "train", train)
        profile(NAME, runs=1, mode="train", device="cpu", **SIZES)  # type: ignore[arg-type]
    model = next(part for part in seen if type(part).__name__ == "BranchNet")
    grads: list[Tensor | None] = [weight.grad for weight in model.parameters()]
    assert all(grad is not None for grad in grads)
