"""Who is decayed, who is frozen; expectations are the parameter names themselves."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.optim import (
    build_optimizer,
    freeze_backbone,
    is_decayed,
    peak_rate,
    set_training,
)
from neurocli.core.errors import UsageError


class _Mixer(nn.Module):
    """Names and shapes of a state-space block."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(4))
        self.D = nn.Parameter(torch.zeros(4, 3))
        self.dt_bias = nn.Parameter(torch.zeros(4))
        self.conv1d = nn.Conv1d(4, 4, 2)
        self.norm = nn.LayerNorm(4)
        self.in_proj = nn.Linear(4, 4)
        self.marked = nn.Parameter(torch.zeros(2, 2))
        self.marked._no_weight_decay = True  # type: ignore[attr-defined]
        self.position_bias = nn.Parameter(torch.zeros(2, 2))


def _names(model: nn.Module, group: dict[str, object]) -> set[str]:
    ids = {id(parameter) for parameter in group["params"]}  # type: ignore[attr-defined]
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


def test_decay_spares_norms_biases_vectors_and_state_space_parameters() -> None:
    model = _Mixer()
    decayed, rest = build_optimizer(model, TrainBlock(weight_decay=0.1)).param_groups
    assert _names(model, decayed) == {"conv1d.weight", "in_proj.weight"}
    assert decayed["weight_decay"] == 0.1
    assert rest["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_decay_all_takes_everything() -> None:
    (group,) = build_optimizer(_Mixer(), TrainBlock(decay_all=True)).param_groups
    assert len(group["params"]) == len(list(_Mixer().parameters()))


def test_a_leaf_named_d_only_by_ending_is_decayed() -> None:
    assert is_decayed("block.in_D.weight", nn.Parameter(torch.zeros(2, 2)))
    assert not is_decayed("block.D", nn.Parameter(torch.zeros(2, 2)))


def test_options_reach_the_optimiser() -> None:
    adamw = build_optimizer(_Mixer(), TrainBlock(lr=0.02, betas=(0.8, 0.95)))
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["betas"]) == (0.02, (0.8, 0.95))
    sgd = build_optimizer(_Mixer(), TrainBlock(optimizer="sgd", momentum=0.9))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[1]["momentum"] == 0.9


def test_frozen_parameters_are_left_out(toy: ModuleType) -> None:
    model = toy.ToyModel()
    freeze_backbone(model)
    groups = build_optimizer(model, TrainBlock()).param_groups
    assert [_names(model, group) for group in groups] == [
        {"output_head.weight"},
        {"output_head.bias"},
    ]


def test_frozen_backbone_stays_in_evaluation_mode(toy: ModuleType) -> None:
    model = toy.ToyModel(dropout=0.5)
    set_training(model, frozen=True)
    assert not model.dropout.training
    assert not model.norm.training
    assert model.output_head.training
    set_training(model, frozen=False)
    assert all(module.training for module in model.modules())


def test_head_prefixes_of_a_model_win(toy: ModuleType) -> None:
    model = toy.ToyModel()
    model.head_prefixes = ("norm.",)
    freeze_backbone(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"norm.weight", "norm.bias"}
    set_training(model, frozen=True)
    assert model.norm.training
    assert not model.output_head.training


def test_model_without_head_cannot_be_frozen() -> None:
    with pytest.raises(UsageError, match="Linear has no head to train"):
        freeze_backbone(nn.Linear(2, 2))


def test_nothing_to_train_is_refused() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter to train"):
        build_optimizer(model, TrainBlock())


@pytest.mark.parametrize(
    ("scaling", "want"),
    [("none", 1e-3), ("linear", 1e-3 * 16 / 384), ("sqrt", 1e-3 * (16 / 384) ** 0.5)],
)
def test_the_rate_is_scaled_by_the_samples_of_a_step_only_when_asked(
    scaling: str, want: float
) -> None:
    # Expected: 8 samples in 2 batches make 16, the rate is meant for 384.
    train = TrainBlock.model_validate({"lr": 1e-3, "lr_scaling": scaling, "accumulate": 2})
    rate = peak_rate(train, 8)
    assert rate == pytest.approx(want, rel=1e-12)
    optimizer = build_optimizer(nn.Linear(2, 2), train, rate)
    assert {group["initial_lr"] for group in optimizer.param_groups} == {rate}
