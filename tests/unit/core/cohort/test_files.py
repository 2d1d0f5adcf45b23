"""Split files: round trips, damaged and hostile files, the family's older readers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from neurocli.core.cohort.files import (
    Split,
    check_split,
    read_split,
    render_split,
    split_sha256,
    write_split,
)
from neurocli.core.cohort.options import FORMATS
from neurocli.core.cohort.splits import rotate_folds
from neurocli.core.errors import InputError, UsageError

PARTS = {"train": ["0012", "1E5", "NA"], "val": ["b,2"], "test": ['c"3', "é"]}
FULL = Split(
    parts=PARTS,
    seed=3,
    method="stratified, grouped",
    folds=[PARTS, {"train": ["b,2"], "val": [], "test": ["0012"]}],
    inputs_sha256="ab" * 32,
    groups={"columns": ["family"], "n": 5, "largest": 2, "split": 0},
    balance=[{"column": "age", "smd": 0.1}],
    options={"train": 0.7},
)


def legacy_reader(text: str) -> dict[str, list[str]]:
    """Re-express what older readers do: headings by substring, the last character cut off."""
    lines = text.splitlines(keepends=True)
    first = {
        part: next((i for i, line in enumerate(lines) if part in line), 0)
        for part in ("train", "val", "test")
    }
    return {
        "train": [line[:-1] for line in lines[first["train"] + 1 : first["val"]]],
        "val": [line[:-1] for line in lines[first["val"] + 1 : first["test"]]],
        "test": [line[:-1] for line in lines[first["test"] + 1 :]],
    }


def put(folder: Path, text: str | bytes, name: str = "split") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_json_keeps_everything(tmp_path: Path) -> None:
    assert read_split(write_split(tmp_path / "s.json", FULL)) == FULL


@pytest.mark.parametrize("format", ["json", "swift", "csv"])
def test_every_format_keeps_the_parts_as_text(tmp_path: Path, format: str) -> None:
    # Leading zeros, "NA", "1E5", commas and quotes survive; the name of the file says nothing.
    path = write_split(tmp_path / "any.name", Split(PARTS), format)
    assert read_split(path).parts == PARTS
    assert split_sha256(read_split(path).parts) == split_sha256(PARTS)


def test_json_has_the_agreed_keys() -> None:
    value = json.loads(render_split(FULL))
    assert value["schema"] == "neuro/split/1"
    assert list(value["parts"]) == ["train", "val", "test"]
    assert value["inputs"] == {"sha256": "ab" * 32}
    assert value["groups"]["split"] == 0
    assert {"seed", "folds", "method", "balance"} <= set(value)


def test_older_readers_get_the_same_people_from_our_file() -> None:
    ids = [f"{i:06}" for i in random.Random(0).sample(range(999_999), 60)]
    parts = {"train": sorted(ids[:40]), "val": sorted(ids[40:50]), "test": sorted(ids[50:])}
    text = render_split(Split(parts), "swift")
    assert legacy_reader(text) == parts
    assert text.endswith("\n")
    assert "\r" not in text


def test_empty_parts_keep_their_headings() -> None:
    # Without a test section older readers would take the whole file for the test part.
    text = render_split(Split({"train": ["1"], "val": [], "test": []}), "swift")
    assert text == "train_subjects\n1\nval_subjects\ntest_subjects\n"
    assert legacy_reader(text) == {"train": ["1"], "val": [], "test": []}


def test_ids_that_fool_older_readers_are_refused_unless_allowed(tmp_path: Path) -> None:
    split = Split({"train": ["sub-interval01"], "val": ["a"], "test": ["b"]})
    assert legacy_reader(render_split(split, "swift", allow_unsafe_ids=True)) != split.parts
    with pytest.raises(UsageError, match="'sub-interval01' holds train, val or test"):
        write_split(tmp_path / "s.txt", split, "swift")
    assert not (tmp_path / "s.txt").exists()
    path = write_split(tmp_path / "s.txt", split, "swift", allow_unsafe_ids=True)
    assert read_split(path).parts == split.parts


@pytest.mark.parametrize("name", ["train_subjects", " a", "b\t", "a\nb", "a\rb"])
def test_ids_that_cannot_stand_on_a_line_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot stand on a line"):
        render_split(Split({"train": [name]}), "swift", allow_unsafe_ids=True)


@pytest.mark.parametrize(
    "text",
    [
        "train_subjects\n1003\ninterval7\nval_subjects\n5\ntest_subjects\n7",
        "train_subjects\r\n1003\r\ninterval7\r\nval_subjects\r\n5\r\ntest_subjects\r\n7\r\n",
        "\ufefftrain_subjects\n1003\ninterval7\n\nval_subjects\n5\n\n\ntest_subjects\n7\n",
        "test_subjects\n7\ntrain_subjects\ninterval7\n 1003 \nval_subjects\n5\n",
    ],
)
def test_the_text_format_as_people_have_it(tmp_path: Path, text: str) -> None:
    # No final newline, CRLF, a byte-order mark, blank lines, another order, ids with "val".
    expected = {"train": ["1003", "interval7"], "val": ["5"], "test": ["7"]}
    assert read_split(put(tmp_path, text)).parts == expected


def test_a_file_of_the_familys_size(tmp_path: Path) -> None:
    ids = [str(100_000 + i) for i in range(1084)]
    text = "\n".join(
        ["train_subjects", *ids[:758], "val_subjects", *ids[758:920], "test_subjects", *ids[920:]]
    )
    parts = read_split(put(tmp_path, text + "\n")).parts
    assert [len(names) for names in parts.values()] == [758, 162, 164]


def test_unusual_separators_inside_an_id_do_not_cut_it(tmp_path: Path) -> None:
    parts = {"train": ["a\u2028b", "c\x85d"], "val": [], "test": []}
    assert read_split(write_split(tmp_path / "s", Split(parts), "swift")).parts == {
        **parts,
        "train": sorted(parts["train"]),
    }


def test_a_missing_section_is_an_empty_part(tmp_path: Path) -> None:
    assert read_split(put(tmp_path, "train_subjects\n1\n")).parts["test"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7\ntrain_subjects\n1\n", "line 1: '7' stands before any heading"),
        ("train_subjects\n1\ntrain_subjects\n2\n", "line 3: second heading 'train_subjects'"),
        ("id,part\na,trian\n", "'a' has part 'trian'"),
        ("id,part\na,\n", "'a' has part 'None'"),
        ("id,group\na,train\n", "is no split file"),
        ("a,b\n1\n", "."),
        ('{"schema": "neuro/split/1", "parts": {}, "parts": {}}', "key 'parts' appears twice"),
        ('{"schema": "neuro/split/1", "parts": {"train": [NaN]}}', "NaN is no JSON number"),
        ('{"parts": {"train": ["a"]}}', "has schema None"),
        ('{"schema": "neuro/split/2", "parts": {"train": ["a"]}}', "schema 'neuro/split/2'"),
        ('{"schema": "neuro/split/1", "parts": ["a"]}', "key parts: no lists of ids"),
        ('{"schema": "neuro/split/1"}', "key parts"),
        ('{"schema": "neuro/split/1", "parts": {"train": "abc"}}', "key parts: no lists"),
        ('{"schema": "neuro/split/1", "parts": {"train": [7]}}', "key parts.train: '7' is no id"),
        ('{"schema": "neuro/split/1", "parts": {"train": [" "]}}', "is no id"),
        ('{"schema": "neuro/split/1", "parts": {"tets": []}}', "'tets'; did you mean test"),
        ('{"schema": "neuro/split/1", "parts": {}, "seed": true}', "key seed: True"),
        ('{"schema": "neuro/split/1", "parts": {}, "folds": {}}', "key folds"),
        ('{"schema": "neuro/split/1", "parts": {}, "folds": [3]}', r"key folds\[0\]"),
        ('{"schema": "neuro/split/1", "parts": {"train": ["a"', "no sound JSON"),
        ("[" * 5000, "."),
        ("{" + '"a":{' * 5000, "no sound JSON"),
        (b"\xff\xfe\x00\x01", "no UTF-8 text"),
        (b"\x89HDF\r\n\x1a\n\xff", "HDF5"),
        ("", "empty"),
    ],
)
def test_what_is_no_split_file_is_refused_with_its_name(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    path = put(tmp_path, text, "mine.split")
    with pytest.raises((InputError, UsageError), match=words) as caught:
        read_split(path)
    assert "mine.split" in str(caught.value.where)
    assert "\n" not in caught.value.message


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_split(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a folder"):
        read_split(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": "neuro/split/1", "parts": {"train": ["a", "b"], "test": ["b"]}}',
        "train_subjects\na\nb\ntest_subjects\nb\n",
    ],
)
def test_a_person_in_two_parts_is_leakage(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"1 ids stand more than once: 'b' \(train, test\)"):
        read_split(put(tmp_path, text))


def test_a_person_twice_in_one_part_or_in_a_fold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a' \(train, train\)"):
        read_split(put(tmp_path, "train_subjects\na\na\n"))
    fold = '{"schema": "neuro/split/1", "parts": {}, "folds": [{"train": ["a"], "val": ["a"]}]}'
    with pytest.raises(UsageError, match=r"'a' \(train, val\)"):
        read_split(put(tmp_path, fold))
    with pytest.raises((InputError, UsageError), match=r"a"):
        read_split(put(tmp_path, "id,part\na,train\na,test\n"))


def test_nnunet_lists_train_and_val_and_reads_back(tmp_path: Path) -> None:
    split = Split({"train": ["b", "a"], "val": ["c"], "test": ["d"]})
    text = render_split(split, "nnunet")
    # nnU-Net keeps test cases in another folder; splits_final.json lists folds of train and val.
    assert json.loads(text) == [{"train": ["b", "a"], "val": ["c"]}]
    found = read_split(put(tmp_path, text))
    assert found.parts == {"train": ["a", "b"], "val": ["c"], "test": []}
    assert found.folds == ()


def test_nnunet_validates_everyone_once_over_the_folds(tmp_path: Path) -> None:
    blocks = [["a", "b"], ["c"], ["d"]]
    split = Split({}, folds=rotate_folds(blocks))
    text = render_split(split, "nnunet")
    assert [fold["val"] for fold in json.loads(text)] == blocks
    assert all(sorted(fold["train"] + fold["val"]) == list("abcd") for fold in json.loads(text))
    found = read_split(put(tmp_path, text))
    assert len(found.folds) == 3
    assert found.parts == found.folds[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "holds no folds"),
        ("[1]", "fold 0 is no pair of train and val"),
        ('[{"train": ["a"]}]', "fold 0 is no pair"),
        ('[{"train": ["a"], "val": "b"}]', "fold 0, val: no list of ids"),
        ('[{"train": ["a"], "val": [3]}]', "fold 0, val: no list of ids"),
        ('[{"train": ["a"], "val": ["a"]}]', "'a' .train, val."),
        ('[{"train": ["a"], "val"', "no sound JSON"),
    ],
)
def test_lists_that_are_no_folds_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((InputError, UsageError), match=words):
        read_split(put(tmp_path, text))


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown split format 'jsn'; did you mean json"):
        render_split(FULL, "jsn")
    assert FORMATS[0] == "json"


def test_pairs_and_sampling_are_kept(tmp_path: Path) -> None:
    split = Split(
        {"train": ["a", "b"], "val": [], "test": []},
        pairs=[["a", "b"]],
        sampling={"method": "psm", "n_pairs": 1},
    )
    found = read_split(write_split(tmp_path / "s.json", split))
    assert (found.pairs, found.sampling) == ([["a", "b"]], split.sampling)
    assert "pairs" not in json.loads(render_split(FULL))
    wrong = '{"schema": "neuro/split/1", "parts": {}, "pairs": [["a", 1]]}'
    with pytest.raises(InputError, match="key pairs"):
        read_split(put(tmp_path, wrong))


def test_a_split_of_half_a_million_people_is_read_back(tmp_path: Path) -> None:
    # Larger than what small documents beside data may be: 500,000 ids on lines of their own.
    ids = [f"sub-NDARINV{i:016}" for i in range(500_000)]
    split = Split({"train": ids[:400_000], "val": ids[400_000:450_000], "test": ids[450_000:]})
    path = write_split(tmp_path / "s.json", split)
    assert path.stat().st_size > 16 << 20
    assert read_split(path).parts == split.parts


@pytest.mark.parametrize("format", ["swift", "csv"])
def test_folds_need_json(format: str) -> None:
    with pytest.raises(UsageError, match="no place for folds"):
        render_split(FULL, format)


def test_csv_guards_spreadsheets_and_reads_back(tmp_path: Path) -> None:
    split = Split({"train": ["=SUM(A1)", "-5"], "val": [], "test": []})
    text = render_split(split, "csv")
    assert "\n=SUM" not in text
    assert read_split(put(tmp_path, text)).parts["train"] == ["-5", "=SUM(A1)"]


def test_the_hash_is_of_who_is_where() -> None:
    assert split_sha256({"train": ["b", "a"]}) == split_sha256({"train": ["a", "b"], "test": []})
    assert split_sha256({"train": ["a"]}) != split_sha256({"val": ["a"]})
    assert split_sha256({"train": ["ab"]}) != split_sha256({"train": ["a", "b"]})
    # sha256 of the canonical text, by hashlib alone.
    import hashlib

    text = '{"test":[],"train":["a"],"val":[]}'
    assert split_sha256({"train": ["a"]}) == hashlib.sha256(text.encode()).hexdigest()


def test_check_names_unknown_and_missing_people() -> None:
    check = check_split(Split({"train": ["a", "x"], "val": ["b"], "test": []}), ["b", "a", "c"])
    assert (check.unknown, check.missing) == (["x"], ["c"])
