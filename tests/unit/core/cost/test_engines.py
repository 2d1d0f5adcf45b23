"""Who counts: one record from every engine, and what each says of itself."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.cost.command import count_flops, profile
from neurocli.core.cost.engines import ENGINES, FlopsResult
from neurocli.core.cost.peers import count_with_thop
from neurocli.core.errors import ExitCode, MissingDependencyError, UsageError
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
    told = {"engine", "notes", "components", "work"}
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
    macs, params, _ = count_with_thop(nn.Sequential(dense, depthwise), torch.zeros(1, 2, 4, 4, 4))
    # 2^3 outputs of 27 taps from 2 to 4 channels; padded, so again 2^3 outputs of 27 taps in 4.
    assert macs == 8 * 27 * 2 * 4 + 8 * 27 * 4
    assert params == 27 * 8 + 27 * 4


def test_a_missing_package_is_code_4_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("deepspeed", "deepspeed.profiling.flops_profiler"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        count_flops(NAME, engine="deepspeed")
    assert caught.value.code == ExitCode.MISSING_DEPENDENCY
    assert caught.value.where == "--engine deepspeed"
    assert "use --engine torch" in str(caught.value.hint)


def test_all_engines_stand_side_by_side_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepspeed", "deepspeed.profiling.flops_profiler"):
        monkeypatch.setitem(sys.modules, name, None)
    name = "dualbranch_04_unet_xs"
    result = count_flops(name, engine="all", **SIZES)  # type: ignore[arg-type]
    rows = {row["engine"]: row for row in result.engines}
    assert list(rows) == list(ENGINES)
    assert rows["formula"]["flops"] == rows["torch"]["flops"] == result.flops
    # The grouped convolutions of this network, which the counter as shipped gets wrong.
    assert "as shipped it says 1x forward, " in rows["torch"]["why"]
    assert "UpConv3d counted 8x" in rows["thop"]["why"]
    assert rows["thop"]["share"] == rows["thop"]["flops"] / result.flops > 1.01
    assert rows["deepspeed"]["flops"] is None
    assert "neurocli[deepspeed]" in rows["deepspeed"]["why"]


@pytest.mark.parametrize(
    "name",
    ["cebra", "cebra-offset1", "cebra-offset36", "gene_pair", "gene_sequence"],
)
def test_the_formula_of_every_small_model_is_what_torch_counts(name: str) -> None:
    one, other = (count_flops(name, engine=engine) for engine in ("formula", "torch"))
    for key in ("params", "flops", "flops_train_step"):
        assert getattr(one, key) == getattr(other, key), key


@pytest.mark.parametrize("name", ["fmamba", "fmamba_mlp", "fmamba_conv_mlp"])
def test_the_formula_of_fmamba_is_within_a_hundredth(name: str) -> None:
    sizes = {"input_shape": (36, 36, 36, 8), "set": ["model.depth=2"]}
    one, other = (count_flops(name, engine=e, **sizes) for e in ("formula", "torch"))  # type: ignore[arg-type]
    assert one.params == other.params
    for key in ("flops", "flops_train_step"):
        assert getattr(one, key) == pytest.approx(getattr(other, key), rel=0.01), key
    assert "without computing" in other.notes[0]


def test_kept_tokens_and_the_length_of_a_run() -> None:
    whole = count_flops("fmamba", input_shape=(96, 96, 96, 20))
    assert whole.tokens == whole.tokens_total == 16**3 * 20
    kept = count_flops("fmamba", tokens_kept=whole.tokens // 4, clips=10,
                       set=["train.epochs=3", "data.batch_size=4"])  # fmt: skip
    assert (kept.tokens, kept.tokens_total) == (20_480, 81_920)
    # A quarter of the tokens in whole blocks costs a quarter, as everything is linear in them.
    assert 4 * kept.flops == whole.flops
    work = kept.work
    assert work["clip"] == kept.flops_train_step
    assert work["step"] == 4 * kept.flops_train_step
    assert work["epoch"] == 10 * kept.flops_train_step
    # Ten clips are three steps of at most four.
    assert (work["run"], work["steps"]) == (30 * kept.flops_train_step, 9)
    with pytest.raises(UsageError, match="drops no background"):
        count_flops("cebra", tokens_kept=3)
    with pytest.raises(UsageError, match="every token is kept"):
        count_flops("fmamba", tokens_kept=3, engine="torch")


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
