"""Whole-cohort retrieval against slow, obvious versions; ties are told by counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, rankdata

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.retrieval import (
    Ranks,
    Scorer,
    benjamini_hochberg,
    equal_rows,
    null_test,
    random_order_metrics,
    rank_own_keys,
    retrieval_metrics,
)


def random_scorer(n: int = 40, width: int = 5, seed: int = 0) -> Scorer:
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((n, width))
    return Scorer(keys + rng.standard_normal((n, width)), keys)


def slow_ranks(scores: np.ndarray) -> tuple[list[int], list[int]]:
    """Count for each row what scores above and what ties with its own column."""
    above, ties = [], []
    for i, row in enumerate(scores):
        above.append(sum(value > row[i] for value in row))
        ties.append(sum(value == row[i] for value in row) - 1)
    return above, ties


def test_ranks_equal_those_of_counting() -> None:
    scorer = random_scorer()
    above, ties = slow_ranks(scorer.queries @ scorer.keys.T)
    found = rank_own_keys(scorer)
    assert found.above.tolist() == above
    assert found.ties.tolist() == ties
    assert found.n_classes == found.n_keys == 40


@pytest.mark.parametrize("chunk", [1, 3, 7, 39, 40, 4096])
def test_chunks_do_not_matter(chunk: int) -> None:
    scorer = random_scorer()
    whole, cut = rank_own_keys(scorer), rank_own_keys(scorer, chunk=chunk)
    assert np.array_equal(whole.above, cut.above)
    assert np.array_equal(whole.ties, cut.ties)


def test_a_perfect_predictor_of_six_classes_reaches_six_over_n() -> None:
    # 500 people, six distinct vectors: by random order within a class, R@1 is 6/500 = 0.012.
    classes = np.arange(500) % 6
    vectors = np.eye(6)[classes]
    ranks = rank_own_keys(Scorer(vectors * 3, vectors))
    assert ranks.ceiling_r_at_1 == 6 / 500
    assert ranks.columns()["r_at_1"].mean() == pytest.approx(0.012, abs=1e-12)
    assert retrieval_metrics(ranks.columns())["r_at_1"] <= ranks.ceiling_r_at_1 + 1e-12


def test_ties_do_not_depend_on_where_keys_lie() -> None:
    # A product of equal keys may differ in its last bit from place to place.
    rng = np.random.default_rng(2)
    keys = rng.standard_normal((7, 513))[np.arange(301) % 7]
    ranks = rank_own_keys(Scorer(rng.standard_normal((301, 513)), keys))
    assert set(ranks.ties.tolist()) == {42}
    assert ranks.n_classes == 7


def test_classes_may_be_given() -> None:
    rng = np.random.default_rng(3)
    keys = rng.standard_normal((10, 4))
    classes = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    ranks = rank_own_keys(Scorer(keys, keys, classes))
    assert ranks.ties.tolist() == [1] * 10
    assert ranks.ceiling_r_at_1 == 0.5


@pytest.mark.parametrize(("above", "ties"), [(0, 0), (0, 3), (2, 1), (4, 0), (3, 4)])
def test_expected_values_over_random_order(above: int, ties: int) -> None:
    # Oracle: all orders of the tied keys, each as likely.
    ranks = Ranks(np.array([above]), np.array([ties]), 12, 12)
    places = [above + 1 + place for place in range(ties + 1)]
    columns = ranks.columns()
    for k in (1, 5, 10):
        expected = np.mean([place <= k for place in places])
        assert columns[f"r_at_{k}"][0] == pytest.approx(expected)
    assert columns["mrr"][0] == pytest.approx(np.mean([1 / place for place in places]))
    assert columns["rank"][0] == pytest.approx(np.mean(places))
    assert columns["percentile"][0] == pytest.approx(1 - (np.mean(places) - 1) / 11)


def test_metrics_of_known_ranks() -> None:
    ranks = Ranks(np.array([0, 1, 9, 4]), np.zeros(4, dtype=np.int64), 10, 10)
    found = retrieval_metrics(ranks.columns())
    assert found["r_at_1"] == 0.25
    assert found["r_at_5"] == 0.75
    assert found["r_at_10"] == 1.0
    assert found["median_rank"] == 3.5
    assert found["mean_rank"] == 4.5
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 5) / 4)


def test_strata_narrow_the_candidates() -> None:
    scorer = random_scorer(30, seed=4)
    strata = np.arange(30) % 3
    found = rank_own_keys(scorer, allowed=strata)
    scores = scorer.queries @ scorer.keys.T
    for i in range(30):
        own = scores[i][strata == strata[i]]
        assert found.above[i] == (own > scores[i, i]).sum()


def test_random_order_is_what_random_scores_give() -> None:
    rng = np.random.default_rng(5)
    values = [
        retrieval_metrics(
            rank_own_keys(Scorer(rng.standard_normal((20, 30)), np.eye(20, 30))).columns()
        )
        for _ in range(400)
    ]
    chance = random_order_metrics(20)
    for name in ("r_at_1", "r_at_5", "mrr", "percentile"):
        mean = np.mean([value[name] for value in values])
        error = np.std([value[name] for value in values]) / 20
        assert abs(mean - chance[name]) < 4 * error, name


def test_unusable_inputs_are_refused() -> None:
    with pytest.raises(NeuroError, match="3 queries and 2 keys"):
        rank_own_keys(Scorer(np.zeros((3, 2)), np.zeros((2, 2))))
    with pytest.raises(NeuroError, match="0 queries"):
        rank_own_keys(Scorer(np.zeros((0, 2)), np.zeros((0, 2))))
    with pytest.raises(NeuroError, match="not finite"):
        rank_own_keys(Scorer(np.full((2, 2), np.nan), np.eye(2)))


def test_the_null_has_the_exact_moments() -> None:
    # Oracle: all 720 pairings of six people.
    rng = np.random.default_rng(6)
    first, second = rng.standard_normal((2, 6, 3))
    scores = first @ second.T
    table = (rankdata(-scores, axis=1) + rankdata(-scores.T, axis=1).T) / 2
    rows = np.arange(6)
    means = [table[rows, list(order)].mean() for order in itertools.permutations(range(6))]
    expected = (np.mean(means) - np.trace(table) / 6) / np.std(means)
    found = null_test(Scorer(first, second), Scorer(second, first))
    assert found.z == pytest.approx(expected, rel=1e-9)
    assert found.n == 6


def test_permutations_agree_with_the_exact_null() -> None:
    scorer = random_scorer(60, seed=7)
    back = Scorer(scorer.keys, scorer.queries)
    weak = Scorer(np.random.default_rng(8).standard_normal((60, 5)), scorer.keys)
    strong = null_test(scorer, back, n_permutations=200)
    assert strong.p_value < 1e-6
    assert strong.p_permutation == pytest.approx(1 / 201)
    found = null_test(weak, Scorer(weak.keys, weak.queries), n_permutations=2000)
    assert found.p_permutation == pytest.approx(found.p_value, abs=0.04)


def test_p_values_of_nothing_are_uniform() -> None:
    rng = np.random.default_rng(9)
    found = []
    for _ in range(300):
        first, second = rng.standard_normal((2, 40, 4))
        found.append(null_test(Scorer(first, second), Scorer(second, first)).p_value)
    # Of 300 uniform values the distance is above 0.094 once in a hundred times.
    assert kstest(found, "uniform").statistic < 0.094


def test_no_information_gives_p_one() -> None:
    flat = np.ones((10, 2))
    found = null_test(Scorer(flat, flat), Scorer(flat, flat), n_permutations=10)
    assert found.p_value == 1.0
    assert found.p_permutation == 1.0
    assert found.z == 0.0


def test_tied_tables_use_middle_ranks() -> None:
    keys = np.array([[1.0], [1.0], [2.0], [2.0], [5.0]])
    queries = np.array([[1.0], [-1.0], [1.0], [3.0], [2.0]])
    found = null_test(Scorer(queries, keys), Scorer(keys, queries))
    table = rankdata(-(queries @ keys.T), axis=1)
    table = (table + rankdata(-(keys @ queries.T), axis=1).T) / 2
    rows = np.arange(5)
    means = [table[rows, list(order)].mean() for order in itertools.permutations(range(5))]
    assert found.z == pytest.approx((np.mean(means) - np.trace(table) / 5) / np.std(means))


def test_false_discovery_rates_of_a_known_list() -> None:
    # The worked example of Benjamini and Hochberg (1995): 15 tests, four of them below 0.05.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    q = benjamini_hochberg(p)
    assert (q < 0.05).sum() == 4
    assert q[3] == pytest.approx(0.0095 * 15 / 4)


def test_false_discovery_rates_keep_the_order() -> None:
    p = np.random.default_rng(10).random(50)
    q = benjamini_hochberg(p)
    assert (np.diff(q[np.argsort(p)]) >= 0).all()
    assert (q >= p).all()
    assert (q <= 1).all()


def test_false_discoveries_are_rare_when_there_is_nothing() -> None:
    rng = np.random.default_rng(11)
    hits = sum(bool((benjamini_hochberg(rng.random(100)) < 0.05).any()) for _ in range(400))
    # 5 % expected; 400 draws have a standard error of 1.1 %.
    assert hits / 400 < 0.09


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_equal_rows_have_equal_numbers(dtype: type) -> None:
    rng = np.random.default_rng(12)
    rows = rng.integers(0, 3, (200, 5)).astype(dtype)
    found = equal_rows(rows)
    _, expected = np.unique(rows, axis=0, return_inverse=True)
    same = found[:, None] == found[None, :]
    assert np.array_equal(same, expected.ravel()[:, None] == expected.ravel()[None, :])


def test_rows_that_differ_in_one_bit_differ() -> None:
    rows = np.zeros((2, 9), dtype=np.float32)
    rows[1, 8] = np.nextafter(np.float32(0), np.float32(1))
    first, second = equal_rows(rows)
    assert first != second


def test_swapped_numbers_differ() -> None:
    first, second = equal_rows(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert first != second
