"""What a batch holds, frame by frame, and how several recordings become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurocli.systems.calcium.combine import apply_mode, highpassed, padded
from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.samples import About, PieceSet, Recordings, SlotSet
from neurocli.systems.calcium.sampling import TimePairs
from neurocli.systems.calcium.session import Session

FIELD = (2, 3)
CUTS = {"train": [[0, 20], [25, 28], [30, 60]], "val": [[60, 70]], "test": [[70, 74], [74, 90]]}


def session(name: str = "a", n_neurons: int = 2, start_s: float = 5.0) -> Session:
    """Return 90 frames whose value is frame number times ten plus the neuron's number."""
    traces = 10.0 * np.arange(90)[:, None] + np.arange(n_neurons)
    segments = {part: np.array(own) for part, own in CUTS.items()}
    labels = {"lap": np.arange(90) // 30, "movie_one_repeat": np.zeros(90, dtype=np.int64)}
    names = tuple(map(str, range(n_neurons)))
    return Session(
        name, traces.astype(np.float32), 20.0, start_s, segments, labels, names, "array", "none"
    )


def recordings(*sessions: Session) -> Recordings:
    about = About(
        tuple(s.name for s in sessions), (LabelSpec("lap", "class", 3),), 1, (20.0,) * len(sessions)
    )
    keys = [s.labels["lap"].astype(np.int64) for s in sessions]
    return Recordings(sessions, keys, [np.zeros((90, 1)) for _ in sessions], FIELD, about)


def slots(own: Recordings, *, is_dense: bool = False, seed: int = 0) -> SlotSet:
    points = [own.points(number, "train") for number in range(len(own.sessions))]
    return SlotSet(own, {"time": TimePairs(points, (4,))}, 64, seed, is_dense)


def batch(part: SlotSet, n: int = 40, epoch: int = 0) -> dict[str, Any]:
    return part.collate([part.sample(i, epoch) for i in range(n)])


def test_points_are_centres_whose_window_lies_in_one_segment() -> None:
    own = recordings(session()).points(0, "train")
    # Two frames before and three from the centre on: 2 to 17 and 32 to 57; 25 to 28 holds none.
    assert own.centre.tolist() == [*range(2, 18), *range(32, 58)]
    assert own.segment.tolist() == [0] * 16 + [2] * 26
    assert own.key.tolist() == [c // 30 for c in own.centre]


def test_pieces_too_short_for_a_window_are_left_out() -> None:
    found = recordings(session(), session("b")).pieces("test", "judge")
    # 70 to 74 is four frames, one less than the field.
    assert [(p.session, p.start, p.stop) for p in found] == [(0, 74, 90), (1, 74, 90)]


def test_windows_are_consecutive_frames_around_their_centres() -> None:
    part = slots(recordings(session(), session("b", 3)))
    taken = batch(part)["draws"]["time"]["taken"]
    for number, n_neurons in (("0", 2), ("1", 3)):
        windows = taken[number].numpy()
        assert windows.shape == (3 * 40, 5, n_neurons)
        frames = windows[..., 0] / 10
        assert (np.diff(frames, axis=1) == 1).all()
        # Neuron i is i above the first one in every frame.
        assert (windows - windows[..., :1] == np.arange(n_neurons)).all()
        ref, pos, _ = np.split(frames[:, 0], 3)
        assert (pos - ref == 4).all()
        first = np.unique(frames[:, 0])
        assert set(first) <= {*range(16), *range(30, 56)}


def test_dense_places_name_the_same_windows() -> None:
    own = recordings(session())
    windows = batch(slots(own))["draws"]["time"]["taken"]["0"]
    dense = batch(slots(own, is_dense=True))
    rows, places = dense["rows"][0], dense["draws"]["time"]["taken"]["0"]
    # 20 and 30 frames lie end to end; the segment that holds no window is left out.
    assert rows.shape == (50, 2)
    again = np.stack([rows[p : p + 5].numpy() for p in places.tolist()])
    assert np.array_equal(again, windows.numpy())


def test_epochs_and_seeds_draw_anew_and_slots_are_counted() -> None:
    own = recordings(session())
    plain = batch(slots(own))["draws"]["time"]["taken"]["0"].numpy()
    for other in (batch(slots(own), epoch=1), batch(slots(own, seed=1))):
        assert not np.array_equal(plain, other["draws"]["time"]["taken"]["0"].numpy())
    assert len(slots(own)) == 64
    assert slots(recordings(session(), session("b"))).participants == ["a/train", "b/train"]


def test_a_judged_segment_tells_time_and_labels_of_its_centres() -> None:
    own = recordings(session())
    part = PieceSet(own, [*own.pieces("train", "fit"), *own.pieces("test", "judge")])
    assert len(part) == 3
    assert part.participants == ["a/test"]  # what decoders are fitted on is not judged
    sample = part.sample(2, 0)
    assert sample["centre"].tolist() == list(range(76, 88))
    # Frame 76 at 20 frames a second, after a start at 5 s: 8.8 s.
    assert sample["time_s"][0] == pytest.approx(8.8)
    assert sample["labels"]["lap"].tolist() == [2] * 12
    assert set(sample["labels"]) == {"lap", "movie_one_repeat"}
    assert sample["rows"].shape == (16, 2)
    found = part.collate([part.sample(i, 0) for i in range(3)])
    assert found["start"] == [0, 30, 74]
    assert found["participant"] == ["a/train", "a/train", "a/test"]


def test_modes_of_combining() -> None:
    both = [session("a", 2), session("b", 3)]
    for mode in ("shared", "separate"):
        assert apply_mode(both, mode) == (both, [])
    kept, notes = apply_mode(both, "first-only")
    assert kept == both[:1]
    assert notes == ["1 further sessions are not used"]
    assert apply_mode(both[:1], "first-only")[1] == []
    assert apply_mode(both[:1], "pad") == (both[:1], [])  # one has nothing to be padded to
    assert "tell sessions apart" in apply_mode(both, "pad")[1][0]


def test_padding_lays_recordings_end_to_end_with_zeros() -> None:
    one, two = session("a", 2), session("b", 3)
    found = padded([one, two])
    assert found.name == "a+b"
    assert found.traces.shape == (180, 3)
    assert np.array_equal(found.traces[:90, :2], one.traces)
    assert (found.traces[:90, 2] == 0).all()
    assert np.array_equal(found.traces[90:], two.traces)
    assert found.segments["val"].tolist() == [[60, 70], [150, 160]]
    assert found.labels["lap"].tolist() == [*one.labels["lap"], *two.labels["lap"]]


def test_a_moving_average_is_taken_off() -> None:
    # A straight line is its own average away from the ends; a fast wave of whole periods stays.
    wave = np.sin(2 * np.pi * np.arange(90) / 3)
    own = session()
    own.traces[:, 0] = 7 * np.arange(90) + wave
    found = highpassed(own, 20 / 15)  # 15 frames, five periods of the wave
    assert np.allclose(found.traces[8:-8, 0], wave[8:-8], atol=1e-3)
    assert "a moving average of 15 frames was taken off" in found.repairs
    # A constant is gone everywhere, ends too.
    own.traces[:, 1] = 4.0
    assert np.allclose(highpassed(own, 20 / 15).traces[:, 1], 0)
