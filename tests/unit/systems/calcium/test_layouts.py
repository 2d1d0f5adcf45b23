"""Whole-session HDF5 files with `calcium_traces`: parts, clocks, turned traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layout_changes import Make, only, put, refused, without

from neurocli.core.data.hdf5 import open_h5
from neurocli.systems.calcium.discover import describe
from neurocli.systems.calcium.layouts import find_traces
from neurocli.systems.calcium.synthetic import Simulated

# The parts


@pytest.mark.parametrize(
    ("layout", "name"),
    [("masks", "calcium_traces/valid_mask"), ("domains", "valid_domain")],
)
def test_a_file_may_lack_a_part(changed: Make, layout: str, name: str) -> None:
    whole = only(changed(layout, lambda file: None))
    session = only(changed(layout, without(name)))
    assert session.segments["val"].shape == (0, 2)
    for part in ("train", "test"):
        assert np.array_equal(session.segments[part], whole.segments[part])
    assert "val" not in describe(session)


def test_masks_are_compared_in_every_frame(changed: Make, made: Simulated) -> None:
    # A mask of single frames: each true value is a segment of its own, one frame long.
    mask = np.zeros(len(made.traces), dtype=bool)
    mask[[3, 4, 5, 9, 1269]] = True
    change = put("calcium_traces/train_mask", mask)
    path = changed(
        "masks",
        lambda file: (
            change(file), without("calcium_traces/valid_mask", "calcium_traces/test_mask")(file)
        ),
    )  # fmt: skip
    assert only(path).segments["train"].tolist() == [[3, 6], [9, 10], [1269, 1270]]


def test_a_mask_of_two_axes_is_refused(changed: Make, made: Simulated) -> None:
    n = len(made.traces)
    path = changed("masks", put("calcium_traces/train_mask", np.zeros((n, 1), dtype=bool)))
    refused(path, "calcium_traces/train_mask", f"has {n}x1 values for {n} frames")


def test_domains_that_share_frames_are_refused(changed: Make) -> None:
    # The validation part is told to begin with the recording, where training begins too.
    def change(file: Any) -> None:
        file["valid_domain/start"][0] = file["train_domain/start"][0]

    path = changed("domains", change)
    refused(path, "valid_domain", r"shares \d+ frames with the part 'train'")


def test_domains_with_fewer_ends_than_starts(changed: Make) -> None:
    path = changed(
        "domains", lambda file: put("train_domain/end", file["train_domain/end"][:-1])(file)
    )
    refused(path, "train_domain", r"starts of shape .* and ends of shape")


def test_without_parts_they_are_derived(changed: Make, made: Simulated) -> None:
    masks = [f"calcium_traces/{name}_mask" for name in ("train", "valid", "test")]
    session = only(changed("masks", without(*masks)))
    assert session.split.startswith("derived")
    # 10 presentations in order, 80/10/10: the repeats 0-7, 8 and 9 of 40 frames.
    frames = np.concatenate([np.arange(a, b) for a, b in session.segments["val"]])
    movie = made.stimuli["natural_movie_one"]
    shown = frames[frames < len(movie.start)]
    assert shown.tolist() == list(range(320, 360))


# The clock


def test_the_domain_tells_the_rate_where_no_attribute_does(changed: Make) -> None:
    def change(file: Any) -> None:
        del file["calcium_traces"].attrs["sampling_rate"]

    session = only(changed("masks", change))
    # The domain ends at the last sample: 1269 steps of 1/30 s from 5.5 s on.
    assert session.rate_hz == pytest.approx(30.0, rel=1e-12)
    assert session.start_s == 5.5
    assert session.times_s[-1] == pytest.approx(5.5 + (session.n_frames - 1) / 30.0)


@pytest.mark.parametrize("rate", [0.0, -30.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_gives_way_to_time_stamps(
    changed: Make, made: Simulated, rate: float
) -> None:
    def change(file: Any) -> None:
        file["calcium_traces"].attrs["sampling_rate"] = rate
        file["calcium_traces/timestamps"] = 2.0 + np.arange(len(made.traces)) / 15.0

    assert only(changed("masks", change)).rate_hz == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("times", "word"),
    [
        (np.arange(1270.0)[::-1], "does not run forward"),
        (np.zeros(1270), "does not run forward"),
        (np.r_[np.arange(1269.0), np.inf], "does not run forward"),
        (np.r_[np.nan, np.arange(1269.0)], "does not run forward"),
        (np.zeros(1), "has shape"),
        (np.zeros((1270, 2)), "has shape"),
    ],
)
def test_time_stamps_that_are_no_clock(changed: Make, times: Any, word: str) -> None:
    def change(file: Any) -> None:
        del file["calcium_traces"].attrs["sampling_rate"]
        file["calcium_traces/timestamps"] = times

    refused(changed("masks", change), "calcium_traces/timestamps", word)


def test_no_clock_at_all(changed: Make) -> None:
    def change(file: Any) -> None:
        del file["calcium_traces"].attrs["sampling_rate"]
        del file["calcium_traces/domain"], file["domain"]

    refused(changed("masks", change), "calcium_traces", "neither sampling_rate nor domain")


def test_a_domain_that_ends_before_it_starts(changed: Make) -> None:
    def change(file: Any) -> None:
        del file["calcium_traces"].attrs["sampling_rate"]
        file["calcium_traces/domain/end"][0] = 1.0

    refused(changed("masks", change), "calcium_traces/domain", r"runs from 5.5 to 1.0 s")


# The axis of time


def test_ids_tell_the_axis_where_no_mask_does(changed: Make, made: Simulated) -> None:
    masks = [f"calcium_traces/{name}_mask" for name in ("train", "valid", "test")]

    def change(file: Any) -> None:
        without(*masks)(file)
        put("calcium_traces/df_over_f", np.ascontiguousarray(made.traces.T))(file)

    session = only(changed("masks", change))
    assert np.array_equal(session.rows(slice(None)), made.traces)
    assert session.neurons[0] == "synthetic-1/0"
    assert any("neurons first" in text for text in session.repairs)


def test_more_neurons_than_frames_are_kept_when_masks_say_so(tmp_path: Path) -> None:
    # 5 frames of 9 neurons: without masks the longer axis would be taken for time.
    values = np.random.default_rng(0).random((5, 9)).astype(np.float32)
    for has_mask, shape in ((True, (5, 9)), (False, (9, 5))):
        path = tmp_path / f"{has_mask}.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("calcium_traces")
            group.attrs["sampling_rate"] = 30.0
            group["df_over_f"] = values
            if has_mask:
                group["train_mask"] = np.ones(5, dtype=bool)
        assert only(path).traces.shape == shape


def test_as_many_neurons_as_frames_are_not_turned(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["calcium_traces/df_over_f"] = values
        file["calcium_traces/train_mask"] = np.ones(6, dtype=bool)
        file["calcium_traces"].attrs["sampling_rate"] = 30.0
    session = only(tmp_path / "a.h5")
    assert np.array_equal(session.rows(slice(None)), values)
    assert session.repairs == ()


@pytest.mark.parametrize("name", ["traces/dff", "spikes/events", "calcium_traces/data"])
def test_traces_are_found_by_any_known_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    values = np.random.default_rng(1).random((60, 3))
    with h5py.File(path, "w") as file:
        file[name] = values
        file[name.partition("/")[0]].attrs["sampling_rate"] = 10.0
    with open_h5(path) as file:
        assert find_traces(file) == name
    session = only(path)
    # float64 in the file, float32 in memory.
    assert np.array_equal(session.rows(slice(None)), values.astype(np.float32))
    assert session.rate_hz == 10.0
