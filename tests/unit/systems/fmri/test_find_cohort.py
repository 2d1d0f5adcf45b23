"""Rows of cohorts on small copies of how they are handed out.

Every expected number stands in the tables that `cohort_trees` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cohort_trees import TREES, frames, run, table
from run_files import options

import neurocli
from neurocli.core.catalog import datasets, find_dataset, resolve
from neurocli.core.data.items import Found
from neurocli.core.data.tables import read_table
from neurocli.core.errors import InputError
from neurocli.systems.fmri.cohorts import ABCD, ABIDE, ADNI, COHORTS, HBN, S1200, Cohort
from neurocli.systems.fmri.phenotypes import find_tables, person_of, read_phenotypes
from neurocli.systems.fmri.store import open_store
from neurocli.systems.fmri.targets import read_targets

PEOPLE: dict[str, dict[str, dict[str, str | None]]] = {
    "s1200": {
        "100206": {"sex": "male", "age": "28", "int_total": "122.0"},
        "100307": {"sex": "female", "age": "27", "int_total": None},
    },
    "abcd": {
        "NDARINV003RTV85": {"sex": "female", "age": "131", "int_total": "84", "site": "site06"},
        "NDARINV00BD7VDC": {"sex": "female", "age": "121", "int_total": None, "site": "site20"},
    },
    "ukb": {
        "1000012": {"sex": "female", "age": "55", "int_fluid": None, "depression_current": "yes"},
        "1000025": {"sex": "male", "age": "63", "int_fluid": "7", "depression_current": "no"},
    },
    "hbn": {
        "NDARAA075AMK": {
            "sex": "female", "age": "6.72", "ndd_hc": "yes", "asd_hc": None, "site": "CBIC",
        },
        "NDARAB055BPR": {
            "sex": "male", "age": "9.13", "ndd_hc": "no", "asd_hc": None, "site": "RUBIC",
        },
    },
    "abide": {
        "50003": {"sex": "male", "age": "24.45", "asd": "yes", "site": "PITT"},
        "50004": {"sex": "female", "age": None, "asd": "no", "site": "PITT"},
        "29006": {"sex": "male", "age": "49", "asd": "yes", "site": "ABIDEII-BNI_1"},
    },
    "adni": {
        "002S0295": {
            "sex": "male", "age": "84.8", "ad": "no", "diagnosis": "CN", "conversion": "no",
        },
        "002S0413": {
            "sex": "female", "age": None, "ad": None, "diagnosis": "MCI", "conversion": "yes",
        },
    },
}  # fmt: skip
SUBJECTS = {
    "s1200": ["100206_run-rfMRI_REST1_LR", "100206_run-rfMRI_REST1_RL", "100307"],
    "abcd": ["NDARINV003RTV85_ses-base", "NDARINV003RTV85_ses-year2", "NDARINV00BD7VDC"],
    "ukb": ["1000012", "1000025"],
    "hbn": ["NDARAA075AMK_task-movieDM", "NDARAA075AMK_task-rest", "NDARAB055BPR"],
    "abide": ["29006", "50003", "50004"],
    "adni": ["002S0295", "002S0413"],
}


def find(name: str, root: Path, **chosen: Any) -> Found:
    found: Found = resolve(find_dataset(name)[1].find)([root], options(**chosen))
    return found


@pytest.fixture(params=TREES)
def cohort(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    root = tmp_path / "cohort"
    TREES[request.param](root)
    return request.param, root


def test_every_row_has_a_tree() -> None:
    assert set(TREES) == set(COHORTS) <= set(datasets())


def test_runs_and_people(cohort: tuple[str, Path]) -> None:
    name, root = cohort
    found = find(name, root)
    assert [item.subject for item in found.items] == SUBJECTS[name]
    assert found.failures == []
    assert found.participants == PEOPLE[name]
    assert {item.participant for item in found.items} == set(PEOPLE[name])
    assert {name for row in PEOPLE[name].values() for name in row} - {"site"} == set(
        found.dictionary
    )


def test_the_best_form_of_a_run_is_taken(cohort: tuple[str, Path]) -> None:
    name, root = cohort
    taken = [str(item.sources[0].relative_to(root)) for item in find(name, root).items]
    words = {"s1200": "hp2000_clean", "abcd": "desc-preproc", "adni": "MR.nii"}
    if name in words:
        assert words[name] in taken[0]
    assert not any("SBRef" in path or "MPRAGE" in path or "mprage" in path for path in taken)


def test_preprocess_writes_what_training_reads(cohort: tuple[str, Path], tmp_path: Path) -> None:
    name, root = cohort
    out = tmp_path / "out"
    result = neurocli.preprocess(name, root, out=out)
    assert (result.done, result.failed) == (len(SUBJECTS[name]), 0)
    people = read_table(out / "participants.tsv")
    assert sorted(people.ids) == sorted(PEOPLE[name])
    ages = read_targets(out / "participants.tsv", "age", None)
    # Two or three ages would pass for classes; the row knows better.
    assert ages.kind == "regression"
    assert ages.values == {
        person: float(row["age"]) for person, row in PEOPLE[name].items() if row["age"] is not None
    }
    sexes = read_targets(out / "participants.tsv", "sex", None) if name != "abcd" else None
    if sexes is not None:
        assert sexes.classes == ("female", "male")
        assert {p: sexes.classes[int(v)] for p, v in sexes.values.items()} == {
            person: row["sex"] for person, row in PEOPLE[name].items()
        }
    meanings = json.loads((out / "participants.json").read_text())
    assert meanings["sex"]["SourceValues"] == dict(COHORTS[name].targets["sex"].values)
    assert str(root) not in (out / "manifest.jsonl").read_text()


def test_what_is_left_out_is_counted_and_listed(tmp_path: Path) -> None:
    root = tmp_path / "abide"
    TREES["abide"](root)
    result = neurocli.preprocess("abide", root, out=tmp_path / "out")
    listed = (tmp_path / "out" / "left_out.tsv").read_text().splitlines()
    assert listed[0] == "what\treason"
    assert sorted(listed[1:]) == [
        "29006\tABIDE2_pheno_total.csv: lines 2, 3 name it; the last was taken",
        "50004\tage: blank",
        "50005\tABIDE1_pheno.csv: has no run here",
    ]
    notes = "\n".join(result.notes)
    assert "3 of 3 people have a row in 2 tables of abide" in notes
    assert "1 people of the tables have no run here" in notes
    assert "left out: age: blank: 1 (such as 50004)" in notes


def test_repetition_times(tmp_path: Path) -> None:
    TREES["ukb"](tmp_path / "c")
    result = neurocli.preprocess("ukb", tmp_path / "c", out=tmp_path / "out")
    assert result.failed == 0
    store = open_store(tmp_path / "out" / "1000012" / "bold.h5")
    assert store.tr_s == 0.735  # frames tell none, so the row does
    store = open_store(tmp_path / "out" / "1000025" / "bold.h5")
    assert store.tr_s == 2.0  # the header wins
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert "the header says a repetition time of 2 s and the row of ukb 0.735 s" in manifest
    assert "the file tells no repetition time; the row of ukb says 0.735 s" in manifest
    assert "its grid 12x13x11 is none of those usual for this cohort" in manifest


def test_a_broken_frame_folder_fails_alone(tmp_path: Path) -> None:
    TREES["ukb"](tmp_path)
    folder = frames(tmp_path / "img" / "1000099_20227_2_0")
    (folder / "frame_3.pt").unlink()
    found = find("ukb", tmp_path)
    assert [name for name, _ in found.failures] == ["1000099"]
    assert "lacks frame_3.pt" in found.failures[0][1]
    assert len(found.items) == 2


def test_one_persons_folder_is_a_source(tmp_path: Path) -> None:
    TREES["s1200"](tmp_path)
    found = find("s1200", tmp_path / "100307")
    assert [item.subject for item in found.items] == ["100307"]
    assert found.participants == {"100307": PEOPLE["s1200"]["100307"]}


@pytest.mark.parametrize("make", [True, False])
def test_folders_of_another_layout_are_refused(tmp_path: Path, make: bool) -> None:
    if make:
        run(tmp_path / "x" / "sub-01_bold.nii.gz")
    with pytest.raises(InputError, match=r"holds no run in the layout of hbn|does not exist"):
        find("hbn", tmp_path / "x")


# --- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "text", "wanted"),
    [
        (S1200, "100206", "100206"),
        (S1200, " 100206.0 ", "100206"),
        (S1200, "10020x", None),
        (ABIDE, "0050003", "50003"),
        (ABIDE, "", None),
        (ABCD, "NDAR_INV003RTV85", "NDARINV003RTV85"),
        (ABCD, "sub-NDARINV003RTV85", "NDARINV003RTV85"),
        (ABCD, "The NDAR Global Unique Identifier", None),
        (HBN, "NDARAA075AMK", "NDARAA075AMK"),
        (ADNI, "002_S_0295", "002S0295"),
        (ADNI, "sub-ADNI002S0295", "002S0295"),
    ],
)
def test_ids_have_one_spelling(row: Cohort, text: str, wanted: str | None) -> None:
    assert person_of(row, text) == wanted


def test_ids_that_are_none_are_listed(tmp_path: Path) -> None:
    TREES["abcd"](tmp_path)
    found = find("abcd", tmp_path)
    assert any("is no id of abcd" in reason for _, reason in found.left_out)


def test_a_given_table_is_taken(tmp_path: Path) -> None:
    TREES["hbn"](tmp_path / "a")
    table(tmp_path / "mine.csv", "EID,Sex,Age\nNDARAA075AMK,0,7\n")
    found = find("hbn", tmp_path / "a", metadata=str(tmp_path / "mine.csv"))
    assert found.participants is not None
    assert found.participants["NDARAA075AMK"] == {"sex": "male", "age": "7"}
    assert ("NDARAB055BPR", "has runs and no row in the tables") in found.left_out
    with pytest.raises(InputError, match="holds no table of hbn"):
        find("hbn", tmp_path / "a", metadata=str(tmp_path / "a" / "sub-NDARAA075AMK"))


def test_without_tables_runs_are_found_all_the_same(tmp_path: Path) -> None:
    TREES["hbn"](tmp_path)
    (tmp_path / "HBN_metadata_231212.csv").unlink()
    found = find("hbn", tmp_path)
    assert len(found.items) == 3
    assert found.participants is None
    assert "no table of hbn was found" in found.notes[-1]


def test_rows_that_contradict_give_nothing(tmp_path: Path) -> None:
    path = tmp_path / "HCP_1200_gender.csv"
    table(path, "Subject,Gender,Release\n100206,M,Q1\n100206,F,Q2\n100307,F,Q1\n100307,F,Q2\n")
    told = read_phenotypes(S1200, find_tables(S1200, [], path), ["100206", "100307"])
    assert told.people == {"100206": {"sex": None}, "100307": {"sex": "female"}}
    assert ("100206", "HCP_1200_gender.csv: lines 2, 3 differ in Gender") in told.left_out


def test_codes_without_a_meaning_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ABIDE1_pheno.csv"
    table(path, "SUB_ID,SEX,DX_GROUP\n50003,3,1\n50004,2,control\n")
    told = read_phenotypes(ABIDE, find_tables(ABIDE, [], path), ["50003", "50004"])
    assert told.people["50003"] == {"sex": None, "asd": "yes"}
    assert told.people["50004"] == {"sex": "female", "asd": None}
    assert ("50003", "sex: '3' has no meaning here") in told.left_out
    assert ("50004", "asd: 'control' has no meaning here") in told.left_out


def test_a_table_without_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ABIDE1_pheno.csv"
    table(path, "ID,SEX\n50003,1\n")
    with pytest.raises(InputError, match="has no column of ids"):
        read_phenotypes(ABIDE, find_tables(ABIDE, [], path), ["50003"])


@pytest.mark.parametrize("name", COHORTS)
def test_pads_bring_frames_to_a_cube(name: str) -> None:
    # Sizes and pads are those of the family's loaders; ADNI's padded cube is one voxel off there.
    row = COHORTS[name]
    d_lo, d_hi, w_lo, w_hi, h_lo, h_hi = row.pad
    x, y, z = row.spaces[-1]
    assert (x + h_lo + h_hi, y + w_lo + w_hi, z + d_lo + d_hi) == (96, 96, 96)
