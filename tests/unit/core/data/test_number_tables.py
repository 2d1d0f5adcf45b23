"""Wide tables of numbers: every reader gives the written float32, and names the cell it refuses."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.data import number_tables
from neurocli.core.data.number_tables import column_names, read_numbers
from neurocli.core.errors import InputError

COLUMNS = ["emb_0", "emb_1", "emb_2"]
VALUES = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
IDS = ["0001234567", "1234567.0", "sub-3", "90071992547409931"]


def text(delimiter: str = ",", *, end: str = "\n", head: str = "IID") -> str:
    """Return the table as text."""
    lines = [delimiter.join([head, *COLUMNS])]
    for owner, row in zip(IDS, VALUES, strict=True):
        lines.append(delimiter.join([owner, *(f"{value:.9g}" for value in row.tolist())]))
    return end.join(lines) + end


@pytest.fixture(params=["polars", "pandas"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one of the two readers the only one."""
    if request.param == "polars":
        pytest.importorskip("polars")
    else:
        real = importlib.import_module

        def without(name: str, *args: Any) -> Any:
            if name == "polars":
                raise ImportError(name)
            return real(name, *args)

        monkeypatch.setattr(number_tables.importlib, "import_module", without)
    return str(request.param)


def check(path: Path) -> None:
    table = read_numbers(path, id_column="IID", columns=COLUMNS)
    assert table.ids == IDS
    assert table.values.dtype == np.float32
    assert np.array_equal(table.values, VALUES)


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_delimiters(tmp_path: Path, reader: str, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text(delimiter))
    assert column_names(path) == ["IID", *COLUMNS]
    check(path)


def test_windows_line_ends(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text(end="\r\n").encode())
    assert column_names(path) == ["IID", *COLUMNS]
    check(path)


def test_a_byte_order_mark(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text().encode())
    assert column_names(path)[0] == "IID"
    check(path)


def test_gzip(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(text().encode()))
    check(path)


def test_columns_come_in_the_order_asked_for(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text())
    table = read_numbers(path, id_column="IID", columns=COLUMNS[::-1])
    assert np.array_equal(table.values, VALUES[:, ::-1])


def test_blank_cells_are_nan(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("IID,emb_0,emb_1,emb_2\n1,,2,NaN\n")
    found = read_numbers(path, id_column="IID", columns=COLUMNS).values
    assert np.isnan(found[0, [0, 2]]).all()
    assert found[0, 1] == 2


def test_a_word_among_numbers_is_named_with_its_owner(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("IID,emb_0,emb_1,emb_2\n7,1,2,3\n8,1,oops,3\n")
    with pytest.raises(InputError, match="column emb_1 holds no number for 8: oops"):
        read_numbers(path, id_column="IID", columns=COLUMNS)


def test_a_ragged_row_is_named_with_its_line(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    path = tmp_path / "t.csv"
    path.write_text("IID,emb_0,emb_1,emb_2\n7,1,2,3\n8,1,2,3,4\n")
    with pytest.raises(InputError) as caught:
        read_numbers(path, id_column="IID", columns=COLUMNS)
    assert caught.value.where == f"{path}:3"


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_parquet(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    polars: Any = pytest.importorskip("polars")
    path = tmp_path / "t.parquet"
    columns = {name: VALUES[:, i] for i, name in enumerate(COLUMNS)}
    polars.DataFrame({"IID": IDS, **columns}).write_parquet(path)
    assert column_names(path) == ["IID", *COLUMNS]
    check(path)


def test_parquet_with_whole_number_ids(tmp_path: Path) -> None:
    polars: Any = pytest.importorskip("polars")
    path = tmp_path / "t.parquet"
    polars.DataFrame({"IID": [7, 8], "emb_0": [0.5, 1.5]}).write_parquet(path)
    table = read_numbers(path, id_column="IID", columns=["emb_0"])
    assert table.ids == ["7", "8"]
    assert table.values.ravel().tolist() == [0.5, 1.5]


def test_parquet_of_words_is_refused(tmp_path: Path) -> None:
    polars: Any = pytest.importorskip("polars")
    path = tmp_path / "t.parquet"
    polars.DataFrame({"IID": ["a"], "emb_0": ["x"]}).write_parquet(path)
    with pytest.raises(InputError, match="column emb_0 holds no numbers"):
        read_numbers(path, id_column="IID", columns=["emb_0"])


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + b"\1" * 100)
    with pytest.raises(InputError, match="damaged Parquet"):
        column_names(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\n\n", "blank line"),
        (b"a\0b,c\n", "NUL"),
        (b"<html><body>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"\x1f\x8b\x08\0\0\0", "damaged"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        column_names(path)


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("IID,größe\n".encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8"):
        column_names(path)
