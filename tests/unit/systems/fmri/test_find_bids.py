"""Which runs a BIDS dataset is taken to hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_files import options

from neurocli.core.data.items import Found
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.fmri.find_bids import find_bids

PREP = "derivatives/fmriprep"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def find(*sources: Path, **chosen: Any) -> Found:
    return find_bids(list(sources), options(**chosen))


def names(found: Found) -> list[str]:
    return [item.subject for item in found.items]


def bold(person: str, rest: str = "task-rest") -> str:
    return f"sub-{person}/func/sub-{person}_{rest}_bold.nii.gz"


def test_one_run_per_person_is_named_after_the_person(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), bold("02"))
    found = find(tmp_path)
    assert names(found) == ["sub-01", "sub-02"]
    assert [item.participant for item in found.items] == ["sub-01", "sub-02"]
    assert found.items[0].sources == (tmp_path / bold("01"),)
    assert found.participants is None


def test_several_runs_get_the_entities_that_differ(tmp_path: Path) -> None:
    touch(tmp_path, bold("01", "task-rest_acq-x_run-1"), bold("01", "task-rest_acq-x_run-2"))
    touch(tmp_path, bold("02", "task-rest_acq-x_run-1"))
    assert names(find(tmp_path)) == ["sub-01_run-1", "sub-01_run-2", "sub-02_run-1"]
    assert {item.participant for item in find(tmp_path).items} == {"sub-01", "sub-02"}
    touch(tmp_path, "sub-02/ses-b/func/sub-02_ses-b_task-nback_acq-x_run-1_bold.nii")
    assert names(find(tmp_path))[-1] == "sub-02_ses-b_task-nback_run-1"


def test_only_functional_runs_are_items(tmp_path: Path) -> None:
    touch(
        tmp_path,
        bold("01"),
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/func/sub-01_task-rest_sbref.nii.gz",
        "sub-01/func/sub-01_task-rest_part-phase_bold.nii.gz",
        "sub-01/func/._sub-01_task-rest_bold.nii.gz",
        "sub-01/perf/sub-01_asl.nii.gz",
        "sub-01/func/sub-01_task-rest_events.tsv",
        "sourcedata/sub-01/func/sub-01_task-rest_bold.nii.gz",
    )
    assert names(find(tmp_path)) == ["sub-01"]


def test_preprocessed_runs_come_first(tmp_path: Path) -> None:
    prep = f"{PREP}/sub-01/func/sub-01_task-rest"
    touch(
        tmp_path,
        bold("01"),
        bold("02"),
        f"{prep}_space-T1w_desc-preproc_bold.nii.gz",
        f"{prep}_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
        f"{prep}_space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
        f"{prep}_space-T1w_desc-brain_mask.nii.gz",
        f"{prep}_space-MNI152NLin6Asym_boldref.nii.gz",
    )
    found = find(tmp_path)
    assert names(found) == ["sub-01", "sub-02"]
    item = found.items[0]
    assert item.sources[0].name == "sub-01_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz"
    assert item.details["mask"] == item.sources[1]
    assert "MNI152NLin6Asym_desc-brain_mask" in item.sources[1].name
    assert "1 of 2 runs are taken preprocessed, 1 only raw" in found.notes
    assert any("several spaces" in note for note in found.notes)


def test_images_of_other_derivatives_are_not_raw_runs(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), "derivatives/cleaned/" + bold("02"))
    assert names(find(tmp_path)) == ["sub-01"]
    # Who names that folder means its images.
    assert names(find(tmp_path / "derivatives" / "cleaned")) == ["sub-02"]


def test_one_run_in_two_files_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), "sub-01/func/sub-01_task-rest_bold.nii")
    found = find(tmp_path)
    assert names(found) == ["sub-01"]
    assert found.items[0].sources[0].name == "sub-01_task-rest_bold.nii"
    assert found.notes == [
        "sub-01_task-rest_bold.nii and sub-01_task-rest_bold.nii.gz are one run; "
        "the first was taken"
    ]


def test_old_names_of_fmriprep(tmp_path: Path) -> None:
    prep = f"{PREP}/sub-01/func/sub-01_task-x_run-01_bold_space-MNI152NLin2009cAsym"
    touch(tmp_path, bold("01", "task-x_run-01"))
    touch(tmp_path, f"{prep}_preproc.nii.gz", f"{prep}_brainmask.nii.gz")
    found = find(tmp_path)
    assert names(found) == ["sub-01"]
    assert [path.name.rpartition("_")[2] for path in found.items[0].sources] == [
        "preproc.nii.gz",
        "brainmask.nii.gz",
    ]


def test_a_mask_of_another_space_is_not_used_for_raw_runs(tmp_path: Path) -> None:
    mask = f"{PREP}/sub-01/func/sub-01_task-rest_space-MNI152NLin6Asym_desc-brain_mask.nii.gz"
    touch(tmp_path, bold("01"), mask)
    found = find(tmp_path)
    assert "mask" not in found.items[0].details
    assert len(found.items[0].sources) == 1
    assert found.notes == [
        "1 masks of derivatives are of another space than their run and were not used "
        f"(such as {Path(mask).name}); the brain is found in the run itself"
    ]


def test_a_native_mask_goes_with_its_raw_run(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), f"{PREP}/sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz")
    assert find(tmp_path).items[0].details["mask"].name == "sub-01_task-rest_desc-brain_mask.nii.gz"


def test_an_explicit_mask_takes_the_place_of_others(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), f"{PREP}/sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz")
    given = tmp_path / "mine.nii.gz"
    given.write_bytes(b"")
    item = find(tmp_path, mask=str(given)).items[0]
    assert "mask" not in item.details
    assert item.sources[1:] == (given,)
    assert find(tmp_path, mask="none").items[0].sources[1:] == ()
    with pytest.raises(UsageError, match="is no file"):
        find(tmp_path, mask="atuo")


def test_derivatives_may_be_the_source(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), bold("02"))
    touch(tmp_path, f"{PREP}/sub-01/func/sub-01_task-rest_desc-preproc_bold.nii.gz")
    (tmp_path / "task-rest_bold.json").write_text('{"RepetitionTime": 0.8}')
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    found = find(tmp_path / PREP)
    assert names(found) == ["sub-01"]  # the raw run of sub-02 was not asked for
    assert found.items[0].details["tr_s"] == 0.8
    assert found.participants == {"sub-01": {"age": "30"}}


def test_one_person_may_be_the_source(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), bold("02"))
    (tmp_path / "task-rest_bold.json").write_text('{"RepetitionTime": 0.8}')
    found = find(tmp_path / "sub-02")
    assert names(found) == ["sub-02"]
    assert found.items[0].details["tr_s"] == 0.8


def test_phenotypes_of_the_people_found(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), bold("02"), bold("03"))
    table = "participant_id\tsex\tage\nsub-01\tF\t21\n02\tM\tn/a\nsub-09\tM\t50\n"
    (tmp_path / "participants.tsv").write_text(table)
    found = find(tmp_path)
    assert found.participants == {
        "sub-01": {"sex": "F", "age": "21"},
        "sub-02": {"sex": "M", "age": None},
    }
    assert "1 people have no row in participants.tsv, such as sub-03" in found.notes
    assert "1 of 3 people in participants.tsv have no run here" in found.notes


def test_a_broken_table_costs_only_the_phenotypes(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"))
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-01\tM\n")
    found = find(tmp_path)
    assert names(found) == ["sub-01"]
    assert found.notes[0].startswith("phenotypes are left out: participants.tsv:")


def test_a_broken_sidecar_costs_only_its_runs(tmp_path: Path) -> None:
    touch(tmp_path, bold("01"), bold("02", "task-other"))
    (tmp_path / "task-rest_bold.json").write_text("{")
    found = find(tmp_path)
    assert names(found) == ["sub-02"]
    assert found.failures[0][0] == "sub-01_task-rest_bold"
    assert "task-rest_bold.json: is no sound JSON" in found.failures[0][1]


def test_several_roots_join(tmp_path: Path) -> None:
    touch(tmp_path / "a", bold("01"))
    touch(tmp_path / "b", bold("02"))
    assert names(find(tmp_path / "a", tmp_path / "b")) == ["sub-01", "sub-02"]


def test_echoes_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, bold("01", "task-rest_echo-1"), bold("01", "task-rest_echo-2"))
    found = find(tmp_path)
    assert names(found) == ["sub-01_echo-1", "sub-01_echo-2"]
    assert any("echoes" in note for note in found.notes)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find(tmp_path / "no")
    with pytest.raises(InputError, match=r"holds no sub-\* folder"):
        find(tmp_path)
    with pytest.raises(UsageError, match="bids takes folders"):
        find(touch(tmp_path / "x", "a.nii.gz") / "a.nii.gz")
    touch(tmp_path / "y", "sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(InputError, match=r"holds no \*_bold.nii or \*_bold.nii.gz"):
        find(tmp_path / "y")


@pytest.mark.real
def test_real_dataset(real: Path) -> None:
    found = find(real / "fmri" / "ds005")
    assert names(found) == ["sub-01"]
    assert found.items[0].details["tr_s"] == 2.0
    assert found.participants == {"sub-01": {"sex": "M", "age": "28"}}
    assert "15 of 16 people in participants.tsv have no run here" in found.notes
    assert any("bold_space-MNI152NLin2009cAsym_brainmask.nii.gz" in note for note in found.notes)
    json.dumps(found.notes)


@pytest.mark.parametrize(
    ("image", "table"),
    [
        (
            "sub-01_task-rest_run-1_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
            "sub-01_task-rest_run-1_desc-confounds_timeseries.tsv",
        ),
        (
            "sub-01_task-rest_run-1_bold_space-MNI152NLin2009cAsym_preproc.nii.gz",
            "sub-01_task-rest_run-1_bold_confounds.tsv",
        ),
    ],
)
def test_confounds_go_along_when_they_are_asked_for(tmp_path: Path, image: str, table: str) -> None:
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    (func / image).touch()
    (func / table).write_text("csf\n1\n2\n")
    plain = find_bids([tmp_path], options()).items[0]
    assert plain.sources == (func / image,)
    asked = find_bids([tmp_path], options(confounds="csf")).items[0]
    assert asked.sources == (func / image, func / table)
    assert asked.details["confounds"] == func / table
