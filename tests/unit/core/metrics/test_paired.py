"""McNemar's exact test of right and wrong answers, against a count of all outcomes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from neurocli.core.metrics.paired import paired_tests


def _by_enumeration(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of all 2^n ways to toss the discordant cases that is as rare or rarer."""
    alone = int((first > second).sum()), int((first < second).sum())
    n = sum(alone)
    far = [
        abs(sum(tosses) - n / 2) >= abs(alone[0] - n / 2)
        for tosses in itertools.product((0, 1), repeat=n)
    ]
    return sum(far) / len(far)


@pytest.mark.parametrize("seed", range(5))
def test_right_and_wrong_are_judged_by_mcnemars_exact_test(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = (random.random(24) < 0.8).astype(float)
    second = (random.random(24) < 0.5).astype(float)
    found = paired_tests({"a": first, "b": second})[0]
    assert (found.test, found.n) == ("mcnemar", 24)
    assert found.p == pytest.approx(_by_enumeration(first, second), abs=1e-12)


def test_undefined_cases_take_no_part_and_equal_models_have_no_p() -> None:
    first, second = np.array([1, 1, 0, 1, np.nan]), np.array([0, 1, 0, 1, 0])
    found = paired_tests({"a": first, "b": second})[0]
    assert (found.test, found.n, found.p) == ("mcnemar", 4, 1.0)
    assert math.isnan(paired_tests({"a": second, "b": second})[0].p)
    # One score between right and wrong makes ranks of them.
    assert paired_tests({"a": first / 2, "b": second})[0].test == "wilcoxon"
