"""Names and inheritance of BIDS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocli.core.errors import InputError
from neurocli.systems.fmri.bids import Sidecars, derivative_roots, is_root, parse_name, stem_of

NEW = "sub-01_ses-a_task-rest_run-2_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz"
OLD = "sub-01_task-rest_run-01_bold_space-MNI152NLin2009cAsym_preproc.nii.gz"


def parsed(name: str):  # type: ignore[no-untyped-def]
    found = parse_name(Path("x") / name)
    assert found is not None
    return found


def test_entities_and_words() -> None:
    file = parsed(NEW)
    assert file.entities["ses"] == "a"
    assert file.entities["desc"] == "preproc"
    assert file.words == ("bold",)
    assert file.person == "sub-01"
    assert dict(file.run_key) == {"sub": "01", "ses": "a", "task": "rest", "run": "2"}
    assert file.grid_key == ("MNI152NLin6Asym", "2", "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sub-01_task-rest_bold.nii.gz", "raw"),
        ("sub-01_task-rest_echo-1_bold.nii", "raw"),
        (NEW, "preprocessed"),
        (OLD, "preprocessed"),
        ("sub-01_task-rest_desc-brain_mask.nii.gz", "mask"),
        ("sub-01_task-rest_bold_space-T1w_brainmask.nii.gz", "mask"),
        ("sub-01_task-rest_space-T1w_boldref.nii.gz", None),
        ("sub-01_task-rest_desc-smoothAROMAnonaggr_bold.nii.gz", None),
        ("sub-01_task-rest_space-T1w_bold.nii.gz", None),
        ("sub-01_task-rest_sbref.nii.gz", None),
        ("sub-01_T1w.nii.gz", None),
        ("sub-01_desc-aseg_dseg.nii.gz", None),
    ],
)
def test_kinds_of_files(name: str, kind: str | None) -> None:
    file = parsed(name)
    assert file.is_raw_bold == (kind == "raw")
    assert file.is_preprocessed_bold == (kind == "preprocessed")
    assert file.is_brain_mask == (kind == "mask")


@pytest.mark.parametrize("name", ["notes.txt", "task-rest_bold.nii.gz", "sub01_bold.nii", ".nii"])
def test_other_names_are_left_alone(name: str) -> None:
    assert parse_name(Path(name)) is None


def test_stems() -> None:
    assert stem_of(Path("A.NII.GZ")) == "A"
    assert stem_of(Path("a.b.nii")) == "a.b"
    assert stem_of(Path("a.hdr")) is None


def test_old_and_new_names_of_one_run_agree() -> None:
    raw = parsed("sub-01_task-rest_run-01_bold.nii.gz")
    assert raw.run_key == parsed(OLD).run_key


def write(path: Path, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def test_nearer_and_more_specific_sidecars_win(tmp_path: Path) -> None:
    file = parsed("sub-01_ses-a_task-rest_run-2_bold.nii.gz")
    sidecars = Sidecars((tmp_path,))
    assert sidecars.repetition_time(file) is None
    levels = [
        (tmp_path / "bold.json", 1.0),
        (tmp_path / "task-rest_bold.json", 2.0),
        (tmp_path / "sub-01" / "sub-01_task-rest_bold.json", 3.0),
        (tmp_path / "sub-01" / "ses-a" / "sub-01_ses-a_task-rest_bold.json", 4.0),
        (tmp_path / "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-2_bold.json", 5.0),
    ]
    for path, value in levels:
        write(path, RepetitionTime=value, Level=value)
        assert Sidecars((tmp_path,)).repetition_time(file) == value
    write(levels[-1][0], TaskName="rest")
    assert Sidecars((tmp_path,)).read(file) == {
        "RepetitionTime": 4.0,
        "Level": 4.0,
        "TaskName": "rest",
    }


def test_sidecars_of_other_runs_do_not_apply(tmp_path: Path) -> None:
    file = parsed("sub-01_task-rest_run-2_bold.nii.gz")
    write(tmp_path / "task-nback_bold.json", RepetitionTime=9.0)
    write(tmp_path / "sub-01" / "func" / "sub-01_task-rest_run-1_bold.json", RepetitionTime=9.0)
    write(tmp_path / "task-rest_sbref.json", RepetitionTime=9.0)
    assert Sidecars((tmp_path,)).repetition_time(file) is None


def test_the_most_trusted_root_comes_last(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "task-rest_bold.json", RepetitionTime=1.0)
    write(tmp_path / "prep" / "task-rest_bold.json", RepetitionTime=2.0)
    roots = (tmp_path / "raw", tmp_path / "prep")
    assert Sidecars(roots).repetition_time(parsed("sub-01_task-rest_bold.nii.gz")) == 2.0


@pytest.mark.parametrize("value", ["2", 0, -1, True, [2], 2000])
def test_wrong_repetition_times_are_refused(tmp_path: Path, value: object) -> None:
    write(tmp_path / "task-rest_bold.json", RepetitionTime=value)
    with pytest.raises(InputError, match="its sidecar says RepetitionTime"):
        Sidecars((tmp_path,)).repetition_time(parsed("sub-01_task-rest_bold.nii.gz"))


def test_broken_sidecars_are_named(tmp_path: Path) -> None:
    (tmp_path / "task-rest_bold.json").write_text("{")
    with pytest.raises(InputError, match=r"task-rest_bold\.json"):
        Sidecars((tmp_path,)).read(parsed("sub-01_task-rest_bold.nii.gz"))


def test_roots(tmp_path: Path) -> None:
    assert not is_root(tmp_path)
    assert derivative_roots(tmp_path) == []
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "derivatives" / "fmriprep" / "sub-01").mkdir(parents=True)
    (tmp_path / "derivatives" / "logs").mkdir()
    assert is_root(tmp_path)
    assert derivative_roots(tmp_path) == [tmp_path / "derivatives" / "fmriprep"]
