"""Samplers at their edges: one window, ties, missing labels, seeds, sessions in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from neurocli.core.errors import NeuroError
from neurocli.systems.calcium.labels import LabelSpec, with_null
from neurocli.systems.calcium.sampling import LabelPairs, Pairs, Points, Sampler, TimePairs
from neurocli.systems.calcium.session import Session


def points(n: int, key: Any = 0, value: Any = 0.0, segment: Any = 0) -> Points:
    """Return n windows."""
    wide = np.asarray(value, dtype=float)
    return Points(
        np.arange(n),
        np.broadcast_to(np.asarray(segment, dtype=np.int64), n).copy(),
        np.broadcast_to(np.asarray(key, dtype=np.int64), n).copy(),
        wide if wide.ndim == 2 else np.broadcast_to(wide, n).reshape(n, 1).copy(),
    )


def drawn(sampler: Sampler, n: int = 4000, seed: int = 0) -> Pairs:
    return sampler.draw(np.random.default_rng(seed), n)


@pytest.mark.parametrize("sampler", [
    TimePairs([points(40), points(30)], (1, 5)),
    LabelPairs([points(40, value=np.arange(40.0)), points(30, value=np.arange(30.0))], 2),
    LabelPairs([points(40, np.arange(40) % 3), points(30, np.arange(30) % 3)], 2, 0.5),
], ids=["time", "numbers", "classes"])  # fmt: skip
def test_a_draw_is_a_function_of_the_generator(sampler: Sampler) -> None:
    one, again, other = drawn(sampler, 50), drawn(sampler, 50), drawn(sampler, 50, seed=1)
    for name in ("ref", "pos", "neg"):
        for a, b, c in zip(*(getattr(p, name) for p in (one, again, other)), strict=True):
            assert np.array_equal(a, b)
            assert not np.array_equal(a, c)
            assert len(a) == 50


def test_constant_labels_make_uniform_positives() -> None:
    # Nothing moves, so every window is as good a positive as any other, the reference included.
    found = drawn(LabelPairs([points(20)], 3), 20_000)
    assert stats.chisquare(np.bincount(found.pos[0], minlength=20)).pvalue > 1e-3
    assert (found.pos[0] == found.ref[0]).mean() == pytest.approx(1 / 20, abs=0.01)


def test_a_class_of_one_window_is_its_own_positive() -> None:
    found = drawn(LabelPairs([points(9, [0, 0, 0, 0, 1, 2, 2, 2, 2])], 2))
    assert (found.pos[0][found.ref[0] == 4] == 4).all()


def test_windows_without_a_label_are_never_drawn() -> None:
    key = np.where(np.arange(60) % 3 == 0, -1, 0)
    found = drawn(LabelPairs([points(60, key, np.arange(60.0))], 3))
    for chosen in (found.ref[0], found.pos[0], found.neg[0]):
        assert (key[chosen] == 0).all()


def test_steps_of_a_ramp_are_the_offset() -> None:
    # Values rise by 1 a frame, so every step over 7 frames is 7: positives lie 7 later, and those
    # beyond the end are the last window.
    found = drawn(LabelPairs([points(50, value=np.arange(50.0))], 7))
    assert np.array_equal(found.pos[0], np.minimum(found.ref[0] + 7, 49))


def test_steps_do_not_leave_their_segment_or_class() -> None:
    # Value jumps by 1000 between segments and between classes; within them it rises by 1.
    segment, key = np.repeat([0, 1, 1], 20), np.repeat([0, 0, 1], 20)
    value = np.arange(60.0) + 1000 * segment + 5000 * key
    found = drawn(LabelPairs([points(60, key, value, segment)], 3))
    assert set(value[found.pos[0]] - value[found.ref[0]]) <= {0.0, 1.0, 2.0, 3.0}


def test_a_query_between_two_values_takes_each_in_half_of_the_draws() -> None:
    # References at 0 and 2 step by 1 or -1: 1 is as near to 0 as to 2. Value 10 is far off.
    found = drawn(LabelPairs([points(4, value=[0.0, 2.0, 10.0, 12.0])], 1), 40_000)
    value = np.array([0.0, 2.0, 10.0, 12.0])
    # Steps are 2, 8 and 2. From 0: 2 -> 2 (2 of 3), 8 -> 10 (1 of 3).
    own = value[found.pos[0]][value[found.ref[0]] == 0]
    assert set(own) == {2.0, 10.0}
    assert (own == 2).mean() == pytest.approx(2 / 3, abs=0.02)
    tied = LabelPairs([points(4, value=[0.0, 1.0, 3.0, 4.0], segment=[0, 0, 1, 1])], 1)
    at_one = drawn(tied, 40_000)  # steps are 1: from 1 to 2, between 1 and 3
    own = at_one.pos[0][at_one.ref[0] == 1]
    assert (own == 1).mean() == pytest.approx(0.5, abs=0.02)
    assert set(own) == {1, 2}


@pytest.mark.parametrize("delta", [0.05, 3.0])
def test_a_gaussian_step_has_the_spread_that_is_asked_for(delta: float) -> None:
    # Values 0.01 apart over 400 units: steps keep their mean 0 and spread delta away from the ends.
    value = np.arange(40_000) / 100
    found = drawn(LabelPairs([points(40_000, value=value)], 1, delta), 20_000)
    middle = (value[found.ref[0]] > 20) & (value[found.ref[0]] < 380)
    steps = (value[found.pos[0]] - value[found.ref[0]])[middle]
    assert steps.std() == pytest.approx(delta, rel=0.05)
    assert abs(steps.mean()) < 4 * delta / np.sqrt(len(steps)) + 0.01


def test_sessions_change_places_and_the_law_stays() -> None:
    # Positives of session a's references: half of them in a, half in b, in either order.
    one, two = points(50, np.arange(50) % 2), points(30, np.arange(30) % 2)
    for sessions in ([one, two], [two, one]):
        found = drawn(LabelPairs(sessions, 2), 2000)
        assert found.align is not None
        own = found.align[:2000] // 2000
        assert (own == 0).mean() == pytest.approx(0.5, abs=0.05)
        assert [len(p) for p in found.pos] == [2000, 2000]


def test_one_session_stands_in_its_own_order() -> None:
    assert drawn(LabelPairs([points(10)], 2)).align is None
    assert drawn(TimePairs([points(10)], (2,))).align is None


def test_errors_tell_what_to_do() -> None:
    with pytest.raises(NeuroError, match=r"session 2 has no windows 9 frames apart") as caught:
        TimePairs([points(30), points(9)], (1, 9))
    assert "task.time_offsets" in str(caught.value.hint)
    with pytest.raises(NeuroError, match=r"no labelled window") as caught:
        LabelPairs([points(5), points(5, -1)], 1)
    assert caught.value.where == "task.target"
    with pytest.raises(NeuroError, match=r"share the same labels") as caught:
        LabelPairs([points(5, [0, 1, 2, 0, 1]), points(5, [0, 2, 2, 0, 2])], 1)
    assert "first-only" in str(caught.value.hint)


def labelled(**labels: Any) -> Session:
    n = len(next(iter(labels.values())))
    own = {name: np.asarray(values) for name, values in labels.items()}
    return Session("s", np.zeros((n, 1), "f4"), 30.0, 0.0, {}, own, ("0",), "array", "none")


NUMBER, CLASS = LabelSpec("place", "number"), LabelSpec("lap", "class", 3)


def test_nulls_keep_what_is_shown_and_lose_when() -> None:
    place = np.concatenate([np.full(50, np.nan), np.arange(400.0)])
    for null in ("shuffle", "shift"):
        own = with_null(labelled(place=place), [NUMBER], null, 0).labels["place"]
        assert np.isnan(own[:50]).all()
        assert sorted(own[50:]) == list(range(400))
        assert abs(np.corrcoef(own[50:], place[50:])[0, 1]) < 0.9
    # A shift keeps neighbours but for the one seam.
    assert (np.diff(own[50:]) == 1).sum() == 398


def test_shuffled_classes_keep_their_presentations() -> None:
    lap = np.repeat([0, -1, 1, 2, 0, 1, 2, -1, 1], 10)
    own = with_null(labelled(lap=lap), [CLASS], "shuffle", 3).labels["lap"]
    assert np.array_equal(own < 0, lap < 0)
    assert np.bincount(own[own >= 0]).tolist() == np.bincount(lap[lap >= 0]).tolist()
    assert (own.reshape(9, 10) == own.reshape(9, 10)[:, :1]).all()


def test_nulls_depend_on_the_seed_alone_and_spare_other_labels() -> None:
    base = labelled(place=np.arange(90.0), lap=np.repeat([0, 1, 2], 30))
    found = [with_null(base, [NUMBER], "shuffle", seed) for seed in (0, 0, 1)]
    assert np.array_equal(found[0].labels["place"], found[1].labels["place"])
    assert not np.array_equal(found[0].labels["place"], found[2].labels["place"])
    assert found[0].labels["lap"] is base.labels["lap"]
    assert with_null(base, [NUMBER], "none", 0) is base
    assert base.labels["place"].tolist() == list(range(90))  # never in place
