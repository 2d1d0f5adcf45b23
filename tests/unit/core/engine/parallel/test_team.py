"""What a launcher tells, what is chosen of it, and what is refused; no process is started."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.parallel.choose import check_shares, open_holder, recompute_blocks
from neurocli.core.engine.parallel.places import Place, read_place
from neurocli.core.engine.parallel.team import ALONE, Team, choose_strategy, current_team, joined
from neurocli.core.engine.parallel.zero import engine_config
from neurocli.core.errors import ExitCode, MissingDependencyError, UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def told(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_place() == Place(0, 1, 0)
    told(monkeypatch, WORLD_SIZE="1", RANK="0")
    assert read_place() == Place(0, 1, 0)
    with joined() as team:
        assert team.is_alone
        assert current_team() is team
        with joined() as inner:
            assert inner is team
    assert current_team() is ALONE


def test_what_a_launcher_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, WORLD_SIZE="4", RANK="3", LOCAL_RANK="1", MASTER_ADDR="10.0.0.1")
    assert read_place() == Place(3, 4, 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"WORLD_SIZE": "two"}, "'two' is not a number"),
        ({"WORLD_SIZE": "2"}, "was not told its number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "was not told where"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "was not told where to meet"),
    ],
)
def test_what_makes_no_sense_is_said(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], text: str
) -> None:
    told(monkeypatch, **values)
    with pytest.raises(UsageError, match=text):
        read_place()


@pytest.mark.parametrize(
    ("n_ranks", "name", "is_named", "chosen", "notes"),
    [
        (1, "none", False, "none", 0),
        (1, "ddp", True, "none", 1),
        (1, "fsdp", True, "fsdp", 0),
        (2, "none", False, "ddp", 1),
        (2, "deepspeed", True, "deepspeed", 0),
    ],
)
def test_which_strategy_is_taken(
    n_ranks: int, name: str, is_named: bool, chosen: str, notes: int
) -> None:
    team = Team(Place(0, n_ranks, 0))
    assert len(choose_strategy(team, name, is_named=is_named)) == notes
    assert team.strategy == chosen


def test_strategies_that_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean deepspeed"):
        choose_strategy(Team(), "deepsped", is_named=True)
    with pytest.raises(UsageError, match="2 processes were launched, and 'none' trains in one"):
        choose_strategy(Team(Place(0, 2, 0)), "none", is_named=True)


def sharded(strategy: str) -> Team:
    team = Team()
    team.strategy = strategy
    return team


def test_missing_deepspeed_says_how_to_get_it(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(MissingDependencyError, match="needs the package deepspeed") as caught:
        open_holder(sharded("deepspeed"), toy.ToyTask(toy.toy_config()), toy.LinearModel(),
                    TrainBlock())  # fmt: skip
    assert caught.value.code is ExitCode.MISSING_DEPENDENCY
    assert "pip install deepspeed" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("strategy", "train", "text"),
    [
        ("fsdp", {"precision": "fp16"}, "'fsdp' does not train in fp16"),
        ("deepspeed", {"precision": "fp16"}, "'deepspeed' does not train in fp16"),
        ("deepspeed", {"spike_factor": 3.0}, "no step can be held back"),
        ("none", {"recompute": True}, "LinearModel names no blocks"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    toy: ModuleType, strategy: str, train: dict[str, Any], text: str
) -> None:
    task = toy.ToyTask(toy.toy_config())
    with pytest.raises(UsageError, match=text):
        open_holder(sharded(strategy), task, toy.LinearModel(), TrainBlock(**train))


def test_batches_smaller_than_the_team() -> None:
    team, plain = Team(Place(0, 4, 0)), nn.Linear(1, 1)
    task: Any = SimpleNamespace(mixes_samples=False)
    check_shares(team, [8, 8, 3], task, plain)
    with pytest.raises(UsageError, match="a batch of 3 cannot be divided among 4"):
        check_shares(team, [3, 1], task, plain)
    for mixing, model in ((True, plain), (False, nn.BatchNorm1d(1))):
        task.mixes_samples = mixing
        with pytest.raises(UsageError, match="has 3 samples for 4 processes"):
            check_shares(team, [8, 8, 3], task, model)


def test_blocks_that_are_computed_again_give_the_same_bits() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))

        def shard_units(self) -> list[nn.Module]:
            return list(self.parts)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = part(x)
            return x

    found = []
    for again in (False, True):
        torch.manual_seed(0)
        model, kept = Blocks(), []
        if again:
            recompute_blocks(model)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t) or t, lambda t: t
        ):
            loss = model(torch.randn(2, 4)).square().sum()
        loss.backward()
        found.append((loss, [p.grad for p in model.parameters()], len(kept)))
    (loss, grads, n_kept), (again_loss, again_grads, again_kept) = found
    assert torch.equal(loss, again_loss)
    assert all(torch.equal(a, b) for a, b in zip(grads, again_grads, strict=True))  # type: ignore[arg-type]
    assert again_kept < n_kept


def test_the_configuration_of_deepspeed_is_ours() -> None:
    config = engine_config(3, 0.5, 2)
    assert config["zero_optimization"]["stage"] == 3
    assert config["gradient_clipping"] == 0.5
    assert config["train_batch_size"] == 2
    assert engine_config(0, 0.5, 2)["gradient_clipping"] == 0.0  # the loop clips
    assert engine_config(1, None, 2)["gradient_clipping"] == 0.0
