"""Windows, against the nested ranges of their definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurocli.core.data.windows import window_frames, window_starts
from neurocli.core.errors import UsageError


@pytest.mark.parametrize(
    ("n_frames", "length", "within", "between"),
    itertools.product((0, 1, 16, 40, 121), (1, 8, 20), (1, 2, 3), (0.1, 0.5, 1.0, 1.8)),
)
def test_starts_follow_the_definition(n_frames, length, within, between):
    span = length * within
    step = max(round(between * span), 1)
    expected = []
    for phase in range(within):
        expected += list(range(phase, n_frames - span + 1, step))
    found = window_starts(n_frames, length, stride_within=within, stride_between=between)
    assert found == expected
    for start in found:
        frames = np.arange(n_frames)[window_frames(start, length, within)]
        np.testing.assert_array_equal(frames, start + within * np.arange(length))


def test_short_runs_have_none_and_a_fitting_one_has_one():
    assert window_starts(16, 20) == []
    assert window_starts(20, 20) == [0]
    assert window_starts(20, 10, stride_within=2) == [0]


def test_the_number_is_bounded():
    assert window_starts(100, 10, max_windows=3) == [0, 10, 20]
    assert window_starts(100, 10, stride_within=2, max_windows=3) == [0, 20, 40]
    assert len(window_starts(100, 10, max_windows=99)) == 10


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"length": 0}, "length"),
        ({"stride_within": 0}, "stride_within"),
        ({"stride_between": 0.0}, "stride_between"),
        ({"stride_between": float("nan")}, "stride_between"),
        ({"max_windows": 0}, "max_windows"),
    ],
)
def test_arguments_out_of_range_are_named(options, name):
    arguments = {"length": 8, **options}
    with pytest.raises(UsageError, match=f"{name} is"):
        window_starts(40, arguments.pop("length"), **arguments)
