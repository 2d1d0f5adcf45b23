"""What is whole is read, what is damaged is dropped and told, nothing raises."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurocli.core.report.records import RecordReader, Table, as_number, parse_json


@pytest.fixture
def reader(tmp_path: Path) -> RecordReader:
    return RecordReader(tmp_path)


def test_missing_files_are_listed_and_not_problems(reader: RecordReader) -> None:
    assert reader.mapping("a.json") == {}
    assert list(reader.lines("b.jsonl")) == []
    assert reader.table("c.csv") == Table()
    assert reader.settings("d.yaml") == {}
    assert reader.missing == ["a.json", "b.jsonl", "c.csv", "d.yaml"]
    assert reader.problems == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"a": 1} x', b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_damaged_json_is_left_out_with_a_sentence(reader: RecordReader, content: bytes) -> None:
    (reader.folder / "a.json").write_bytes(content)
    assert reader.mapping("a.json") == {}
    assert len(reader.problems) == 1
    assert reader.problems[0].startswith("a.json: ")


def test_nan_in_json_is_missing(reader: RecordReader) -> None:
    (reader.folder / "a.json").write_text('{"x": NaN, "y": -Infinity, "z": 1}')
    assert reader.mapping("a.json") == {"x": None, "y": None, "z": 1}


def test_a_cut_last_line_of_a_log_is_dropped(reader: RecordReader) -> None:
    (reader.folder / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert list(reader.lines("log.jsonl")) == [{"step": 1}, {"step": 2}]
    assert reader.problems == ["log.jsonl: the last line is cut off, dropped"]


def test_a_whole_last_line_without_newline_counts(reader: RecordReader) -> None:
    (reader.folder / "log.jsonl").write_text('{"step": 1}\n{"step": 2}')
    assert list(reader.lines("log.jsonl")) == [{"step": 1}, {"step": 2}]
    assert reader.problems == []


def test_glued_and_odd_lines_of_a_log_are_counted(reader: RecordReader) -> None:
    text = '{"step": 1}{"step": 2}\n\n[3]\n{"step": 4}\n'
    (reader.folder / "log.jsonl").write_text(text)
    assert list(reader.lines("log.jsonl")) == [{"step": 4}]
    assert reader.problems == ["log.jsonl: 2 lines damaged, the first is line 1; dropped"]


def test_table_drops_cut_and_glued_rows(reader: RecordReader) -> None:
    (reader.folder / "t.csv").write_text('id,x\n"a,1",2\nb,3c,4\nd,5\ne,6')
    table = reader.table("t.csv")
    assert table.header == ("id", "x")
    assert table.rows == (("a,1", "2"), ("d", "5"))
    assert table.column("x") == ["2", "5"]
    assert table.column("y") is None
    assert reader.problems == [
        "t.csv: the last line is cut off, dropped",
        "t.csv: line 3 damaged; dropped",
    ]


def test_table_with_a_byte_order_mark_and_windows_lines(reader: RecordReader) -> None:
    (reader.folder / "t.csv").write_bytes("\ufeffid,x\r\nä,1\r\n".encode())
    assert reader.table("t.csv") == Table(("id", "x"), (("ä", "1"),))


def test_one_endless_cell_is_no_table(reader: RecordReader) -> None:
    (reader.folder / "t.csv").write_text("id\n" + "x" * 200_000 + "\n")
    assert reader.table("t.csv") == Table()
    assert "no CSV table" in reader.problems[0]


def test_settings_are_flat_and_a_bad_yaml_is_told(reader: RecordReader) -> None:
    (reader.folder / "good.yaml").write_text("train: {lr: 1e-3, betas: [0.9, 0.99]}\n")
    (reader.folder / "bad.yaml").write_text("a: &x [1]\nb: *x\n")
    assert reader.settings("good.yaml") == {"train.lr": 0.001, "train.betas": [0.9, 0.99]}
    assert reader.settings("bad.yaml") == {}
    assert reader.problems == ["bad.yaml: 1: anchors and aliases are not read; left out"]


def test_a_pipe_and_a_dead_link_do_not_hang_or_raise(reader: RecordReader) -> None:
    os.mkfifo(reader.folder / "log.jsonl")
    (reader.folder / "a.json").symlink_to(reader.folder / "nowhere")
    assert list(reader.lines("log.jsonl")) == []
    assert reader.mapping("a.json") == {}
    assert [problem.partition(":")[0] for problem in reader.problems] == ["log.jsonl", "a.json"]
    assert reader.missing == []


@pytest.mark.parametrize("value", [None, True, "x", "nan", float("inf"), [1], 10**400])
def test_as_number_refuses(value: object) -> None:
    assert as_number(value) is None


def test_parse_json_keeps_what_json_knows() -> None:
    assert parse_json('{"a": [1, "x", null]}') == {"a": [1, "x", None]}
