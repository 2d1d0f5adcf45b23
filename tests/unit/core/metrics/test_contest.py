"""Models against each other: by hand, against scipy, and when nothing may be claimed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.contest import hold_contest

RNG = np.random.default_rng(0)
PEOPLE = [f"p{i}" for i in range(20)]
BASE = RNG.uniform(0.4, 0.6, 20)


def test_differences_carry_interval_and_corrected_p() -> None:
    scores = {
        "a": BASE + RNG.normal(0.05, 0.01, 20),
        "b": BASE,
        "c": BASE + RNG.normal(0, 0.01, 20),
    }
    found = hold_contest("dice_wt", scores, PEOPLE)
    pairs = {(d.test.first, d.test.second): d for d in found.differences}
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")}
    for (first, second), each in pairs.items():
        difference = scores[first] - scores[second]
        assert each.mean == pytest.approx(difference.mean())
        assert each.test.p == pytest.approx(wilcoxon(difference).pvalue)
        assert each.ci95 is not None
        # The percentile interval of a mean of 20 lies near mean +- 2 SE.
        half = 1.96 * difference.std(ddof=1) / np.sqrt(20)
        assert each.ci95 == pytest.approx(
            (difference.mean() - half, difference.mean() + half), abs=0.5 * half
        )
    # Holm by hand: times 3, 2 and 1 from the smallest on, and never falling.
    raw, corrected = zip(*sorted((d.test.p, d.test.p_holm) for d in found.differences), strict=True)
    steps = np.maximum.accumulate([3 * raw[0], 2 * raw[1], raw[2]])
    assert corrected == pytest.approx(tuple(np.minimum(1, steps)))


def test_the_best_is_named_only_where_its_interval_parts_from_all() -> None:
    near = {"a": BASE + 0.01, "b": BASE}
    # Every case differs by the same 0.01: the pairing sees it, the models' own intervals overlap.
    found = hold_contest("dice_wt", near, PEOPLE)
    assert found.differences[0].test.p_holm < 0.001
    assert found.best is None
    far = {"a": BASE, "b": BASE + 0.3, "c": BASE + 0.01}
    assert hold_contest("dice_wt", far, PEOPLE).best == "b"
    assert hold_contest("hd95_wt", far, PEOPLE).best is None  # a and c are alike
    assert hold_contest("hd95_wt", {"a": BASE, "b": BASE + 0.3}, PEOPLE).best == "a"
    assert hold_contest("unheard_of", far, PEOPLE).best is None


def test_undefined_cases_take_no_part() -> None:
    holes = BASE.copy()
    holes[:5] = np.nan
    found = hold_contest("dice_et", {"a": holes, "b": BASE - 0.1}, PEOPLE)
    assert found.differences[0].test.n == 15
    assert found.differences[0].mean == pytest.approx(0.1)
    assert found.means["a"] == pytest.approx(np.nanmean(holes))


def test_cases_of_one_person_are_drawn_together() -> None:
    twice = {"a": np.repeat(BASE, 2), "b": np.repeat(BASE - RNG.normal(0.1, 0.05, 20), 2)}
    owners = [name for name in PEOPLE for _ in range(2)]
    single = {name: values[::2] for name, values in twice.items()}
    doubled = hold_contest("dice_wt", twice, owners).differences[0]
    once = hold_contest("dice_wt", single, PEOPLE).differences[0]
    # A copy of every case must not narrow the interval.
    assert doubled.ci95 == pytest.approx(once.ci95)


def test_too_few_people_and_other_lengths() -> None:
    few = hold_contest("dice_wt", {"a": [0.5, 0.6], "b": [0.1, 0.2]}, ["x", "y"])
    assert few.differences[0].ci95 is None
    assert few.best is None
    with pytest.raises(NeuroError, match="different numbers"):
        hold_contest("dice_wt", {"a": [0.5], "b": [0.1, 0.2]}, ["x"])
