"""Times are those of the timed calls only."""

from __future__ import annotations

import time

import pytest
import torch

from neurocli.core.cost.latency import Latency, time_calls

CPU = torch.device("cpu")


def test_record_against_hand_counts() -> None:
    record = Latency((1.0, 2.0, 6.0), n_warmup=2, n_threads=3).record()
    # Sample standard deviation of 1, 2, 6: sqrt((4 + 1 + 9) / 2).
    assert record == {
        "median": 2.0,
        "mean": 3.0,
        "std": pytest.approx(7**0.5),
        "min": 1.0,
        "runs": 3,
        "warmup": 2,
        "threads": 3,
    }
    assert Latency((5.0,), 0, 1).record()["std"] == 0.0


def test_warm_up_is_called_and_not_timed() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.2 if calls <= 2 else 0.005)

    latency = time_calls(call, runs=3, device=CPU)
    assert calls == 5
    assert len(latency.times_ms) == 3
    assert all(4 < value < 150 for value in latency.times_ms)
    assert latency.n_threads == torch.get_num_threads()
