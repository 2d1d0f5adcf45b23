"""Matching of people: exact columns, calipers, ratios, trimming, and what is left over."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurocli.core.cohort import matching
from neurocli.core.cohort.matching import Matched, MatchPlan, match_people, pooled_sd
from neurocli.core.errors import UsageError

N = 120
IDS = [f"p{i:03}" for i in range(N)]


def cohort(seed: int = 0, share: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    treated = rng.random(N) < share
    return (rng.normal(treated * 0.5, 1) * 1e9).astype(np.int64), treated


def sound(found: Matched, position: np.ndarray, treated: np.ndarray) -> None:
    assert treated[found.treated_M].all()
    assert not treated[found.control_M].any()
    gaps = np.abs(position[found.treated_M] - position[found.control_M])
    assert (gaps == found.distance_M).all()
    if found.cap is not None:
        assert (gaps <= found.cap).all()


PLANS = [
    MatchPlan(method, order, caliper, ratio=ratio, replace=replace)
    for method, order, caliper, ratio, replace in itertools.product(
        ("optimal", "nearest"), ("largest", "closest", "random"), (None, 0.1), (1, 2), (False, True)
    )
]


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_pairs_treated_with_controls(plan: MatchPlan) -> None:
    position, treated = cohort()
    found = match_people(position, treated, plan, ids=IDS)
    sound(found, position, treated)
    assert len(set(zip(found.treated_M.tolist(), found.control_M.tolist(), strict=True))) == len(
        found.treated_M
    )
    most = np.bincount(found.treated_M).max()
    assert most <= plan.ratio
    if not plan.replace:
        assert len(np.unique(found.control_M)) == len(found.control_M)
    alone = int(treated.sum()) - len(np.unique(found.treated_M))
    assert sum(found.reasons.values()) == alone


@pytest.mark.parametrize("caliper", [None, 0.2, 0.02])
def test_optimal_is_never_worse_than_nearest(caliper: float | None) -> None:
    for seed in range(20):
        position, treated = cohort(seed)
        found = {
            method: match_people(position, treated, MatchPlan(method, caliper=caliper), ids=IDS)
            for method in ("optimal", "nearest")
        }
        n, m = (len(found[method].treated_M) for method in ("optimal", "nearest"))
        assert n >= m
        if n == m:
            assert found["optimal"].distance_M.sum() <= found["nearest"].distance_M.sum()


@pytest.mark.parametrize("method", ["optimal", "nearest"])
def test_exact_columns_are_equal_in_every_pair(method: str) -> None:
    position, treated = cohort()
    levels = [("abc"[i % 3], "xy"[i // 60]) for i in range(N)]
    found = match_people(position, treated, MatchPlan(method), ids=IDS, exact_S=levels)
    sound(found, position, treated)
    assert all(
        levels[t] == levels[c] for t, c in zip(found.treated_M, found.control_M, strict=True)
    )
    lonely = [("own", str(i)) if treated[i] else ("other", "") for i in range(N)]
    none = match_people(position, treated, MatchPlan(method), ids=IDS, exact_S=lonely)
    assert len(none.treated_M) == 0
    assert none.reasons == {"no control with the same exact values": int(treated.sum())}


@pytest.mark.parametrize("method", ["optimal", "nearest"])
@pytest.mark.parametrize("replace", [False, True])
def test_calipers_of_columns_are_in_their_own_units(method: str, replace: bool) -> None:
    position, treated = cohort()
    age = np.random.default_rng(1).integers(20, 60, N).astype(float)
    age[::10] = np.nan
    plan = MatchPlan(method, caliper=None, calipers={"age": 2.0}, replace=replace)
    found = match_people(position, treated, plan, ids=IDS, values={"age": age})
    sound(found, position, treated)
    assert len(found.treated_M)
    # A missing age pairs nobody.
    assert (np.abs(age[found.treated_M] - age[found.control_M]) <= 2).all()


def test_an_optimal_matching_that_needs_too_large_a_table_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matching, "_MOST_CELLS", 10)
    position, treated = cohort()
    plan = MatchPlan(calipers={"age": 2.0})
    with pytest.raises(UsageError, match="too many for an optimal matching") as caught:
        match_people(position, treated, plan, ids=IDS, values={"age": np.ones(N)})
    assert "--match nearest" in str(caught.value.hint)


def test_common_support_trims_by_the_other_class() -> None:
    position = np.array([0, 10, 20, 5, 15, 25]) * 10
    treated = np.array([True, True, True, False, False, False])
    ids = list("abcdef")
    both = match_people(position, treated, MatchPlan(caliper=None, discard="both"), ids=ids)
    # Treated range 0..200, controls 50..250: the first treated and the last control are outside.
    assert both.reasons == {
        "treated outside the common support": 1,
        "controls outside the common support": 1,
    }
    assert 0 not in both.treated_M.tolist()
    assert 5 not in both.control_M.tolist()
    one = match_people(position, treated, MatchPlan(caliper=None, discard="treated"), ids=ids)
    assert one.reasons == {"treated outside the common support": 1}


def test_the_caliper_is_in_pooled_deviations() -> None:
    position, treated = cohort()
    one, other = position[treated] / 1e9, position[~treated] / 1e9
    expected = 0.3 * np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2) * 1e9
    assert pooled_sd(position, treated) * 0.3 == pytest.approx(expected)
    found = match_people(position, treated, MatchPlan(caliper=0.3), ids=IDS)
    assert found.cap == pytest.approx(expected, rel=1e-8)


def test_random_turns_follow_ids_and_seed() -> None:
    position, treated = cohort(share=0.5)
    plans = [MatchPlan("nearest", "random", None, seed=seed) for seed in (1, 1, 2)]
    pairs = [
        list(zip(*(side.tolist() for side in (m.treated_M, m.control_M)), strict=True))
        for m in (match_people(position, treated, plan, ids=IDS) for plan in plans)
    ]
    assert pairs[0] == pairs[1]
    assert pairs[0] != pairs[2]


def test_more_treated_than_controls_leaves_some_without() -> None:
    position, treated = cohort(share=0.7)
    n_controls = int((~treated).sum())
    for method in ("optimal", "nearest"):
        found = match_people(position, treated, MatchPlan(method, caliper=None), ids=IDS)
        sound(found, position, treated)
        assert len(found.treated_M) == n_controls
        assert found.reasons == {"too few controls": int(treated.sum()) - n_controls}
