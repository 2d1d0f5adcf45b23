"""Ids as programs write them; the pairs below are what a careful person would say."""

from __future__ import annotations

import pytest

from neurocli.core.errors import UsageError
from neurocli.systems.genes.ids import (
    canonical,
    guessed_reason,
    is_withdrawn,
    match_ids,
    shown,
    whole_number,
    without_session,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234567", "1234567"),
        (" 1234567 ", "1234567"),
        ("1234567\r", "1234567"),
        ("\ufeff1234567", "1234567"),
        ('"1234567"', "1234567"),
        ("'1234567'", "1234567"),
        ("sub-1234567", "1234567"),
        ("1234567_1234567", "1234567"),
        ("sub-1234567_1234567", "1234567"),
        ("FAM1_IID1", "FAM1_IID1"),
        ("a_b", "a_b"),
        ("A_A_A", "A_A_A"),
        ("", ""),
    ],
)
def test_what_programs_add_is_taken_off(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234567", 1234567),
        ("0001234567", 1234567),
        ("1234567.0", 1234567),
        ("1234567.", 1234567),
        ("1.234567e6", 1234567),
        ("1.234567E+6", 1234567),
        ("+1234567", 1234567),
        ("-5", -5),
        ("90071992547409931", 90071992547409931),
        ("1234567.5", None),
        ("12a", None),
        ("0x10", None),
        ("1e999", None),
        ("nan", None),
        ("", None),
        ("١٢", None),
    ],
)
def test_whole_numbers(text: str, expected: int | None) -> None:
    assert whole_number(text) == expected


def test_digits_beyond_a_float_are_kept() -> None:
    # 2^53 + 1 and 2^53 are the same float64.
    assert whole_number("9007199254740993") != whole_number("9007199254740992")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234567_2", "1234567"),
        ("1234567_2_0", "1234567"),
        ("1234567-3", "1234567"),
        ("1234567_ses-03", "1234567"),
        ("1234567_i2", "1234567"),
        ("1234567", None),
        ("1234567_baseline", None),
    ],
)
def test_sessions(text: str, expected: str | None) -> None:
    assert without_session(text) == expected


def test_negative_ids_withdrew() -> None:
    assert is_withdrawn("-12")
    assert not is_withdrawn("12")
    assert not is_withdrawn("a-12")


def test_the_same_texts_match_exactly() -> None:
    found = match_ids(["a", "b", "c"], ["c", "a", "x"])
    assert found.pairs == [(0, 1), (2, 0)]
    assert found.rules == {"exact": 2, "cleaned": 0, "numeric": 0}
    assert found.left == ["b"]
    assert found.right == ["x"]


@pytest.mark.parametrize(
    ("left", "right", "rule"),
    [
        ("1234567", "1234567", "exact"),
        ("sub-1234567", "1234567", "cleaned"),
        ("1234567_1234567", "1234567", "cleaned"),
        ("0001234567", "1234567", "numeric"),
        ("1234567", "1234567.0", "numeric"),
        ("1.234567e6", "1234567", "numeric"),
        ("sub-001", "1", "numeric"),
    ],
)
def test_auto_tries_rule_after_rule(left: str, right: str, rule: str) -> None:
    found = match_ids([left], [right])
    assert found.pairs == [(0, 0)]
    assert {name for name, count in found.rules.items() if count} == {rule}


def test_exact_keeps_leading_zeros_apart() -> None:
    assert match_ids(["007"], ["7"], "exact").pairs == []
    assert match_ids(["007", "7"], ["7", "007"], "exact").pairs == [(0, 1), (1, 0)]


def test_auto_prefers_the_exact_partner() -> None:
    # 007 and 7 are two people here, and both are on both sides.
    found = match_ids(["007", "7"], ["7", "007"])
    assert found.pairs == [(0, 1), (1, 0)]
    assert found.rules["exact"] == 2


@pytest.mark.parametrize("mode", ["auto", "numeric"])
def test_two_ids_that_become_one_are_an_error(mode: str) -> None:
    with pytest.raises(UsageError, match="'007' and '7'"):
        match_ids(["007", "7"], ["0007"], mode)  # type: ignore[arg-type]


def test_numeric_leaves_texts_alone() -> None:
    found = match_ids(["a", "7"], ["a", "7.0"], "numeric")
    assert found.pairs == [(1, 1)]
    assert found.left == ["a"]


def test_counts_and_examples_are_told() -> None:
    found = match_ids(["1", "2", "x"], ["1", "2.0", *"abcdefg"])
    told = found.told("latents", "APOE")
    assert told.startswith("2 people matched (1 exact, 1 numeric)")
    assert "1 of latents have no partner: x" in told
    assert "7 of APOE have no partner: a, b, c, d, e, ..." in told


def test_nobody_matched_is_told() -> None:
    assert match_ids(["a"], ["b"]).told("x", "y").startswith("0 people matched (none)")


def test_five_ids_are_shown() -> None:
    assert shown(["a"]) == "a"
    assert shown("abcdef") == "a, b, c, d, e, ..."


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (["0012"], ["12"], "numbers"),
        (["1234_2"], ["1234"], "sessions"),
        (["ukb_1234"], ["1234"], "'ukb_1234' holds '1234'"),
        (["12345"], ["678"], "5 signs on one side and 3"),
        (["111"], ["222"], "different people"),
    ],
)
def test_the_likeliest_reason_is_guessed(left: list[str], right: list[str], reason: str) -> None:
    assert reason in guessed_reason(left, right)


def test_order_does_not_matter() -> None:
    ids = [str(i) for i in range(50)]
    forward = match_ids(ids, ids[::-1])
    assert forward.pairs == [(i, 49 - i) for i in range(50)]
