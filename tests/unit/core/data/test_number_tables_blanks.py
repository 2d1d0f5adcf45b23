"""Cells without a number are NaN, and ids without a name are blank, whichever way they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocli.core.data.number_tables import read_numbers
from neurocli.core.errors import InputError


@pytest.mark.parametrize("word", ["", "NA", "NaN", "nan", "n/a"])
def test_a_blank_cell_is_nan(tmp_path: Path, word: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"IID,a,b\n1,0.5,{word}\n2,{word},1.5\n3,2,3e-2\n")
    found = read_numbers(path, id_column="IID", columns=["a", "b"])
    expected = np.array([[0.5, np.nan], [np.nan, 1.5], [2, 0.03]], dtype=np.float32)
    assert np.array_equal(found.values, expected, equal_nan=True)
    assert found.values.flags["C_CONTIGUOUS"]
    assert found.ids == ["1", "2", "3"]


@pytest.mark.parametrize("cell", ["1", "NA"])  # numbers alone are read without looking for words
def test_a_blank_id_is_blank(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"IID,a\nNA,1\n,2\nn/a,{cell}\nNAN,4\n")
    assert read_numbers(path, id_column="IID", columns=["a"]).ids == ["", "", "", "NAN"]


def test_another_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("IID,a\n1,1\n2,NA\n3,none\n")
    with pytest.raises(InputError, match="column a holds no number for 3"):
        read_numbers(path, id_column="IID", columns=["a"])
