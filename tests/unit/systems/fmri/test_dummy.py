"""The cached cohort that stands in for the user's data."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.errors import NeuroError
from neurocli.core.events import Event, Note
from neurocli.systems.fmri.dummy import CohortSpec, built_in_cohort, cohort_spec, make_subject
from neurocli.systems.fmri.store import find_stores, open_store

SPEC = CohortSpec(n_subjects=4, n_frames=6, brain="head")


def test_the_cohort_is_made_once(tmp_path: Path) -> None:
    events: list[Event] = []
    folder = built_in_cohort(tmp_path, SPEC, events.append)
    assert any(isinstance(event, Note) and "once" in event.message for event in events)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    events.clear()
    assert built_in_cohort(tmp_path, SPEC, events.append) == folder
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps
    assert list(tmp_path.iterdir()) == [folder]


def test_the_files_hold_the_painted_runs(tmp_path: Path) -> None:
    folder = built_in_cohort(tmp_path, SPEC)
    stores = find_stores(folder)
    assert [subject for subject, _, _ in stores] == [f"sub-000{i}" for i in range(1, 5)]
    run = make_subject(2, SPEC)
    with open_store(stores[2][2]) as store:
        np.testing.assert_array_equal(store.mask, run.mask)
        np.testing.assert_array_equal(store.read_packed(slice(None)), run.bold_XYZT[run.mask].T)
        assert store.tr_s == 2.0
    assert json.loads((folder / "dataset.json").read_text())["built_in_data"] is True
    people = (folder / "participants.tsv").read_text().splitlines()
    assert people[0].split("\t") == [
        "participant_id", "sex", "age", "site", "family", "relation", "group",
    ]  # fmt: skip
    assert len(people) == 5


def test_another_specification_is_another_folder(tmp_path: Path) -> None:
    first = built_in_cohort(tmp_path, SPEC)
    second = built_in_cohort(tmp_path, CohortSpec(seed=1, n_subjects=4, n_frames=6, brain="head"))
    assert first != second
    assert first.is_dir()


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path / "cache"))
    assert built_in_cohort(spec=SPEC).parent == tmp_path / "cache"


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    # A fork of a process with threads may hang, so each starts afresh.
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=built_in_cohort, args=(tmp_path, SPEC)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    assert len(find_stores(built_in_cohort(tmp_path, SPEC))) == 4


def test_drafts_of_killed_processes_go(tmp_path: Path) -> None:
    folder = built_in_cohort(tmp_path, SPEC)
    draft = tmp_path / f"{folder.name}.part-999999"
    folder.rename(draft)
    assert built_in_cohort(tmp_path, SPEC) == folder
    assert not draft.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NeuroError):
        built_in_cohort(tmp_path / "file", SPEC)


def test_options_make_a_specification() -> None:
    spec = cohort_spec({"seed": 3, "n_subjects": 10, "n_frames": 20})
    assert (spec.seed, spec.n_subjects, spec.n_frames) == (3, 10, 20)
    assert cohort_spec({}) == CohortSpec()
