"""Tables of people: every form they come in, and nothing guessed.

Expected cells are the text as written; counts of the real tables are those of their descriptions.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from table_forms import FORMS, put

from neurocli.core.data.tables import Table, numeric_column, read_table
from neurocli.core.errors import InputError, MissingDependencyError, UsageError


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_table(tmp_path, form):
    table = read_table(put(tmp_path, FORMS[form]))
    assert table.ids == ["0012", "NA", "1E5"]
    assert table.columns == {"age": ["31.5", "28", None], "sex": ["M", None, "F"]}
    assert table.id_column == ("row_names" if form.startswith("R") else "subject")
    ages, bad = numeric_column(table, "age")
    np.testing.assert_array_equal(ages, [31.5, 28.0, np.nan])
    assert bad == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_encodings_with_a_mark_are_read(tmp_path, encoding):
    content = "participant_id,city\n01,Zürich\n".encode(encoding)
    assert read_table(put(tmp_path, content)).columns == {"city": ["Zürich"]}


def test_other_encodings_are_read_when_named(tmp_path):
    path = put(tmp_path, "id,city\n01,Köln\n02,Gülsdorf\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"is no utf-8 text \(byte 0xf6\)") as caught:
        read_table(path)
    assert caught.value.where == f"{path}:2"
    assert "iconv" in caught.value.hint
    assert read_table(path, encoding="latin-1").columns["city"] == ["Köln", "Gülsdorf"]
    with pytest.raises(InputError, match="unknown encoding"):
        read_table(path, encoding="martian")


def test_quoted_delimiters_and_line_ends(tmp_path):
    table = read_table(put(tmp_path, 'id,note\n1,"a, b"\n2,"two\nlines"\n3,"say ""no"""\n'))
    assert table.columns["note"] == ["a, b", "two\nlines", 'say "no"']
    table = read_table(put(tmp_path, '"race" "n"\n"a 1" "black \\"x\\"" 3\n"b 2" "white" 4\n'))
    assert table.ids == ["a 1", "b 2"]
    assert table.columns == {"race": ['black "x"', "white"], "n": ["3", "4"]}


def test_real_tables(real):
    table = read_table(real / "tables" / "matchit_lalonde.tab")
    assert (len(table.ids), table.ids[0], table.id_column) == (614, "NSW1", "row_names")
    assert numeric_column(table, "treat")[0].sum() == 185
    table = read_table(real / "tables" / "ABIDE_Phenotypic_V1_0b_preprocessed1.csv")
    assert len(table.ids) == 1112
    assert len(table.columns) + 1 == 106
    scores, bad = numeric_column(table, "FIQ")
    assert bad == []
    assert (scores == -9999).sum() == 37  # a code is no missing token
    assert np.isnan(scores).sum() == 35
    assert table.columns["FILE_ID"].count("no_filename") == 77
    table = read_table(real / "fmri" / "ds005" / "participants.tsv")
    assert table.id_column == "participant_id"
    assert table.ids[0] == "sub-01"


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("age,Subject,sex", "Subject"),
        ("id,participant_id", "participant_id"),
        ("x,SUB_ID", "SUB_ID"),
        ("x,EID", "EID"),
        ("code,x", "code"),
        (",x", "row_names"),
    ],
)
def test_the_id_column_is_found_or_chosen(tmp_path, header, column):
    cells = ",".join(["v"] * (header.count(",") + 1))
    path = put(tmp_path, f"{header}\n{cells}\n")
    assert read_table(path).id_column == column
    wanted = header.split(",")[-1]
    assert read_table(path, id_column=wanted).id_column == wanted
    with pytest.raises(UsageError, match="unknown column 'subjekt'"):
        read_table(path, id_column="subjekt")


def test_a_single_column_is_a_list_of_ids(tmp_path):
    table = read_table(put(tmp_path, "Subject ID\n01\n02\n"))
    assert (table.ids, table.columns, table.id_column) == (["01", "02"], {}, "Subject ID")


