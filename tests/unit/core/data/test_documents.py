"""JSON documents of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.data.documents import indented, read_json
from neurocli.core.errors import InputError


def test_reads_an_object_with_or_without_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"RepetitionTime": 2.0, "Name": "Köln"}', encoding="utf-8")
    assert read_json(path) == {"RepetitionTime": 2.0, "Name": "Köln"}
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b'{"a": 1', "no sound JSON"),
        (b'{"a": 1, "a": 2}', "key 'a' appears twice"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[1, 2]", "holds a list"),
        (b"[" * 100_000, "no sound JSON"),
        ('{"a": "\u00e9"}'.encode("latin-1"), "not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no sound JSON"),
    ],
)
def test_refuses_everything_else(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_json(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.json: does not exist"):
        read_json(tmp_path / "no.json")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as handle:
        handle.truncate(20 << 20)
    with pytest.raises(InputError, match="larger than the limit"):
        read_json(path)


@pytest.mark.parametrize(
    "value",
    [
        {}, [], "ä\n\u2028\"", None, 1.5, {"a": []}, {"a": {}, "b": [[], {}]},
        {"parts": {"train": ["a", "Köln\\", ""], "test": []}, "pairs": [["a", "b"], ["c", "d"]]},
        {"n": [1, 2.5, None, True, "x"], "deep": [{"k": [1e-9, -0.0], "t": ("u", "v")}]},
        {"keys": {1: "one", None: "none"}, "ü": "\ud800"},
    ],
)  # fmt: skip
def test_indented_is_what_the_library_writes(value: Any) -> None:
    assert indented(value) == json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def test_indented_refuses_what_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        indented({"a": [1.0, float("nan")]})
