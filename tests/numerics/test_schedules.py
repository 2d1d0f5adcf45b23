"""Learning rates against the family's own scheduler (golden file lr_schedules.npz, float64)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.optim import Schedule, build_schedule
from neurocli.core.errors import UsageError


@pytest.mark.parametrize("name", ["restarts_mult2_gamma05", "restarts_mult1", "restarts_nowarmup"])
def test_restarts_equal_the_reference(golden: Path, name: str) -> None:
    with np.load(golden / "lr_schedules.npz") as file:
        wanted, cfg = file[name], file[f"{name}.cfg"]
    first, growth, peak, lowest, warmup, gamma = (float(value) for value in cfg)
    schedule = Schedule(
        int(first), int(warmup), lowest / peak, gamma=gamma, growth=growth, starts_low=True
    )
    found = np.array([peak * schedule.factor(step) for step in range(len(wanted))])
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=0)


def test_warmup_cosine_equals_the_reference(golden: Path) -> None:
    with np.load(golden / "lr_schedules.npz") as file:
        wanted = file["warmup_cosine_w10_restart50"]
    # The reference reaches zero at step 50 and starts again there, hence one step of grace.
    schedule = Schedule(50, 10, 0.0)
    found = [1e-3 * schedule.factor(step) for step in range(50)]
    np.testing.assert_allclose(found, wanted[:50], rtol=1e-7, atol=1e-18)


def test_cosine_against_the_closed_form() -> None:
    train = TrainBlock(schedule="cosine", warmup=0.1, min_lr_ratio=0.01)
    schedule = build_schedule(train, 200)
    for step in range(200):
        if step < 20:
            wanted = 0.01 + 0.99 * step / 20
        else:
            wanted = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - 20) / 180))
        assert schedule.factor(step) == pytest.approx(wanted, rel=1e-14)


def test_constant_warms_up_and_stays() -> None:
    schedule = build_schedule(TrainBlock(schedule="constant", warmup=0.5, min_lr_ratio=0.0), 8)
    assert [schedule.factor(step) for step in range(8)] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


def test_short_run_without_warmup_starts_at_the_peak() -> None:
    assert build_schedule(TrainBlock(warmup=0.05), 1).factor(0) == 1.0


def test_restarts_of_a_configuration() -> None:
    train = TrainBlock(schedule="cosine_restarts", warmup=0.05, restart_cycle=0.25)
    schedule = build_schedule(train, 400)
    assert (schedule.n_first, schedule.n_warmup) == (100, 20)
    # C_1 = (100 - 20) * 2 + 20: the peak of the second cycle is at 100 + 20, halved by gamma.
    assert schedule.factor(120) == pytest.approx(0.5)
    assert schedule.factor(100) == pytest.approx(train.min_lr_ratio)
    assert schedule.factor(280) == pytest.approx(train.min_lr_ratio)


def test_warmup_that_fills_the_cycle_is_refused() -> None:
    train = TrainBlock(schedule="cosine_restarts", warmup=0.3, restart_cycle=0.3)
    with pytest.raises(UsageError, match="30 steps leaves nothing of a first cycle of 30"):
        build_schedule(train, 100)


def test_every_group_follows_its_own_peak() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [w], "initial_lr": lr} for w, lr in zip(weights, (1.0, 10.0), strict=True)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    assert Schedule(4).set_rates(optimizer, 2) == pytest.approx(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 5.0])
