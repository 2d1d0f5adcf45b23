"""Who is divided: tables, BIDS folders, preprocessed folders, ids that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocli.core.cohort.people import family_columns, read_people, without
from neurocli.core.data.tables import Table
from neurocli.core.errors import InputError, UsageError


def folder_with(tmp_path: Path, people: str | None, done: dict[str, str] | None) -> Path:
    if people is not None:
        (tmp_path / "participants.tsv").write_text(people)
    if done is not None:
        lines = [
            json.dumps({"subject": subject, "participant": subject[:6], "status": status})
            for subject, status in done.items()
        ]
        (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_table_comes_back_sorted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("subject,age\n10,5\n2,6\n010,\n")
    table, notes = read_people(path)
    assert table.ids == ["010", "10", "2"]
    assert table.columns["age"] == [None, "5", "6"]
    assert notes == []


def test_a_bids_folder_gives_its_participants(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "participant_id\tsex\nsub-02\tF\nsub-01\tM\n", None)
    table, _ = read_people(folder)
    assert table.ids == ["sub-01", "sub-02"]
    assert table.columns["sex"] == ["M", "F"]


def test_a_preprocessed_folder_gives_people_with_finished_items(tmp_path: Path) -> None:
    done = {"sub-01_run-1": "done", "sub-01_run-2": "failed", "sub-02": "failed", "sub-04": "done"}
    people = "participant_id\tsex\nsub-01\tM\nsub-02\tF\nsub-03\tF\n"
    table, notes = read_people(folder_with(tmp_path, people, done))
    assert table.ids == ["sub-01", "sub-04"]
    assert table.columns["sex"] == ["M", None]
    assert notes == [
        "left out, no processed data: 2 (sub-02, sub-03)",
        "no row in participants.tsv, all values missing: 1 (sub-04)",
    ]


def test_a_manifest_alone_gives_people_without_phenotypes(tmp_path: Path) -> None:
    table, _ = read_people(folder_with(tmp_path, None, {"sub-02": "done", "sub-01": "done"}))
    assert table.ids == ["sub-01", "sub-02"]
    assert table.columns == {}


def test_folders_without_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither participants\.tsv nor manifest\.jsonl"):
        read_people(tmp_path)
    with pytest.raises(InputError, match="no finished participant"):
        read_people(folder_with(tmp_path, None, {"sub-01": "failed"}))


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "..", "."])
def test_ids_with_path_parts_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,age\nfine,1\n{name},2\n")
    with pytest.raises(UsageError, match="1 ids hold a slash") as caught:
        read_people(path)
    assert str(caught.value.where).endswith("t.csv, column id")


def test_an_id_with_a_line_feed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,age\n"a\nb",1\n')
    with pytest.raises((UsageError, InputError)) as caught:
        read_people(path)
    assert "\n" not in caught.value.message


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,age\n")
    with pytest.raises(InputError):
        read_people(path)


def test_an_unknown_id_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,age\na,1\n")
    with pytest.raises(UsageError, match="'subjct'"):
        read_people(path, id_column="subjct")


def test_without_drops_rows_from_every_column() -> None:
    table = Table(["a", "b", "c"], "id", {"x": ["1", "2", "3"]}, Path("t.csv"))
    assert without(table, ["b"]).columns == {"x": ["1", "3"]}


@pytest.mark.parametrize(
    "name", ["family", "Family_ID", "Mother_ID", "rel_family_id", "TWIN-ID", "fid", "household"]
)
def test_columns_that_look_like_families(name: str) -> None:
    assert family_columns(Table(["a", "b"], "id", {name: ["7", "7"]}, Path("t"))) == [name]
    # When everyone has a value of their own nobody would be kept together.
    assert family_columns(Table(["a", "b"], "id", {name: ["7", "8"]}, Path("t"))) == []
    assert family_columns(Table(["a", "b"], "id", {name: [None, None]}, Path("t"))) == []


def test_other_columns_are_no_families() -> None:
    table = Table(["a", "b"], "id", {"familiarity": ["1", "1"], "sex": ["F", "F"]}, Path("t"))
    assert family_columns(table) == []
