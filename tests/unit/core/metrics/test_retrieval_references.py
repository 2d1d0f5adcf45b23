"""Retrieval against loops over keys, scipy, scikit-learn and tables that are counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, rankdata
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.retrieval import (
    Scorer,
    benjamini_hochberg,
    null_test,
    random_order_metrics,
    rank_own_keys,
    retrieval_metrics,
)

RNG = np.random.default_rng(5)
N = 40
QUERIES, KEYS = RNG.standard_normal((2, N, 6))
# Whole numbers, so that inner products tie exactly and often.
COARSE_QUERIES, COARSE_KEYS = RNG.integers(-1, 2, (2, N, 3)).astype(np.float64)


def by_loops(queries: np.ndarray, keys: np.ndarray) -> tuple[list[int], list[int]]:
    """Count for each query the keys above its own and the other keys that tie with it."""
    above, ties = [], []
    for i, query in enumerate(queries):
        own = float(query @ keys[i])
        scores = [float(query @ key) for key in keys]
        above.append(sum(score > own for score in scores))
        ties.append(sum(score == own for score in scores) - 1)
    return above, ties


def test_a_table_counted_by_hand() -> None:
    # Inner products of one-number queries 1, 1, -1 with keys 3, 1, 2:
    # query 0: own 3, others 1 and 2 -> first; query 1: own 1, others 3 and 2 -> third;
    # query 2: own -2, others -3 and -1 -> second.
    ranks = rank_own_keys(Scorer(np.array([[1.0], [1], [-1]]), np.array([[3.0], [1], [2]])))
    assert ranks.mid.tolist() == [1, 3, 2]
    metrics = retrieval_metrics(ranks.columns())
    assert metrics["r_at_1"] == pytest.approx(1 / 3)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert metrics["percentile"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert metrics["median_rank"] == 2
    assert ranks.ceiling_r_at_1 == 1


def test_ties_counted_by_hand() -> None:
    # Keys 1, 1, 0 and every query 1: two keys share places 1 and 2, the third is alone on 3.
    ranks = rank_own_keys(Scorer(np.ones((3, 1)), np.array([[1.0], [1], [0]])))
    assert ranks.above.tolist() == [0, 0, 2]
    assert ranks.ties.tolist() == [1, 1, 0]
    assert ranks.mid.tolist() == [1.5, 1.5, 3]
    columns = ranks.columns()
    assert columns["r_at_1"].tolist() == [0.5, 0.5, 0]
    # The mean of 1/1 and 1/2 for those who share, 1/3 for the last.
    assert columns["mrr"] == pytest.approx([0.75, 0.75, 1 / 3])
    assert ranks.ceiling_r_at_1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_many_ties_equal_those_of_loops(chunk: int) -> None:
    found = rank_own_keys(Scorer(COARSE_QUERIES, COARSE_KEYS), chunk=chunk)
    above, ties = by_loops(COARSE_QUERIES, COARSE_KEYS)
    assert sum(ties) > N  # the example does have ties
    assert found.above.tolist() == above
    assert found.ties.tolist() == ties


def test_middle_ranks_are_scipys() -> None:
    scores = COARSE_QUERIES @ COARSE_KEYS.T
    expected = rankdata(-scores, axis=1)[np.arange(N), np.arange(N)]
    assert rank_own_keys(Scorer(COARSE_QUERIES, COARSE_KEYS)).mid.tolist() == expected.tolist()


@pytest.mark.parametrize("k", [1, 5, 10])
def test_hits_are_scikit_learns_where_nothing_ties(k: int) -> None:
    scores = QUERIES @ KEYS.T
    expected = top_k_accuracy_score(np.arange(N), scores, k=k, labels=np.arange(N))
    found = retrieval_metrics(rank_own_keys(Scorer(QUERIES, KEYS)).columns())
    assert found[f"r_at_{k}"] == pytest.approx(expected, abs=1e-12)


def test_reciprocal_ranks_are_scikit_learns_where_nothing_ties() -> None:
    # With one relevant key per query the mean average precision is the mean reciprocal rank.
    expected = label_ranking_average_precision_score(np.eye(N), QUERIES @ KEYS.T)
    found = retrieval_metrics(rank_own_keys(Scorer(QUERIES, KEYS)).columns())
    assert found["mrr"] == pytest.approx(expected, abs=1e-12)


def test_people_in_another_order_have_the_same_ranks() -> None:
    order = RNG.permutation(N)
    for queries, keys in ((QUERIES, KEYS), (COARSE_QUERIES, COARSE_KEYS)):
        plain = rank_own_keys(Scorer(queries, keys)).mid
        assert rank_own_keys(Scorer(queries[order], keys[order])).mid.tolist() == (
            plain[order].tolist()
        )


def test_strata_equal_a_run_per_stratum() -> None:
    strata = np.arange(N) % 3
    found = rank_own_keys(Scorer(COARSE_QUERIES, COARSE_KEYS), allowed=strata, chunk=11)
    for stratum in range(3):
        at = strata == stratum
        alone = rank_own_keys(Scorer(COARSE_QUERIES[at], COARSE_KEYS[at]))
        assert found.above[at].tolist() == alone.above.tolist()
        assert found.ties[at].tolist() == alone.ties.tolist()


def test_one_person_is_always_first() -> None:
    ranks = rank_own_keys(Scorer(np.ones((1, 2)), np.ones((1, 2))))
    assert retrieval_metrics(ranks.columns())["r_at_1"] == 1
    assert (
        null_test(Scorer(np.ones((1, 2)), np.ones((1, 2))), Scorer(*np.ones((2, 1, 2)))).p_value
        == 1
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    queries = QUERIES.copy()
    queries[3, 2] = bad
    with (
        pytest.raises(NeuroError, match="similarity is not finite") as caught,
        np.errstate(invalid="ignore"),
    ):
        rank_own_keys(Scorer(queries, KEYS))
    assert caught.value.where == "ranks"


@pytest.mark.parametrize("n", [1, 3, 12])
def test_random_order_is_the_mean_over_all_places(n: int) -> None:
    places = np.arange(1, n + 1)
    found = random_order_metrics(n)
    for k in (1, 5, 10):
        assert found[f"r_at_{k}"] == pytest.approx((places <= k).mean())
    assert found["mrr"] == pytest.approx((1 / places).mean())
    assert found["mean_rank"] == pytest.approx(places.mean())
    assert found["median_rank"] == pytest.approx(np.median(places))


def rank_table(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    forward = rankdata(-(queries @ keys.T), axis=1)
    backward = rankdata(-(keys @ queries.T), axis=1).T
    return np.asarray((forward + backward) / 2)


@pytest.mark.parametrize("is_coarse", [False, True], ids=["plain", "tied"])
def test_the_null_equals_that_of_all_pairings(is_coarse: bool) -> None:
    n = 6
    queries, keys = (COARSE_QUERIES[:n], COARSE_KEYS[:n]) if is_coarse else (QUERIES[:n], KEYS[:n])
    table = rank_table(queries, keys)
    # All 720 pairings, one after another.
    means = [
        float(np.mean([table[i, j] for i, j in enumerate(order)]))
        for order in itertools.permutations(range(n))
    ]
    expected = (np.mean(means) - np.trace(table) / n) / np.std(means)
    found = null_test(Scorer(queries, keys), Scorer(keys, queries), n_permutations=4000, seed=1)
    assert found.z == pytest.approx(expected, rel=1e-10)
    assert found.p_value == pytest.approx(0.5 * math.erfc(expected / math.sqrt(2)), rel=1e-9)
    share = float(np.mean([mean <= np.trace(table) / n + 1e-12 for mean in means]))
    # Five standard errors of 4000 draws.
    allowed = 5 * math.sqrt(max(share * (1 - share), 1e-4) / 4000) + 1 / 4000
    assert found.p_permutation == pytest.approx(share, abs=allowed)


def test_permutations_follow_their_seed_and_can_never_give_zero() -> None:
    pair = Scorer(QUERIES, QUERIES), Scorer(QUERIES, QUERIES)
    one, again = (null_test(*pair, n_permutations=99, seed=3) for _ in range(2))
    assert one == again
    assert one.p_permutation == pytest.approx(1 / 100)  # a perfect match beats every draw
    assert math.isnan(null_test(*pair).p_permutation)


@pytest.mark.parametrize("seed", range(4))
def test_false_discovery_rates_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.random(30), rng.random(10) ** 6, [0.0, 1.0], [0.02] * 3])
    rng.shuffle(p)
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), rtol=1e-12)


def test_no_test_has_no_rate() -> None:
    assert benjamini_hochberg([]).tolist() == []
    assert benjamini_hochberg([0.3]).tolist() == [0.3]
