"""Several processes are refused plainly rather than trained as copies."""

from __future__ import annotations

import pytest

from neurocli.core.engine.parallel import check_parallel
from neurocli.core.errors import ExitCode, NotBuiltYetError, UsageError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize("world", [None, "1"])
def test_one_process_passes(monkeypatch: pytest.MonkeyPatch, world: str | None) -> None:
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    check_parallel("none")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])
def test_strategies_say_that_they_are_not_built(name: str) -> None:
    with pytest.raises(NotBuiltYetError, match=f"'{name}' is not in this version") as caught:
        check_parallel(name)
    assert caught.value.code is ExitCode.FAILED


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean deepspeed"):
        check_parallel("deepsped")


def test_several_launched_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NotBuiltYetError, match="2 processes were launched"):
        check_parallel("none")


def test_world_size_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="'two' is not a number"):
        check_parallel("none")
