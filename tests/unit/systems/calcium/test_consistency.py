"""Agreement between sessions: slow versions, invariances, and where there is none to tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurocli.systems.calcium.consistency import (
    by_value,
    consistency,
    consistency_interval,
    pairwise,
)


def tables(n: int = 3, n_values: int = 60, width: int = 4, noise: float = 0.5) -> list[Any]:
    """Return noisy linear images of one curve."""
    rng = np.random.default_rng(0)
    curve = rng.normal(size=(n_values, width))
    return [
        (curve @ rng.normal(size=(width, width)) + noise * rng.normal(size=(n_values, width)))
        .astype(np.float32)
        for _ in range(n)
    ]  # fmt: skip


def test_means_of_values_equal_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    x, value = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(-1, 12, 200)
    found = by_value(x, value, 15)
    assert found.shape == (15, 3)
    for v in range(15):
        own = [x[i].astype(float) for i in range(200) if value[i] == v]
        if own:
            assert np.allclose(found[v], np.mean(own, axis=0), atol=1e-6)
        else:
            assert np.isnan(found[v]).all()
    assert np.isnan(found[12:]).all()  # values 12 to 14 are never shown


def test_windows_may_come_in_any_order() -> None:
    rng = np.random.default_rng(2)
    x, value = rng.normal(size=(80, 3)).astype(np.float32), rng.integers(0, 9, 80)
    order = rng.permutation(80)
    assert np.allclose(by_value(x, value, 9), by_value(x[order], value[order], 9), atol=1e-6)


def test_figures_equal_scikit_learns_over_all_ordered_pairs() -> None:
    own = tables()
    held_out, in_sample = [], []
    for a, one in enumerate(own):
        for b, other in enumerate(own):
            if a == b:
                continue
            model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
            model.fit(one[::2].astype(float), other[::2].astype(float))
            for part, scores in ((slice(1, None, 2), held_out), (slice(0, None, 2), in_sample)):
                said = model.predict(one[part].astype(float))
                scores.append(r2_score(other[part], said, multioutput="variance_weighted"))
    assert consistency(own) == pytest.approx((np.mean(held_out), np.mean(in_sample)), abs=1e-5)
    # Row by row without the diagonal, from the session of the row to that of the column.
    matrix = pairwise(own)[0]
    assert matrix[~np.eye(len(own), dtype=bool)] == pytest.approx(held_out, abs=1e-5)
    assert np.isnan(np.diag(matrix)).all()


def test_order_of_sessions_and_their_scale_do_not_matter() -> None:
    own = tables()
    plain = consistency(own)
    assert consistency(own[::-1]) == pytest.approx(plain, abs=1e-9)
    assert consistency([7 * table + 3 for table in own]) == pytest.approx(plain, abs=1e-4)


def test_the_target_may_turn_but_not_be_stretched() -> None:
    # The explained share over all columns is free of rotations of the target, and the map of
    # rotations of the source only where columns vary alike: penalties are of scaled columns.
    one, other = tables(2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    white = (one - one.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(one[::2].T)).T)
    white = white.astype(np.float32)
    plain = consistency([white, other])
    spun = consistency([white, (other @ turn).astype(np.float32)])
    assert spun[0] == pytest.approx(plain[0], abs=5e-3)
    stretched = consistency([white, (other * [50, 1, 1, 1]).astype(np.float32)])
    assert stretched[0] != pytest.approx(plain[0], abs=5e-3)


def test_only_values_that_both_have_are_compared() -> None:
    one, other = tables(2)
    whole = consistency([one[:40], other[:40]])
    one[40:50], other[50:] = np.nan, np.nan
    assert consistency([one, other]) == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize(("n_values", "is_told"), [(14, False), (15, False), (16, True)])
def test_eight_even_and_eight_odd_values_are_needed(n_values: int, is_told: bool) -> None:
    assert np.isfinite(consistency(tables(2, n_values))[0]) == is_told


def test_fewer_than_two_sessions_have_no_figure() -> None:
    assert np.isnan(consistency([])).all()
    assert np.isnan(consistency(tables(1))).all()


def test_noise_fits_in_sample_and_not_held_out() -> None:
    # Forty outputs over thirty values fit anything they have seen.
    rng = np.random.default_rng(4)
    noise = [rng.normal(size=(60, 40)).astype(np.float32) for _ in range(2)]
    held_out, in_sample = consistency(noise)
    assert in_sample > 0.9
    assert held_out < 0


def test_the_interval_is_a_bootstrap_over_blocks_of_values() -> None:
    own = tables(2, n_values=80)
    held_out = consistency(own)[0]
    low, high = consistency_interval(own, 10, 400) or (1.0, 0.0)
    assert low < held_out < high
    # By hand: eight blocks of ten values, five odd ones in each; the maps stay as they were.
    rng, waves = np.random.default_rng(5), []
    for one, other in (own, own[::-1]):
        model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        model.fit(one[::2].astype(float), other[::2].astype(float))
        waves.append((other[1::2], model.predict(one[1::2].astype(float))))
    draws = []
    for _ in range(400):
        at = (5 * rng.integers(0, 8, 8)[:, None] + np.arange(5)).ravel()
        scores = [r2_score(a[at], b[at], multioutput="variance_weighted") for a, b in waves]
        draws.append(np.mean(scores))
    # Two sets of 400 draws agree to a fraction of the interval's width.
    expected = np.percentile(draws, [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.15 * (high - low))


def test_an_interval_needs_three_blocks_and_two_sessions() -> None:
    assert consistency_interval(tables(2), 30, 50) is None
    assert consistency_interval(tables(1), 5, 50) is None
