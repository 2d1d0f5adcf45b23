"""Parquet as text and as numbers: ids keep their digits, blanks are no numbers, errors help."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.data import parquet
from neurocli.core.errors import ExitCode, InputError, MissingDependencyError, UsageError

polars = pytest.importorskip("polars")
LONG = 2**53 + 1  # the first whole number that a float64 cannot hold


def write(folder: Path, columns: dict[str, list[Any]]) -> Path:
    path = folder / "t.parquet"
    polars.DataFrame(columns, strict=False).write_parquet(path)
    return path


def test_names_come_in_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path, {"IID": ["a"], "emb_10": [1.0], "emb_2": [2.0]})
    assert parquet.names(path) == ["IID", "emb_10", "emb_2"]


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, {"x": [1.0, 2.0], "IID": ["a", "b"], "y": [3.0, 4.0]})
    ids, values = parquet.numbers(path, "IID", ["y", "x"])
    assert ids == ["a", "b"]
    assert values.dtype == np.float32
    assert values.tolist() == [[3.0, 1.0], [4.0, 2.0]]


@pytest.mark.parametrize("with_blank", [False, True])
def test_long_ids_keep_their_digits_also_beside_a_blank(tmp_path: Path, with_blank: bool) -> None:
    ids: list[Any] = [LONG, 1_234_567] + [None] * with_blank
    found, _ = parquet.numbers(write(tmp_path, {"IID": ids, "x": [1.0] * len(ids)}), "IID", ["x"])
    # A float64 would make 9007199254740992 of the first.
    assert found == ["9007199254740993", "1234567"] + [""] * with_blank


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, None], [1.0, np.nan]),
        ([None, None], [np.nan, np.nan]),
        ([True, False], [1.0, 0.0]),
        ([1e300, -1e300], [np.inf, -np.inf]),  # beyond float32: left for the caller to judge
        (["1.5", None], [1.5, np.nan]),
    ],
)
def test_cells_become_float32(tmp_path: Path, cells: list[Any], expected: list[float]) -> None:
    path = write(tmp_path, {"IID": ["a", "b"], "x": cells})
    with np.errstate(over="ignore"):
        _, values = parquet.numbers(path, "IID", ["x"])
    np.testing.assert_array_equal(values[:, 0], np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("cells", [["a", "b"], [[1.0], [2.0]]], ids=["words", "lists"])
def test_what_is_no_number_names_its_column(tmp_path: Path, cells: list[Any]) -> None:
    path = write(tmp_path, {"IID": ["a", "b"], "odd": cells})
    with pytest.raises(InputError, match="column odd holds no numbers") as caught:
        parquet.numbers(path, "IID", ["odd"])
    assert caught.value.where == str(path)


@pytest.mark.parametrize("asked", [("IID", ["emb_9"]), ("EID", ["emb_0"])])
def test_a_missing_column_is_no_damage(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    path = write(tmp_path, {"IID": ["a"], "emb_0": [1.0]})
    with pytest.raises(UsageError, match=r"unknown column .*did you mean (emb_0|IID)") as caught:
        parquet.numbers(path, *asked)
    assert caught.value.code == ExitCode.USAGE
    assert "t.parquet" in str(caught.value.hint)


@pytest.mark.parametrize("share", [0.2, 0.7, 0.95])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path, {"IID": ["a"] * 50, "x": [1.0] * 50})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for read in (parquet.names, parquet.parse):
        with pytest.raises(InputError, match="damaged Parquet table") as caught:
            read(path)
        assert caught.value.code == ExitCode.FAILED


def test_text_keeps_the_usual_form_of_numbers(tmp_path: Path) -> None:
    # Whole numbers beside a blank are floats in many writers; a fraction stays one.
    path = write(tmp_path, {"id": [7.0, None], "age": [1.5, 2.0], "sex": [" F ", None]})
    rows = parquet.parse(path)
    assert rows.header == ["id", "age", "sex"]
    assert rows.cells == [["7", "1.5", "F"], ["", "2", ""]]


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    polars.DataFrame({"id": []}, schema={"id": polars.String}).write_parquet(path)
    with pytest.raises(InputError, match="holds no rows"):
        parquet.parse(path)


def test_without_a_library_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, {"IID": ["a"], "x": [1.0]})
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name in ("polars", "pyarrow.parquet"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(parquet.importlib, "import_module", without)
    for read in (parquet.names, parquet.parse):
        with pytest.raises(MissingDependencyError, match="needs polars or pyarrow") as caught:
            read(path)
        assert caught.value.code == ExitCode.MISSING_DEPENDENCY
        assert "CSV" in str(caught.value.hint)
