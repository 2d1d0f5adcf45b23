"""What is done to traces before a model sees them: scale, slow drift, padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from neurocli.systems.calcium import scaling
from neurocli.systems.calcium.combine import apply_mode, glued, highpassed, padded
from neurocli.systems.calcium.scaling import fit_scaler
from neurocli.systems.calcium.session import Session, mask_of, names_of

EMPTY = np.zeros((0, 2), dtype=np.int64)


def session_of(traces: Any, train: Any = None, rate_hz: float = 30.0, **more: Any) -> Session:
    own = np.array([[0, len(traces)]] if train is None else train)
    return Session(
        name=more.pop("name", "s"),
        traces=traces,
        rate_hz=rate_hz,
        start_s=0.0,
        segments={"train": own, "val": EMPTY, "test": EMPTY},
        labels=more.pop("labels", {}),
        neurons=names_of(traces.shape[1]),
        layout="array",
        split="by hand",
        **more,
    )


@pytest.fixture
def noise() -> Any:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(500, 4)) * [1, 5, 0.1, 2] + [0, 3, -7, 1e4]).astype(np.float32)


# Scale


def test_the_scale_is_that_of_the_training_part_alone(noise: Any) -> None:
    train = np.array([[10, 100], [200, 331]])
    changed = noise.copy()
    changed[~mask_of(train, 500)] += 1e3  # nothing outside may count
    scaler = fit_scaler(session_of(changed, train))
    own = noise[mask_of(train, 500)].astype(np.float64)
    # numpy in double precision: (x - mean) / std with std over n, not n - 1.
    expected = (own - own.mean(0)) / own.std(0)
    found = own * scaler.factor.double().numpy() + scaler.shift.double().numpy()
    # Single precision keeps 7 digits of shifts of up to 5000 standard deviations.
    assert found == pytest.approx(expected, abs=2e-3)
    assert scaler.factor.numpy() == pytest.approx(1 / own.std(0), rel=1e-6)


def test_blocks_change_nothing(noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_scaler(session_of(noise))
    monkeypatch.setattr(scaling, "_BLOCK", 13)
    blocks = fit_scaler(session_of(noise))
    assert blocks.factor.numpy() == pytest.approx(whole.factor.numpy(), rel=1e-6)
    assert blocks.shift.numpy() == pytest.approx(whole.shift.numpy(), rel=1e-6)


def test_a_large_offset_costs_no_digits() -> None:
    rng = np.random.default_rng(1)
    # Doubles around a million: naive sums of squares would lose the spread of a thousandth.
    small = rng.normal(size=(1000, 1)) * 0.5
    traces = (1e6 + small).astype(np.float32)
    scaler = fit_scaler(session_of(traces))
    assert float(scaler.factor[0]) == pytest.approx(1 / traces.astype(np.float64).std(), rel=1e-6)


def test_a_neuron_that_rests_in_training_stays_at_zero(noise: Any) -> None:
    noise[:100, 2] = 4.0
    scaler = fit_scaler(session_of(noise, np.array([[0, 100]])))
    assert (float(scaler.factor[2]), float(scaler.shift[2])) == (0.0, 0.0)
    assert np.isfinite(scaler.shift.numpy()).all()


def test_only_the_used_neurons_have_a_scale(noise: Any) -> None:
    some = replace(session_of(noise), columns=np.array([1, 3]), neurons=("1", "3"))
    own = noise[:, [1, 3]].astype(np.float64)
    assert fit_scaler(some).factor.numpy() == pytest.approx(1 / own.std(0), rel=1e-5)


# Slow drift


@pytest.mark.parametrize(
    ("rate", "cutoff", "length"),
    [(30.0, 1.0, 30), (30.0, 2.0, 15), (10.0, 0.5, 20), (30.0, 100.0, 3)],
)
def test_highpass_is_a_moving_average_taken_off(
    noise: Any, rate: float, cutoff: float, length: int
) -> None:
    traces = noise[:120]
    found = highpassed(session_of(traces, rate_hz=rate), cutoff)
    # Slow: the mean of `length` frames from length // 2 before each on; beyond its ends the
    # recording runs backward, 1 0 | 0 1 ... 118 119 | 119 118.
    mirror = np.concatenate([np.arange(120)[::-1], np.arange(120), np.arange(120)[::-1]])
    for frame in range(0, 120, 7):
        places = mirror[120 + np.arange(frame - length // 2, frame - length // 2 + length)]
        expected = traces[frame].astype(np.float64) - traces[places].astype(np.float64).mean(0)
        assert found.traces[frame] == pytest.approx(expected, abs=1e-4)
    assert found.repairs[-1] == f"a moving average of {length} frames was taken off"


def test_highpass_keeps_what_is_fast_and_drops_what_is_slow() -> None:
    seconds = np.arange(3000) / 30.0
    fast = np.sin(2 * np.pi * 3.0 * seconds)
    slow = 10 * np.sin(2 * np.pi * 0.01 * seconds)
    found = highpassed(session_of((fast + slow)[:, None].astype(np.float32)), 0.2).traces[:, 0]
    inner = slice(150, -150)  # away from the ends
    # The average of 5 s takes off all of 3 Hz's whole periods: nothing of the fast is lost; of
    # 0.01 Hz remains 1 - sinc(0.05), 0.4 % of 10.
    assert found[inner] == pytest.approx(fast[inner], abs=0.05)


def test_highpass_leaves_gaps_alone(noise: Any) -> None:
    # What a reader cut out is NaN; the average is that of the frames that are known.
    traces = noise.copy()
    traces[100:130] = np.nan
    found = highpassed(session_of(traces, rate_hz=10.0), 0.5).traces
    assert np.isnan(found[100:130]).all()
    assert np.isfinite(np.delete(found, np.arange(100, 130), axis=0)).all()
    for frame in (80, 95, 99, 130, 133, 300):
        window = traces[frame - 10 : frame + 10].astype(np.float64)
        expected = traces[frame] - np.nanmean(window, axis=0)
        assert found[frame] == pytest.approx(expected, abs=1e-4)


def test_highpass_does_not_hang_on_the_last_frame(noise: Any) -> None:
    # One wild frame at the end moves its neighbours by its share of the average, 2 / 150, and not
    # by the half of it that a repeated end would.
    wild = noise[:, :1].copy()
    wild[-1] += 150
    moved = (
        highpassed(session_of(noise[:, :1]), 0.2).traces - highpassed(session_of(wild), 0.2).traces
    )
    assert moved[-30:-1, 0] == pytest.approx(2.0, abs=1e-2)


def test_highpass_uses_the_kept_neurons_alone(noise: Any) -> None:
    some = replace(session_of(noise), columns=np.array([0, 2]), neurons=("0", "2"))
    found = highpassed(some, 1.0)
    assert found.columns is None
    assert found.traces.shape == (500, 2)
    whole = highpassed(session_of(noise), 1.0)
    assert np.array_equal(found.traces, whole.traces[:, [0, 2]])


# Modes


@pytest.fixture
def pair(noise: Any) -> list[Session]:
    labels = {"lap": np.arange(500) // 50, "only": np.zeros(500)}
    first = session_of(noise, [[0, 400]], name="a", labels=labels, repairs=("x",))
    second = session_of(noise[:200, :2], [[5, 50]], name="b", labels={"lap": np.zeros(200, int)})
    return [first, second]


def test_padding_puts_sessions_end_to_end(pair: list[Session], noise: Any) -> None:
    found = padded(pair)
    assert found.traces.shape == (700, 4)
    assert np.array_equal(found.traces[:500], noise)
    assert np.array_equal(found.traces[500:, :2], noise[:200, :2])
    assert not found.traces[500:, 2:].any()
    assert found.segments["train"].tolist() == [[0, 400], [505, 550]]
    assert list(found.labels) == ["lap"]  # the other session has no `only`
    assert found.repairs == ("a: x",)


def test_modes_tell_what_they_cost(pair: list[Session]) -> None:
    for mode in ("shared", "separate"):
        assert apply_mode(pair, mode) == (pair, [])
    assert apply_mode(pair, "first-only") == (pair[:1], ["1 further sessions are not used"])
    assert apply_mode(pair[:1], "first-only") == (pair[:1], [])
    assert apply_mode(pair[:1], "pad") == (pair[:1], [])
    (together,), notes = apply_mode(pair, "pad")
    assert together.name == "a+b"
    assert "tell sessions apart" in notes[0]


# Robust scale


def test_a_robust_scale_is_median_and_median_distance(noise: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(scaling, "_NEURONS", 3)  # four neurons, so two rounds
    train = np.array([[10, 100], [200, 331]])
    changed = noise.copy()
    changed[~mask_of(train, 500)] += 1e3
    changed[20] += 1e6  # one wild frame, which means and deviations would follow
    scaler = fit_scaler(session_of(changed, train), "robust")
    own = changed[mask_of(train, 500)].astype(np.float64)
    expected = scipy.stats.median_abs_deviation(own, axis=0, scale="normal")
    assert scaler.factor.numpy() == pytest.approx(1 / expected, rel=1e-5)
    centre = -scaler.shift.double().numpy() / scaler.factor.double().numpy()
    assert centre == pytest.approx(np.median(own, axis=0), rel=1e-5, abs=1e-4)


def test_sparse_neurons_keep_their_deviation_under_a_robust_scale() -> None:
    events = np.zeros((100, 2), dtype=np.float32)
    events[::10, 0] = 1
    events[:, 1] = 7  # constant: left at its centre
    scaler = fit_scaler(session_of(events), "robust")
    # A tenth of ones has the deviation sqrt(0.1 * 0.9) = 0.3; the median is 0.
    assert scaler.factor.tolist() == pytest.approx([1 / 0.3, 0])
    assert scaler.shift.tolist() == pytest.approx([0, 0])


# Glued parts


def test_glued_parts_are_one_segment_each_of_the_frames_they_had() -> None:
    traces = np.arange(40, dtype=np.float32)[:, None] * [1, 10]
    own = replace(
        session_of(traces, [[2, 8], [20, 27]], labels={"frame": np.arange(40)}),
        segments={"train": np.array([[2, 8], [20, 27]]), "val": np.array([[8, 12]]),
                  "test": np.array([[30, 33], [35, 40]])},
    )  # fmt: skip
    found = glued(own, (2, 3))
    kept = [*range(2, 8), *range(20, 27), *range(8, 12), *range(30, 33), *range(35, 40)]
    assert {part: ends.tolist() for part, ends in found.segments.items()} == {
        "train": [[0, 13]], "val": [[13, 17]], "test": [[17, 25]],
    }  # fmt: skip
    assert found.traces[:, 0].tolist() == kept
    assert found.labels["frame"].tolist() == kept
    # Windows of 5 over 13 and 8 frames: 9 + 4; without crossing 2 + 3 and 0 + 1.
    assert "7 windows cross a cut; 15 frames of no part" in found.repairs[-1]
