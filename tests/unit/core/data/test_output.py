"""The output folder: ownership, publication, phenotypes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocli.core.data import output
from neurocli.core.data.items import Found, OutputSpec
from neurocli.core.errors import InputError, UsageError

SPEC = OutputSpec("room", "hdf5", "kind", "1")


def fill(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_values_lose_their_folders() -> None:
    values = {
        "a": Path("/x/y.nii"),
        "b": "/x/z",
        "c": [1, ("/q/r",)],
        "d": {"e": "auto"},
        "f": None,
    }
    assert output.plain_values(values) == {
        "a": "y.nii", "b": "z", "c": [1, ["r"]], "d": {"e": "auto"}, "f": None,
    }  # fmt: skip


def test_publishing_replaces_an_older_item(tmp_path: Path) -> None:
    fill(tmp_path / "a", old="1", both="1")
    part = fill(tmp_path / "a.part-1", both="2")
    output.publish(part, tmp_path, "a", is_flat=False)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a"]
    assert [(p.name, p.read_text()) for p in (tmp_path / "a").iterdir()] == [("both", "2")]


def test_publishing_flat_files(tmp_path: Path) -> None:
    part = fill(tmp_path / "a.part-1", **{"a.h5": "2"})
    (tmp_path / "a.h5").write_text("1")
    output.publish(part, tmp_path, "a", is_flat=True)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.h5", "2")]


def test_retiring_touches_only_the_item(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, **{"a.h5": "1", "b.h5": "1"})
    (tmp_path / "precious").write_text("1")
    record = {"subject": "a", "files": ["a.h5", "b.h5", "../precious"]}
    output.retire(out, record)
    assert [p.name for p in out.iterdir()] == ["b.h5"]
    assert (tmp_path / "precious").exists()


def test_a_linked_folder_is_not_emptied(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", keep="1")
    out = fill(tmp_path / "out")
    (out / "a").symlink_to(tmp_path / "elsewhere")
    output.retire(out, {"subject": "a", "files": ["a/keep"]})
    assert (tmp_path / "elsewhere" / "keep").exists()


def test_people_round_trip_and_merge(tmp_path: Path) -> None:
    output.write_people(tmp_path, Found([]))
    assert not (tmp_path / "participants.tsv").exists()
    assert output.read_people(tmp_path / "participants.tsv") == {}
    first = {"p2": {"sex": "F", "age": None}}
    second = {"p1": {"sex": "M", "site": "x"}}
    output.write_people(tmp_path, Found([], participants=first))
    output.write_people(tmp_path, Found([], participants=second))
    text = (tmp_path / "participants.tsv").read_text()
    assert text.splitlines() == [
        "participant_id\tsex\tage\tsite",
        "p1\tM\tn/a\tx",
        "p2\tF\tn/a\tn/a",
    ]


def test_descriptions(tmp_path: Path) -> None:
    assert output.describe(tmp_path) == {}
    output.write_dataset(tmp_path, SPEC, {"a": 1}, built_in_data=False, records=None)
    assert output.describe(tmp_path)["complete"] is False
    (tmp_path / "dataset.json").write_text(json.dumps({"schema": "other/1"}))
    with pytest.raises(InputError, match="is of schema 'other/1'"):
        output.describe(tmp_path)


def test_checking_a_folder(tmp_path: Path) -> None:
    output.check_output(tmp_path / "no", SPEC, {}, force=False)
    output.check_output(tmp_path, SPEC, {}, force=False)
    (tmp_path / ".lock").touch()
    (tmp_path / "a.part-7").mkdir()
    output.check_output(tmp_path, SPEC, {}, force=False)
    output.write_dataset(tmp_path, SPEC, {"a": (1, 2)}, built_in_data=False, records=None)
    output.check_output(tmp_path, SPEC, {"a": [1, 2]}, force=False)
    with pytest.raises(UsageError, match=r"a is \[1, 2\] there and 3 here"):
        output.check_output(tmp_path, SPEC, {"a": 3}, force=False)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="no sound JSON"):
        output.check_output(tmp_path, SPEC, {}, force=False)
    output.check_output(tmp_path, SPEC, {}, force=True)


def test_meanings_and_what_is_left_out_go_along(tmp_path: Path) -> None:
    from neurocli.core.data.items import Found
    from neurocli.core.data.output import read_meanings, write_people

    write_people(
        tmp_path,
        Found(
            [],
            participants={"a": {"sex": "female"}},
            dictionary={"sex": {"Kind": "classification"}},
            left_out=[("b", "has no run here")],
        ),
    )
    assert read_meanings(tmp_path) == {"sex": {"Kind": "classification"}}
    assert (tmp_path / "left_out.tsv").read_text() == "what\treason\nb\thas no run here\n"
    # A second source adds its columns and keeps the others.
    write_people(
        tmp_path, Found([], participants={"c": {"age": "7"}}, dictionary={"age": {"Kind": "n"}})
    )
    assert set(read_meanings(tmp_path)) == {"sex", "age"}


def test_without_phenotypes_nothing_is_written(tmp_path: Path) -> None:
    from neurocli.core.data.items import Found
    from neurocli.core.data.output import read_meanings, write_people

    write_people(tmp_path, Found([], dictionary={"sex": {}}, left_out=[("a", "b")]))
    assert not list(tmp_path.iterdir())
    assert read_meanings(tmp_path) == {}
