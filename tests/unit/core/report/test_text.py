"""Numbers, intervals, names and folders as text (expected texts: written by hand)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocli.core.report.text import (
    interval_text,
    number_text,
    short_cell,
    shortened,
    visible,
    without_folders,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (1419200, "1,419,200"),
        (0.123456, "0.1235"),
        (-0.09667123, "-0.09667"),
        (1e-7, "1e-07"),
        (123456.7, "1.235e+05"),
        (1e20, "1e+20"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_intervals() -> None:
    assert interval_text((0.25, 1.0)) == "[0.25, 1]"
    assert interval_text(None) == ""


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("0.4907912462949753", "0.4908"),
        ("-12.3456789", "-12.35"),
        ("1.23456789e-05", "1.235e-05"),
        ("70.0", "70.0"),
        ("1.2345", "1.2345"),
        ("0012345678901234", "0012345678901234"),
        ("1.2.34567", "1.2.34567"),
        ("sub-1.234567", "sub-1.234567"),
        ("nan", "nan"),
        ("=1.234567", "=1.234567"),
    ],
)
def test_only_long_fractions_are_cut(cell: str, text: str) -> None:
    assert short_cell(cell) == text


def test_long_names_keep_both_ends() -> None:
    name = "fmamba_mlp-classification-20260101-120000-abcdef"
    short = shortened(name)
    assert len(short) == 28
    assert name.startswith(short.partition("\u2026")[0])
    assert name.endswith(short.partition("\u2026")[2])
    assert shortened("short") == "short"


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("/home/ann/h5", "\u2026/h5"),
        ("~/data/h5", "\u2026/h5"),
        ("--data=/home/ann/h5", "--data=\u2026/h5"),
        ("neuro train x -d '/home/ann/my data/h5'", "neuro train x -d '\u2026/my data/h5'"),
        ("file:///home/ann/h5 is gone", "\u2026/h5 is gone"),
        ("C:\\Users\\ann\\h5", "\u2026/h5"),
        ("(/a/b, /c/d)", "(\u2026/b, \u2026/d)"),
        ("runs/first/config.yaml", "runs/first/config.yaml"),
        ("../x/y", "../x/y"),
        ("train/val/test 70/15/15", "train/val/test 70/15/15"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("/", "/"),
    ],
)
def test_absolute_folders_are_cut(text: str, cut: str) -> None:
    assert without_folders(text) == cut


@given(st.text())
def test_visible_text_holds_nothing_that_hides_or_turns(text: str) -> None:
    shown = visible(text)
    assert not {"\x00", "\x1b", "\u202e", "\u2066", "\ufeff"} & set(shown)
    shown.encode("utf-8")
    assert visible(shown) == shown
