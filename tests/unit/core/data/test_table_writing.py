"""Written tables: no cell becomes a formula, and any text comes back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocli.core.data.tables import MISSING, read_table, safe_cell, write_tsv
from neurocli.core.errors import NeuroError


def test_written_tables_come_back(tmp_path):
    path = tmp_path / "new" / "participants.tsv"
    header = ["participant_id", "age", "note"]
    rows = [
        ["sub-01", 31.5, "plain"],
        ["sub-02", None, '=HYPERLINK("x")'],
        ["-3", float("nan"), "-2.5"],
        ["@home", 4, "tab\tand\nline"],
        ["+x", True, ""],
        ['"quoted"', 0, "'=kept"],
    ]
    write_tsv(path, header, rows)
    table = read_table(path)
    assert table.ids == ["sub-01", "sub-02", "-3", "@home", "+x", '"quoted"']
    assert table.columns["age"] == ["31.5", None, None, "4", "True", "0"]
    assert table.columns["note"][:5] == ["plain", '=HYPERLINK("x")', "-2.5", "tab and line", None]
    text = path.read_text()
    for line in text.splitlines():
        for cell in line.split("\t"):
            assert not cell.strip('"').startswith(("=", "@", "+"))
    write_tsv(tmp_path / "again.tsv", header, rows)
    assert (tmp_path / "again.tsv").read_text() == text


def test_a_row_of_another_length_is_refused(tmp_path):
    with pytest.raises(NeuroError, match="row 2 has 1 cells"):
        write_tsv(tmp_path / "x.tsv", ["a", "b"], [[1, 2], [3]])
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_text_stay_writable(tmp_path):
    write_tsv(tmp_path / "x.tsv", ["id"], [["sub-\udcff"]])
    assert read_table(tmp_path / "x.tsv").ids == ["sub-\\xff"]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab=+-@'\"\t,; é1.", max_size=8))
def test_no_text_becomes_a_formula(text):
    cell = safe_cell(text)
    assert "\t" not in cell
    if cell.startswith(("=", "+", "-", "@")):
        float(cell)


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp", "Cs")), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(
    ids=st.lists(TEXTS.filter(bool), min_size=1, max_size=5, unique=True),
    cells=st.lists(TEXTS, min_size=5, max_size=5),
)
def test_any_text_survives_writing_and_reading(tmp_path_factory, ids, cells):
    """Only a cell that spells a missing value comes back as missing."""
    path = tmp_path_factory.mktemp("tables") / "t.tsv"
    write_tsv(path, ["participant_id", "note"], zip(ids, cells, strict=False))
    table = read_table(path)
    guarded = {text for text in (*ids, *cells) if text.startswith("'")}
    if not guarded:
        assert table.ids == ids
        expected = [None if cell in MISSING else cell for cell in cells[: len(ids)]]
        assert table.columns["note"] == expected
