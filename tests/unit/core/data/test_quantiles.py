"""Exact quantiles: the referee is numpy over all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurocli.core.data.quantiles import RankCounter
from neurocli.core.errors import NeuroError

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def quantiles(values, shares=SHARES, n_blocks=3):
    blocks = np.array_split(values, n_blocks)
    counter = RankCounter()
    for block in blocks:
        counter.add(block)
    return counter.quantiles(shares, iter(blocks))


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 200),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_any_float32_values(values):
    expected = np.quantile(values.astype(np.float64), SHARES)
    np.testing.assert_allclose(quantiles(values), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["normal", "counts", "constant", "tiny", "mixed sign"])
def test_typical_values(kind):
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.normal(9000, 500, 20_001),
        "counts": rng.integers(0, 40, 20_000),
        "constant": np.full(7, 3.25),
        "tiny": rng.normal(size=999) * 1e-40,
        "mixed sign": rng.normal(size=5000) * np.repeat([1e-20, 1e20], 2500),
    }[kind].astype(np.float32)
    np.testing.assert_array_equal(
        np.float32(quantiles(values)), np.float32(np.quantile(values.astype(np.float64), SHARES))
    )


def test_blocks_of_any_stride_and_dtype():
    values = np.arange(40, dtype=">f4").reshape(4, 10)[:, ::2]
    assert quantiles(values, (0.5,), 2) == (float(np.median(values)),)


def test_two_passes_must_agree():
    counter = RankCounter()
    counter.add(np.arange(10, dtype=np.float32))
    with pytest.raises(NeuroError, match="changed between two passes"):
        counter.quantiles((0.5,), [np.arange(5, dtype=np.float32)])


def test_nothing_counted_is_refused():
    with pytest.raises(NeuroError, match="no value"):
        RankCounter().quantiles((0.5,), [])
