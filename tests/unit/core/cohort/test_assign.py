"""Which list of parts wins, who ends in "rest", and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocli.core.cohort.assign import assign_parts
from neurocli.core.cohort.files import split_sha256
from neurocli.core.errors import ExitCode, InputError, UsageError

IDS = [f"p{i:02}" for i in range(40)]


def split_file(folder: Path, **parts: list[str]) -> Path:
    path = folder / "split.json"
    path.write_text(json.dumps({"schema": "neuro/split/1", "parts": parts, "method": "by hand"}))
    return path


def test_a_file_is_narrowed_to_who_is_here(tmp_path: Path) -> None:
    path = split_file(tmp_path, train=["p03", "x1"], val=["p01"], test=["x2"])
    found = assign_parts(["p01", "p02", "p03"], split_path=path)
    assert found.parts == {"train": ["p03"], "val": ["p01"], "test": [], "rest": ["p02"]}
    assert found.sha256 == split_sha256(found.parts)
    assert found.notes == [
        "1 participants are in no part of the split: p02",
        "2 participants of the split are not in this data",
    ]


def test_a_checkpoints_parts_win_over_a_file(tmp_path: Path) -> None:
    path = split_file(tmp_path, train=["p00"], val=[], test=["p01"])
    found = assign_parts(["p00", "p01"], parts={"test": ["p00"], "train": ["p01"]}, split_path=path)
    assert found.parts == {"test": ["p00"], "train": ["p01"], "val": []}
    assert found.notes == []


def test_a_file_of_other_people_is_refused(tmp_path: Path) -> None:
    path = split_file(tmp_path, train=["x"], val=[], test=[])
    with pytest.raises(UsageError, match="names nobody of this dataset") as caught:
        assign_parts(["p01", "p00"], split_path=path)
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.hint == "the dataset holds p00, p01"
    with pytest.raises(InputError):
        assign_parts(["p00"], split_path=tmp_path / "none.json")


def test_the_hash_follows_ids_and_seed_and_not_their_order() -> None:
    plain = assign_parts(IDS, seed=3)
    assert assign_parts(IDS[::-1], seed=3).parts == plain.parts
    assert assign_parts(IDS, seed=4).parts != plain.parts
    # 70/15/15 of forty people.
    assert {part: len(names) for part, names in plain.parts.items()} == {
        "train": 28,
        "val": 6,
        "test": 6,
    }
    assert plain.notes == [
        "no --split: people are divided 70/15/15 by a hash of seed and id; see `neuro split`"
    ]


def test_families_of_the_table_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    rows = [f"{name}\tf{i // 4}" for i, name in enumerate(IDS)]
    path.write_text("participant_id\tfamily\n" + "\n".join(rows) + "\n")
    for seed in range(5):
        found = assign_parts(IDS, table_path=path, seed=seed)
        where = {name: part for part, names in found.parts.items() for name in names}
        for first in range(0, 40, 4):
            assert len({where[name] for name in IDS[first : first + 4]}) == 1
        assert "members of a family stay together" in found.notes[0]


def test_two_people_leave_nobody_for_a_test() -> None:
    found = assign_parts(["a", "b"])
    assert sum(map(len, found.parts.values())) == 2
    assert found.notes == ["no --split and 2 participants: no part is left for a test"]
