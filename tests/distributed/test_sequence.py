"""One clip over two and three gloo ranks equals one process: loss, gradients, judged rows.

Expected everywhere: the same cases in this process, without any group.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neurocli.core.engine.parallel.places import Place
from neurocli.core.engine.parallel.sequence import check_sequences, shared_sequences
from neurocli.core.engine.parallel.team import Team
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup

_PROGRAM = Path(__file__).with_name("sequence_ranks.py")
_EXACT, _SINGLE = 1e-10, 2e-5


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sequence_ranks", _PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sequence_ranks"] = module
    spec.loader.exec_module(module)
    return module


RANKS = program()


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, fork_ranks: Callable[..., None]
) -> list[dict[str, Any]]:
    """Return what each rank found; all cases are done by one set of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    fork_ranks(RANKS.N_RANKS, lambda rank, port: RANKS.main(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS.N_RANKS)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Return what one process finds."""
    return {name: RANKS.run_case(name, WHOLE) for name in RANKS.CASES}


def largest(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize(("name", "size"), RANKS.DONE)
def test_ranks_equal_one_process(
    found: list[dict[str, Any]], alone: dict[str, Any], name: str, size: int
) -> None:
    want = alone[name]
    limit = _SINGLE if want["loss"].dtype == torch.float32 else _EXACT
    for rank in range(size):
        got = found[rank][f"{name}/{size}"]
        assert largest(got["loss"], want["loss"]) <= limit
        assert got["grads"].keys() == want["grads"].keys()
        scale = max(float(grad.abs().max()) for grad in want["grads"].values())
        for key, grad in want["grads"].items():
            # A gradient that cancels to almost nothing is measured by the others.
            error = float((got["grads"][key] - grad).abs().max())
            assert error <= limit * max(float(grad.abs().max()), 1e-3 * scale), key
        assert got.get("logs", {}) == pytest.approx(want.get("logs", {}), rel=10 * limit, abs=limit)
        for row, same in zip(got.get("rows", []), want.get("rows", []), strict=True):
            assert row.keys() == same.keys()
            for key, value in same.items():
                assert row[key] == (value if isinstance(value, str) else pytest.approx(value)), key
        if "embedded" in want:
            assert torch.allclose(got["embedded"], want["embedded"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("together", [2, 4])
def test_training_equals_one_process(
    found: list[dict[str, Any]], together: int, tmp_path: Path
) -> None:
    # Four ranks: two clips at a time over two ranks each, or one batch over all four. Batches of
    # two and one, an accumulated step, and judging, which divides the same way.
    want = RANKS.train(tmp_path / "alone", 1)
    for rank in found:
        got = rank[f"trained/{together}"]
        for step, same in zip(got["steps"], want["steps"], strict=True):
            for key in ("loss", "lr", "grad_norm"):
                assert step[key] == pytest.approx(same[key], rel=2e-5), key
        for name, weight in want["weights"].items():
            assert torch.allclose(got["weights"][name], weight, rtol=1e-5, atol=1e-6), name
    assert found[0][f"trained/{together}"]["best"] == pytest.approx(want["best"], rel=1e-5)


def test_all_ranks_hold_the_same_bits(found: list[dict[str, Any]]) -> None:
    # Every rank takes the same optimiser step, or weights would drift apart.
    first, second = (found[rank]["ar_float32/3"] for rank in (0, 2))
    assert torch.equal(first["loss"], second["loss"])
    assert all(torch.equal(grad, second["grads"][key]) for key, grad in first["grads"].items())


def test_shares_differ_by_one_token_and_cover_all() -> None:
    rows = []
    for rank in range(3):
        group = SequenceGroup()
        group.size, group.rank = 3, rank
        rows.append(group.rows(20))
    assert [part.stop - part.start for part in rows] == [6, 7, 7]
    assert [rows[0].start, *(part.stop for part in rows)] == [0, 6, 13, 20]
    with pytest.raises(NeuroError, match="2 tokens cannot be divided over 3 processes"):
        group.rows(2)


def test_divisions_that_cannot_be_made_are_refused() -> None:
    team = Team(Place(0, 3, 0))
    team.strategy = "ddp"
    with pytest.raises(UsageError, match="3 processes cannot share clips in groups of 2"):
        check_sequences(team, 2)
    with pytest.raises(UsageError, match="1 process cannot share clips in groups of 2") as error:
        check_sequences(Team(), 2)
    assert "--procs 2" in str(error.value.hint)
    team.strategy = "fsdp"
    with pytest.raises(UsageError, match="among whole copies of the model"):
        check_sequences(team, 3)
    team.strategy = "ddp"
    with (
        pytest.raises(UsageError, match="a Linear reads no sequence of tokens"),
        shared_sequences(team, torch.nn.Linear(1, 1), 3),
    ):
        pass
