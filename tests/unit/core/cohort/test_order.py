"""Orders from hashes, exact shares, the largest remainder and the evenly spread sequence."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocli.core.cohort.order import (
    even_sequence,
    exact,
    hash_key,
    keyed_order,
    largest_remainder,
)
from neurocli.core.errors import UsageError


def test_the_key_is_the_hash_of_seed_and_id() -> None:
    # The definition, by hashlib alone: other programs can reproduce the order.
    assert hash_key(42, "sub-01") == hashlib.sha256(b"42:sub-01").digest()
    assert hash_key(0, "é") == hashlib.sha256("0:é".encode()).digest()


def test_ids_that_are_no_valid_unicode_have_keys() -> None:
    assert hash_key(0, "a\udce9") != hash_key(0, "a\udcea")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=5), unique=True), st.integers(), st.randoms())
def test_keyed_order_forgets_the_given_order(names: list[str], seed: int, chance) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)
    assert keyed_order(shuffled, seed) == keyed_order(names, seed)
    assert sorted(keyed_order(names, seed)) == sorted(names)


def test_seeds_give_unrelated_orders() -> None:
    names = [f"sub-{i:03}" for i in range(200)]
    first, second = (set(keyed_order(names, seed)[:100]) for seed in (1, 2))
    assert 30 <= len(first & second) <= 70  # hypergeometric: mean 50, sd 3.5


def test_shares_are_exact_decimals() -> None:
    assert 1 - exact(0.7) - exact(0.15) == Fraction(3, 20)
    assert 1 - 0.7 - 0.15 != 0.15  # what binary fractions would have made of it
    assert exact(1) == 1


@pytest.mark.parametrize("share", [float("nan"), float("inf"), "much", None])
def test_what_is_no_share_is_named(share) -> None:
    with pytest.raises(UsageError, match="is no share"):
        exact(share)


def test_ninety_people_by_seven_tenths_are_sixty_three() -> None:
    assert int(90 * 0.7) == 62  # the trap
    assert largest_remainder(90, [exact(0.7), exact(0.15), exact(0.15)])[0] == 63


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3000), st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any))
def test_largest_remainder_is_within_one_of_every_quota(n: int, weights: list[int]) -> None:
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    counts = largest_remainder(n, shares)
    assert sum(counts) == n
    assert all(abs(count - n * share) < 1 for count, share in zip(counts, shares, strict=True))
    # No seat may go to a smaller remainder while a larger one goes empty.
    raised = [n * s % 1 for c, s in zip(counts, shares, strict=True) if c > n * s]
    cut = [n * s % 1 for c, s in zip(counts, shares, strict=True) if c < n * s]
    assert not raised or not cut or min(raised) >= max(cut)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=6))
def test_even_sequence_keeps_tijdemans_bound_in_every_prefix(counts: list[int]) -> None:
    sequence = list(even_sequence(counts))
    assert [sequence.count(index) for index in range(len(counts))] == counts
    n, m = sum(counts), len(counts)
    bound = 1 - Fraction(1, max(2 * m - 2, 1))
    for step in range(1, n + 1):
        for index, count in enumerate(counts):
            deviation = abs(sequence[:step].count(index) - Fraction(count * step, n))
            assert deviation <= bound
