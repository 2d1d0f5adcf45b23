"""Stages of models that are nested, reused or listed, with bytes counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.cost.stages import stage_rows, stages_of

N, D = 8, 32
BYTES = N * D * 4


class Branches(nn.Module):
    """Two branches side by side, joined by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList([nn.Linear(D, D), nn.Linear(D, D)])
        self.join = nn.Linear(2 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([way(x) for way in self.ways], 1))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One layer that is called twice, and one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))  # type: ignore[no-any-return]


def rows_of(model: nn.Module, x: Tensor, training: bool) -> list[dict[str, object]]:
    return stage_rows(model, x, training=training, resident=[*model.parameters(), x])


def test_wrappers_are_opened_and_lists_are_taken_apart() -> None:
    assert list(stages_of(Branches())) == ["ways.0", "ways.1", "join"]
    assert list(stages_of(nn.Sequential(nn.Sequential(Branches())))) == ["ways.0", "ways.1", "join"]
    # A single layer that has no parts is itself the stage, and a bare layer has none.
    assert list(stages_of(nn.Sequential(nn.Linear(2, 2)))) == ["0"]
    assert stages_of(nn.Linear(2, 2)) == {}


def test_rows_have_the_contracts_keys_and_the_order_of_the_pass() -> None:
    rows = rows_of(Branches(), torch.randn(N, D), training=False)
    assert [row["stage_name"] for row in rows] == ["ways.0", "ways.1", "join"]
    for row in rows:
        assert list(row) == [
            "stage_name",
            "mode",
            "pam_mean",
            "pam_std",
            "num_runs",
            "output_bytes",
            "saved_bytes",
        ]
        assert (row["mode"], row["pam_std"], row["num_runs"]) == ("inference", 0.0, 1)
        assert row["saved_bytes"] == 0  # nothing is kept without gradients


def test_what_earlier_stages_left_counts() -> None:
    rows = rows_of(Branches(), torch.randn(N, D), training=False)
    # One map; then both; then the joined copy (two maps wide) and the output. The list of both
    # maps is gone by the time the last layer runs, so it holds 2 + 1.
    assert [row["pam_mean"] / BYTES for row in rows] == [1, 2, 3]  # type: ignore[operator]


def test_a_storage_is_kept_by_the_stage_that_saves_it_first() -> None:
    rows = rows_of(Branches(), torch.randn(N, D), training=True)
    # The branches save their input, which was there before; the joining layer saves the copy.
    assert [row["saved_bytes"] / BYTES for row in rows] == [0, 0, 2]  # type: ignore[operator]


def test_a_layer_that_runs_twice_has_one_row_and_both_outputs() -> None:
    rows = rows_of(Twice(), torch.randn(N, D), training=True)
    assert [row["stage_name"] for row in rows] == ["layer"]
    assert rows[0]["output_bytes"] == 2 * BYTES
    # Of the two inputs that are saved, the first was there before.
    assert rows[0]["saved_bytes"] == BYTES


def test_hooks_are_gone_afterwards_even_when_the_pass_fails() -> None:
    model = Branches()
    rows_of(model, torch.randn(N, D), training=True)
    with pytest.raises(RuntimeError):
        rows_of(model, torch.randn(N, D + 1), training=True)
    for part in model.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def test_gradients_are_switched_on_and_off_by_the_mode_alone() -> None:
    seen: list[bool] = []
    model = Branches()
    model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    with torch.no_grad():
        rows = rows_of(model, torch.randn(N, D), training=True)
    # Training takes a second pass for what is kept, and keeps it wherever it is called from.
    assert seen == [True, True]
    assert rows[-1]["saved_bytes"] == 2 * BYTES
    rows_of(model, torch.randn(N, D), training=False)
    assert seen == [True, True, False]