REFUSED = {
    "header only": ("id,age\n", "no rows", ""),
    "blank": (" \n\n", "is blank", ""),
    "short row": ("id,age\n1,2\n3\n", "has 1 fields, the header has 2", ":3"),
    "long row": ("id,age\n1,2\n\n3,4,5\n", "has 3 fields", ":4"),
    "open quote": ('id,age\n1,"2\n3,4\n', "cannot be read", ":2"),
    "open quote in R": ('"a"\n"x" "1\n"y" 2\n', "open quote", ":2"),
    "same ids": ("id,age\n1,2\n3,4\n1,5\n", r"'1' on lines 2 and 4", ""),
    "same columns": ("id,age,age\n1,2,3\n", r"'age' stands twice \(columns 2 and 3\)", ""),
    "no id": ("id,age\n1,2\n,4\n", "no id in column 'id'", ":3"),
    "NUL": (b"id,age\n1,\0\n", "NUL", ":2"),
    "zip": (b"PK\x03\x04rest", "spreadsheet", ""),
    "gzip": (b"\x1f\x8b\x08rest", "gzip", ""),
    "web page": ("<!doctype html><p>1,2", "web page", ""),
    "pointer": ("version https://git-lfs\n", "git-lfs", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsound_tables_are_refused_with_their_line(tmp_path, case):
    content, problem, line = REFUSED[case]
    path = put(tmp_path, content)
    with pytest.raises(InputError, match=problem) as caught:
        read_table(path)
    assert caught.value.where == f"{path}{line}"
    assert caught.value.hint


def test_many_repeats_are_counted(tmp_path):
    rows = "".join(f"{number // 2},x\n" for number in range(20))
    with pytest.raises(InputError, match="; 7 more"):
        read_table(put(tmp_path, f"id,y\n{rows}"))


def test_only_plain_finite_numbers_are_numbers(tmp_path):
    cells = ["1", "-2.5", "+3e-2", ".5", "7.", "1_000", "0x10", "inf", "1e999", "3,5", "x", "١", ""]
    rows = "".join(f"{number}\t{cell}\n" for number, cell in enumerate(cells))
    values, bad = numeric_column(read_table(put(tmp_path, f"id\tv\n{rows}")), "v")
    np.testing.assert_array_equal(values[:5], [1, -2.5, 0.03, 0.5, 7])
    assert np.isnan(values[5:]).all()
    assert bad == [f"{number}: {cells[number]}" for number in range(5, 12)]


def test_an_unknown_column_gets_the_nearest(tmp_path):
    table = read_table(put(tmp_path, FORMS["csv"]))
    with pytest.raises(UsageError, match="unknown column 'aeg'; did you mean age"):
        numeric_column(table, "aeg")


def test_parquet_keeps_ids_and_codes(tmp_path):
    polars = pytest.importorskip("polars", reason="no optional library for Parquet is installed")
    path = tmp_path / "people.parquet"
    polars.DataFrame(
        {"eid": [1234567, 2, 3], "sex": [1.0, None, 2.0], "t": ["a", "NA", "b"], "f": [0.5, 1, 2]}
    ).write_parquet(path)
    table = read_table(path)
    assert table.ids == ["1234567", "2", "3"]
    assert table.columns == {"sex": ["1", None, "2"], "t": ["a", None, "b"], "f": ["0.5", "1", "2"]}
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="Parquet"):
        read_table(path)


def test_parquet_without_a_library_says_what_to_install(tmp_path, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="polars or pyarrow"):
        read_table(put(tmp_path, b"PAR1" + bytes(20), "people.parquet"))


def test_the_limit_of_other_csv_readers_stays(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    path = tmp_path / "t.csv"
    path.write_text("id,x\na,1\n")
    read_table(path)
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["1001.0", "1002.0"], ["1001", "1002"]),
        (["1001.0", "1002"], ["1001", "1002"]),
        (["1e+16", "2.5e3"], ["10000000000000000", "2500"]),
        (["12345678901234567.0", "1.0"], ["12345678901234567", "1"]),
        (["0.0", "7.00"], ["0", "7"]),
        # Names that are no floats, or not all of them, stay as they are.
        (["007", "008"], ["007", "008"]),
        (["1.5", "2.0"], ["1.5", "2.0"]),
        (["v1.0", "2.0"], ["v1.0", "2.0"]),
        (["01.0", "02.0"], ["01.0", "02.0"]),
        (["1e-3", "2e-3"], ["1e-3", "2e-3"]),
    ],
)
def test_ids_saved_as_floats_are_whole_again(
    tmp_path: Path, written: list[str], expected: list[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,age\n" + "".join(f"{name},3\n" for name in written))
    assert read_table(path).ids == expected


def test_two_spellings_of_one_id_are_a_repeat(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,age\n1001.0,3\n1001,4\n")
    with pytest.raises(InputError, match="'1001' on lines 2 and 3"):
        read_table(path)


@pytest.mark.parametrize(
    ("cells", "numbers", "n_bad"),
    [
        (["1", "-2.5", None, "+3e2", ".5", "4."], [1, -2.5, np.nan, 300, 0.5, 4], 0),
        (["1", "1-2", "e", "3"], [1, np.nan, np.nan, 3], 2),
        (["1", "1e999"], [1, np.nan], 1),
        (["1", "inf", "1_000", "nan?"], [1, np.nan, np.nan, np.nan], 3),
        ([None, None], [np.nan, np.nan], 0),
    ],
)
def test_numbers_are_told_from_what_only_looks_like_them(
    cells: list[str | None], numbers: list[float], n_bad: int
) -> None:
    table = Table([f"p{i}" for i in range(len(cells))], "id", {"x": cells}, Path("t.csv"))
    values, bad = numeric_column(table, "x")
    np.testing.assert_array_equal(values, numbers)
    assert len(bad) == n_bad


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("7", 7.0), ("-1.5e3", -1500.0), (".5", 0.5), ("1_0", None), ("inf", None), ("nan", None),
     ("1e999", None), ("", None), ("0x1", None), ("٣", None)],
)  # fmt: skip
def test_numbers_are_plain_decimals(text: str, wanted: float | None) -> None:
    from neurocli.core.data.tables import parse_number

    assert parse_number(text) == wanted


def test_records_of_another_encoding(tmp_path: Path) -> None:
    from neurocli.core.data.tables import read_records

    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match="is no utf-8 text"):
        read_records(path)
    assert read_records(path, encoding="latin-1") == [(2, {"a": "1", "b": "caf\xe9"})]


def test_a_long_blank_head_and_any_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\n" * 70_000 + b'id,"a\r\nb"\rx,1\r\ny,"2\n3"\n')
    table = read_table(path)
    assert table.ids == ["x", "y"]
    assert table.columns == {"a\r\nb": ["1", "2\n3"]}
