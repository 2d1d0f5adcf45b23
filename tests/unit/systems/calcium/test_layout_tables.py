"""Whole-session files: tables of stimuli, running, links and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layout_changes import Make, only, put, refused

from neurocli.core.errors import InputError
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.synthetic import Simulated

# The tables of stimuli


@pytest.mark.parametrize("word", ["short", "scalar", "wide"])
def test_starts_and_ends_that_do_not_belong_together(changed: Make, word: str) -> None:
    values: Any = {"short": np.zeros(398), "scalar": 1.0, "wide": np.zeros((400, 2))}[word]
    path = changed("domains", put("natural_movie_one/start", values))
    refused(path, "natural_movie_one", r"starts of shape .* ends of shape")


def test_a_presentation_without_a_start_marks_no_frame(changed: Make) -> None:
    whole = only(changed("domains", lambda file: None))

    def change(file: Any) -> None:
        file["natural_movie_one/start"][50] = np.nan

    session = only(changed("domains", change))
    # Row 50 is frame 10 of the second presentation and lies at frame 50 of the recording.
    expected = whole.labels["movie_one"].copy()
    assert expected[50] == 10
    expected[50] = -1
    assert np.array_equal(session.labels["movie_one"], expected)


def test_columns_of_another_length_and_groups_are_no_columns(changed: Make) -> None:
    whole = only(changed("domains", lambda file: None))

    def change(file: Any) -> None:
        file.create_group("natural_movie_one/more")
        file["natural_movie_one/train_mask"] = np.ones(400, dtype=bool)
        put("natural_movie_one/repeat", np.zeros(7))(file)

    session = only(changed("domains", change))
    # The repeat that does not fit is counted from the frames instead, with the same result.
    assert np.array_equal(session.labels["movie_one_repeat"], whole.labels["movie_one_repeat"])


def test_unknown_stimuli_are_counted_and_give_no_label(changed: Make) -> None:
    def change(file: Any) -> None:
        file["spontaneous_activity/start"] = np.array([6.0, 9.0])
        file["spontaneous_activity/end"] = np.array([8.0, 11.0])

    session = only(changed("domains", change))
    assert session.stimuli["spontaneous_activity"] == 2
    assert not any("spontaneous" in label for label in session.labels)


@pytest.mark.parametrize("link", [h5py.SoftLink("/nowhere"), h5py.ExternalLink("no.h5", "/a")])
def test_links_beside_the_data_are_left_alone(changed: Make, link: Any) -> None:
    session = only(changed("domains", lambda file: file.__setitem__("dangling", link)))
    assert session.n_neurons == 6


def test_traces_in_another_file_are_not_followed(changed: Make, tmp_path: Path) -> None:
    path = changed("masks", lambda file: None)
    linked = tmp_path / "linked.h5"
    with h5py.File(linked, "w") as file:
        file["calcium_traces"] = h5py.ExternalLink(path.name, "/calcium_traces")
    with pytest.raises(InputError, match="holds no calcium traces"):
        open_sessions(linked)


# Running


def test_running_is_interpolated_and_unknown_outside_its_time(changed: Make) -> None:
    times, speed = np.array([6.0, 7.0, 8.0, 9.0]), np.array([0.0, 3.0, np.nan, 9.0])

    def change(file: Any) -> None:
        put("running/timestamps", times)(file)
        put("running/running_speed", speed)(file)

    running = only(changed("domains", change)).labels["running"]
    # The recording starts at 5.5 s, so 6.5 s is frame 30; the missing value at 8 s is bridged
    # between (7, 3) and (9, 9).
    assert running[30] == pytest.approx(1.5)
    assert running[75] == pytest.approx(6.0)
    assert np.isnan(running[:15]).all()
    assert np.isnan(running[106:]).all()
    assert np.isfinite(running[15:106]).all()


@pytest.mark.parametrize("values", [5.0, np.zeros((3, 1))])
def test_running_of_another_length(changed: Make, values: Any) -> None:
    path = changed("domains", put("running/running_speed", values))
    refused(path, "running/running_speed", "for times of shape")


def test_running_without_two_values_is_no_label(changed: Make, made: Simulated) -> None:
    speed = np.full((len(made.traces), 1), np.nan)
    session = only(changed("domains", put("running/running_speed", speed)))
    assert "running" not in session.labels


# Damage


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.zeros((0, 6)), "is empty"),
        (np.zeros((4, 5, 6)), r"has 3 axes \(4x5x6\), 2 are needed"),
        (np.zeros((4, 5), dtype=complex), "real numbers are needed"),
        (np.array([[b"a"] * 3] * 4), "real numbers are needed"),
    ],
)
def test_traces_that_are_none(changed: Make, values: Any, word: str) -> None:
    path = changed("masks", put("calcium_traces/df_over_f", values))
    refused(path, "calcium_traces/df_over_f", word)


def test_traces_that_were_never_written(changed: Make) -> None:
    def change(file: Any) -> None:
        del file["calcium_traces/df_over_f"]
        file.create_dataset("calcium_traces/df_over_f", (1270, 6), "f4", chunks=(127, 6))

    refused(changed("masks", change), "calcium_traces/df_over_f", "half written")
