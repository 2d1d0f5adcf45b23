"""Finding cases: which files belong together, whose they are, and what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from trees import small_tree

from neurocli.core.data.items import Found
from neurocli.core.errors import InputError
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.discover import find_cases, person_of


def touch(folder: Path, *names: str) -> Path:
    """Make files that hold their own name, so that no two are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{folder.name} {name}")
    return folder


def files(found: Found, number: int = 0) -> dict[str, str]:
    return {k: Path(v).name for k, v in found.items[number].details["files"].items()}


OLD = [f"Brats18_CBICA_AAB_1_{kind}.nii.gz" for kind in (*MODALITIES, "seg")]
NEW = [f"BraTS-GLI-00005-100-{word}.nii.gz" for word in ("t1n", "t1c", "t2w", "t2f", "seg")]


def test_older_names(tmp_path: Path) -> None:
    touch(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", *OLD)
    found = find_cases([tmp_path], {})
    assert files(found) == dict(zip((*MODALITIES, "seg"), OLD, strict=True))
    item = found.items[0]
    assert (item.subject, item.participant) == ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB")
    assert item.details["labels"] == "et4"
    assert found.participants == {"Brats18_CBICA_AAB": {"grade": "HGG", "site": "CBICA"}}


def test_newer_names(tmp_path: Path) -> None:
    touch(tmp_path / "BraTS-GLI-00005-100", *NEW)
    found = find_cases([tmp_path], {})
    assert files(found) == dict(zip((*MODALITIES, "seg"), NEW, strict=True))
    assert found.items[0].participant == "BraTS-GLI-00005"
    assert found.items[0].details["labels"] == "et3"
    assert found.participants is None


def test_the_user_may_say_which_labels(tmp_path: Path) -> None:
    touch(tmp_path / "a", *NEW)
    assert find_cases([tmp_path], {"labels": "et4"}).items[0].details["labels"] == "et4"


@pytest.mark.parametrize(
    ("case", "person"),
    [
        ("Brats18_2013_10_1", "Brats18_2013_10"),
        ("Brats18_TCIA02_135_1", "Brats18_TCIA02_135"),
        ("BraTS2021_01666", "BraTS2021_01666"),
        ("BraTS20_Training_355", "BraTS20_Training_355"),  # the number of the patient
        ("BraTS-MET-00012-003", "BraTS-MET-00012"),
        ("patient 7", "patient 7"),
    ],
)
def test_people(case: str, person: str) -> None:
    assert person_of(case) == person


def test_two_visits_of_one_person_stay_one_person(tmp_path: Path) -> None:
    for visit in ("000", "001"):
        name = f"BraTS-GLI-00005-{visit}"
        touch(tmp_path / name, *(f"{name}-{w}.nii.gz" for w in ("t1n", "t1c", "t2w", "t2f")))
    found = find_cases([tmp_path], {})
    assert len(found.items) == 2
    assert {item.participant for item in found.items} == {"BraTS-GLI-00005"}


def test_a_folder_whose_name_holds_a_word_misleads_nobody(tmp_path: Path) -> None:
    names = [f"seg_t1ce_study_{kind}.nii" for kind in (*MODALITIES, "seg")]
    touch(tmp_path / "t1ce_seg", *names, "notes_t1ce.txt", ".hidden_t1.nii", "t1ce.nii")
    found = find_cases([tmp_path], {})
    assert [item.subject for item in found.items] == ["seg_t1ce_study"]
    assert files(found)["t1ce"] == "seg_t1ce_study_t1ce.nii"


def test_cases_side_by_side_in_one_folder(tmp_path: Path) -> None:
    names = [f"{case}_{kind}.nii.gz" for case in ("a", "b") for kind in MODALITIES]
    touch(tmp_path / "flat", *names)
    assert [item.subject for item in find_cases([tmp_path], {}).items] == ["a", "b"]


def test_several_sources(tmp_path: Path) -> None:
    one, two = (
        touch(tmp_path / c, *(f"{c}_{kind}.nii.gz" for kind in MODALITIES)) for c in ("a", "b")
    )
    assert [item.subject for item in find_cases([two, one], {}).items] == ["b", "a"]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "a", "a_t1.nii.gz", "a_t2.nii.gz", "a_seg.nii.gz")
    touch(tmp_path / "b", *(f"b_{kind}.nii.gz" for kind in MODALITIES), "b_t1n.nii.gz")
    touch(tmp_path / "c", *(f"c_{kind}.nii.gz" for kind in MODALITIES))
    found = find_cases([tmp_path], {})
    reasons = dict(found.failures)
    assert [item.subject for item in found.items] == ["c"]
    assert "no t1ce and no flair (it holds a_seg.nii.gz" in reasons["a"]
    assert "two files are the t1: b_t1.nii.gz and b_t1n.nii.gz" in reasons["b"]
    assert str(tmp_path / "a") in reasons["a"]


def test_failures_have_names_of_their_own(tmp_path: Path) -> None:
    for place in ("x", "y", "z"):
        touch(tmp_path / place / "a", "a_t1.nii.gz")
    names = [name for name, _ in find_cases([tmp_path], {}).failures]
    assert names == ["a", "a (2)", "a (3)"]


def test_a_label_file_alone_is_no_case(tmp_path: Path) -> None:
    touch(tmp_path / "a", "a_seg.nii.gz")
    with pytest.raises(InputError, match="holds no case"):
        find_cases([tmp_path], {})


def test_copies_are_found_by_content_and_not_by_size(tmp_path: Path) -> None:
    tree = small_tree(tmp_path, n_cases=4)
    # Uncompressed volumes of one grid all have the same size; only the copy is a copy.
    source = tree / "BraTS2021_Training_Data" / "BraTS2021_00002"
    twin = source.with_name("BraTS2021_00900")
    shutil.copytree(source, twin)
    for path in twin.iterdir():
        path.rename(path.with_name(path.name.replace("00002", "00900")))
    found = find_cases([tree], {})
    assert [name for name, _ in found.failures] == ["BraTS2021_00900"]
    assert len(found.items) == 4


def test_depth_and_hidden_folders(tmp_path: Path) -> None:
    names = [f"a_{kind}.nii.gz" for kind in MODALITIES]
    touch(tmp_path / "1" / "2" / "3" / "4" / "5", *names)
    touch(tmp_path / ".cache", *(f"b_{kind}.nii.gz" for kind in MODALITIES))
    assert [item.subject for item in find_cases([tmp_path], {}).items] == ["a"]
    shutil.move(tmp_path / "1", tmp_path / "0" / "1")
    with pytest.raises(InputError, match="holds no case"):
        find_cases([tmp_path], {})


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_sources_that_are_none(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "x"
    if kind == "file":
        source.write_text("x")
    with pytest.raises(InputError, match="folder is needed" if kind == "file" else "not exist"):
        find_cases([source], {})
