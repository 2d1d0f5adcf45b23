"""Bootstrap intervals: closed-form limits, coverage, ownership of rows, determinism, speed."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.classification import accuracy, auroc, balanced_accuracy


def mean_of(rows: dict) -> float:
    return float(np.mean(rows["x"]))


def test_limits_of_a_mean_equal_the_closed_form() -> None:
    # The bootstrap distribution of a mean has sd s_n / sqrt(n); for n = 400 it is close to normal.
    x = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_ci({"x": x}, {"m": mean_of}, n=4000, seed=1)["m"]
    half = 1.96 * x.std() / 20
    assert low == pytest.approx(x.mean() - half, abs=0.08 * half)
    assert high == pytest.approx(x.mean() + half, abs=0.08 * half)


def test_limits_of_a_share_equal_the_binomial() -> None:
    # Resampling a 0/1 column draws from Binomial(n, share): its exact quantiles are known.
    from scipy.stats import binom

    x = np.r_[np.ones(30), np.zeros(70)]
    low, high = bootstrap_ci({"x": x}, {"m": mean_of}, n=4000)["m"]
    assert low == pytest.approx(binom.ppf(0.025, 100, 0.3) / 100, abs=0.011)
    assert high == pytest.approx(binom.ppf(0.975, 100, 0.3) / 100, abs=0.011)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        limits = bootstrap_ci({"x": rng.normal(size=50)}, {"m": mean_of}, n=200, seed=trial)
        low, high = limits["m"]
        covered += low <= 0 <= high
    # Percentile intervals of 50 values cover a little below 95 %; 200 trials have an sd of 1.6 %.
    assert 0.88 <= covered / 200 <= 0.985


def test_rows_of_a_participant_are_drawn_together() -> None:
    # Ten equal rows per person carry one person's worth of evidence, not ten.
    values = np.random.default_rng(1).normal(size=30)
    alone = bootstrap_ci(
        {"x": values}, {"m": mean_of}, participants=[f"p{i:02}" for i in range(30)]
    )
    owners = [f"p{i:02}" for i in range(30) for _ in range(10)]
    many = bootstrap_ci({"x": np.repeat(values, 10)}, {"m": mean_of}, participants=owners)
    assert many["m"] == pytest.approx(alone["m"], rel=1e-12)


def test_unequal_numbers_of_rows_stay_whole() -> None:
    owners = ["a"] * 1 + ["b"] * 5 + ["c"] * 3
    rows = {"owner": np.array([ord(name) for name in owners])}
    seen = set()

    def check(sample: dict) -> float:
        counts = {name: int((sample["owner"] == ord(name)).sum()) for name in "abc"}
        assert counts["b"] % 5 == 0
        assert counts["c"] % 3 == 0
        assert counts["a"] + counts["b"] // 5 + counts["c"] // 3 == 3
        seen.add(tuple(counts.values()))
        return 0.0

    bootstrap_ci(rows, {"check": check}, participants=owners, n=300)
    assert len(seen) == 10  # all multisets of three people out of three


def test_the_order_of_rows_does_not_matter() -> None:
    x = np.random.default_rng(2).integers(0, 2, 40)
    owners = [f"p{i % 13}" for i in range(40)]
    order = np.random.default_rng(3).permutation(40)
    one = bootstrap_ci({"x": x}, {"m": mean_of}, participants=owners, n=100)
    other = bootstrap_ci(
        {"x": x[order]}, {"m": mean_of}, participants=[owners[i] for i in order], n=100
    )
    assert one == other


def test_the_seed_decides_and_nothing_else() -> None:
    x = np.random.default_rng(2).normal(size=20)
    np.random.seed(0)
    one = bootstrap_ci({"x": x}, {"m": mean_of}, n=50, seed=4)
    state = np.random.get_state()[1][:3].tolist()
    np.random.seed(99)
    assert bootstrap_ci({"x": x}, {"m": mean_of}, n=50, seed=4) == one
    assert bootstrap_ci({"x": x}, {"m": mean_of}, n=50, seed=5) != one
    np.random.seed(0)
    assert np.random.get_state()[1][:3].tolist() == state


def test_the_stream_of_draws_is_pinned() -> None:
    # First words of PCG64 seeded with 0 by numpy, modulo 5: numpy promises to keep that stream.
    drawn: list[list[int]] = []

    def record(sample: dict) -> float:
        drawn.append(sample["x"].tolist())
        return 0.0

    bootstrap_ci({"x": np.arange(5)}, {"m": record}, n=1)
    words = np.random.PCG64(0).random_raw(5) % 5
    assert drawn == [[0, 1, 2, 3, 4], words.tolist()]


def test_undefined_metrics_are_absent() -> None:
    rows = {"truth": np.array([0, 0, 0, 0]), "score": np.arange(4.0)}
    metrics = {"auroc": lambda r: auroc(r["truth"], r["score"]), "n": lambda r: 1.0}
    assert bootstrap_ci(rows, metrics, n=20) == {"n": (1.0, 1.0)}
    assert bootstrap_ci({"x": [1.0, 2.0]}, {"m": mean_of}) == {}
    assert bootstrap_ci({"x": [1.0] * 9}, {"m": mean_of}, participants=["a", "b", "b"] * 3) == {}
    assert bootstrap_ci({"x": []}, {"m": mean_of}) == {}


def test_undefined_resamples_are_left_out_up_to_a_half() -> None:
    # One positive among n: a resample lacks it with chance (1 - 1/n)^n, about 0.35 for n = 20.
    rows = {"truth": np.r_[1, np.zeros(19, int)], "score": np.r_[5.0, np.arange(19.0)]}
    found = bootstrap_ci(rows, {"auroc": lambda r: auroc(r["truth"], r["score"])}, n=300)
    assert "auroc" in found

    def mostly_nan(sample: dict) -> float:
        return 1.0 if len(set(sample["x"].tolist())) == 20 or sample["x"][0] == 0 else math.nan

    assert bootstrap_ci({"x": np.arange(20)}, {"m": mostly_nan}, n=300) == {}


def test_bad_arguments_are_named() -> None:
    with pytest.raises(NeuroError, match="different lengths"):
        bootstrap_ci({"x": [1.0, 2.0], "y": [1.0]}, {"m": mean_of})
    with pytest.raises(NeuroError, match="participants"):
        bootstrap_ci({"x": [1.0, 2.0]}, {"m": mean_of}, participants=["a"])
    with pytest.raises(NeuroError, match="n must be 1"):
        bootstrap_ci({"x": [1.0] * 3}, {"m": mean_of}, n=0)
    with pytest.raises(NeuroError, match="seed 0 or more"):
        bootstrap_ci({"x": [1.0] * 3}, {"m": mean_of}, seed=-1)


def test_two_hundred_people_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    rows = {"t": rng.integers(0, 2, 200), "p": rng.integers(0, 2, 200), "s": rng.normal(size=200)}
    metrics = {
        "accuracy": lambda r: accuracy(r["t"], r["p"]),
        "balanced_accuracy": lambda r: balanced_accuracy(r["t"], r["p"]),
        "auroc": lambda r: auroc(r["t"], r["s"]),
    }
    started = time.process_time()
    bootstrap_ci(rows, metrics, participants=[f"p{i}" for i in range(200)])
    assert time.process_time() - started < 1.0
