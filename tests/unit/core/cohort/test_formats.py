"""Splits as text: an older reader that is written out here, round trips, and wrong lines."""

from __future__ import annotations

import csv
import json

import pytest

from neurocli.core.cohort.formats import (
    csv_text,
    is_swift,
    nnunet_text,
    parse_nnunet,
    parse_swift,
    swift_text,
)
from neurocli.core.errors import ExitCode, InputError, UsageError

PARTS = {"train": ["p1", "sub-2"], "val": [], "test": ["p3"]}


def by_substring(text: str) -> dict[str, list[str]]:
    """Read as older programs do: headings by substring, the last character of each line cut."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines(keepends=True):
        heading = next((part for part in PARTS if part in line), None)
        if heading is None:
            found[current].append(line[:-1])
        else:
            current = heading
            found[current] = []
    return found


def test_older_readers_and_ours_see_the_same() -> None:
    text = swift_text(PARTS)
    assert by_substring(text) == parse_swift(text, "x") == PARTS
    assert is_swift(text)


def test_an_id_that_older_readers_misread_shows_why_it_is_refused() -> None:
    parts = {"train": ["p1"], "val": [], "test": ["trainee"]}
    with pytest.raises(UsageError, match="'trainee' holds train, val or test") as caught:
        swift_text(parts)
    assert caught.value.code == ExitCode.USAGE
    text = swift_text(parts, allow_unsafe_ids=True)
    assert by_substring(text) != parts
    assert parse_swift(text, "x") == parts


@pytest.mark.parametrize("name", [" p1", "p1\t", "a\nb", "a\rb", "val_subjects"])
def test_ids_that_cannot_stand_on_a_line(name: str) -> None:
    for is_allowed in (False, True):
        with pytest.raises(UsageError, match="cannot stand on a line"):
            swift_text({"train": [name]}, allow_unsafe_ids=is_allowed)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines_mean_nothing(end: str) -> None:
    lines = ["", "test_subjects", "p3", "", "  train_subjects  ", "p1", " sub-2 "]
    assert parse_swift(end.join(lines), "x") == PARTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p1\ntrain_subjects\n", "line 1: 'p1' stands before any heading"),
        ("train_subjects\na\n\ntrain_subjects\n", "line 4: second heading 'train_subjects'"),
    ],
)
def test_wrong_lines_are_numbered(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_swift(text, "split.txt")
    assert caught.value.message == words
    assert caught.value.where == "split.txt"


def test_a_heading_must_stand_alone() -> None:
    assert not is_swift("my_train_subjects\np1\n")
    assert not is_swift('{"train_subjects": 1}\n')
    assert is_swift("x\n test_subjects \n")


def test_csv_names_everybody_once_with_their_part() -> None:
    parts = {"train": ["=1+1", 'a,"b"'], "test": ["-5"]}
    rows = list(csv.reader(csv_text(parts).splitlines()))
    # A formula is guarded by an apostrophe; a negative number is none.
    assert rows == [["id", "part"], ["'=1+1", "train"], ['a,"b"', "train"], ["-5", "test"]]


def test_one_split_for_nnunet_has_no_test() -> None:
    text = nnunet_text([PARTS])
    assert json.loads(text) == [{"train": ["p1", "sub-2"], "val": []}]
    assert parse_nnunet(text, "x") == [{"train": ["p1", "sub-2"], "val": [], "test": []}]


def test_folds_for_nnunet_validate_on_what_was_left_out() -> None:
    folds = [
        {"train": ["a", "c"], "val": ["b"], "test": ["d"]},
        {"train": ["b", "d"], "val": ["a"], "test": ["c"]},
    ]
    assert json.loads(nnunet_text(folds)) == [
        {"train": ["a", "b", "c"], "val": ["d"]},
        {"train": ["a", "b", "d"], "val": ["c"]},
    ]


@pytest.mark.parametrize("text", ["", "{", "3", '["a"]', '[{"train": ["a"]}]', "[" * 100_000])
def test_what_is_no_list_of_folds_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_nnunet(text, "splits_final.json")
    assert caught.value.where == "splits_final.json"


def test_somebody_in_both_parts_of_a_fold_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        parse_nnunet('[{"train": ["a", "b"], "val": ["b"]}]', "x")
    assert "b" in str(caught.value)
