"""Tables of numbers that are damaged or odd: which sentence comes, with which exit code."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.data import number_tables
from neurocli.core.data.number_tables import column_names, read_numbers
from neurocli.core.errors import ExitCode, InputError, NeuroError, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text)
    return path


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "IID,emb_0\n1,2\n")
    with pytest.raises(UsageError, match=r"'emb_o'; did you mean emb_0") as caught:
        read_numbers(path, id_column="IID", columns=["emb_o"])
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("word", ["abc", "1.5 kg", "--", "0x1F"])
def test_a_word_is_named_with_its_column(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, f"IID,a,b\n1,2,3\n2,4,{word}\n")
    with pytest.raises(NeuroError, match="column b holds no number") as caught:
        read_numbers(path, id_column="IID", columns=["a", "b"])
    assert word in str(caught.value)


@pytest.mark.parametrize("blank", ["", "NA", "NaN", "nan", "n/a"])
def test_ways_to_leave_a_cell_blank(tmp_path: Path, blank: str) -> None:
    path = write(tmp_path, f"IID,a,b\n1,{blank},2\n")
    table = read_numbers(path, id_column="IID", columns=["a", "b"])
    assert np.isnan(table.values[0, 0])
    assert table.values[0, 1] == 2


def test_columns_that_nobody_asks_for_may_hold_words(tmp_path: Path) -> None:
    path = write(tmp_path, "IID,a,remark\n7,1.5,scanned twice\n")
    table = read_numbers(path, id_column="IID", columns=["a"])
    assert table.ids == ["7"]
    assert table.values.tolist() == [[1.5]]


def test_ids_are_trimmed_and_otherwise_as_written(tmp_path: Path) -> None:
    path = write(tmp_path, "IID,a\n 007 ,1\n1e3,2\n")
    assert read_numbers(path, id_column="IID", columns=["a"]).ids == ["007", "1e3"]


def test_the_delimiter_is_the_commonest_of_the_header(tmp_path: Path) -> None:
    # Two tabs against one comma: the comma belongs to a name.
    path = tmp_path / "t.txt"
    path.write_text("IID\ta,b\tc\n1\t2\t3\n")
    assert column_names(path) == ["IID", "a,b", "c"]


@pytest.mark.parametrize("text", ["\nIID,a\n1,2\n", "   \nIID,a\n"])
def test_a_blank_first_line_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="begins with a blank line"):
        column_names(write(tmp_path, text))


def test_a_header_alone_is_a_table_of_nobody(tmp_path: Path) -> None:
    table = read_numbers(write(tmp_path, "IID,a,b\n"), id_column="IID", columns=["b", "a"])
    assert table.ids == []
    assert table.values.shape == (0, 2)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_gzip_is_damaged(tmp_path: Path, share: float) -> None:
    path = tmp_path / "t.csv.gz"
    rng = np.random.default_rng(0)
    packed = gzip.compress("\n".join(["IID,a", *map(str, rng.random(200))]).encode())
    path.write_bytes(packed[: int(share * len(packed))])
    with pytest.raises(InputError, match="is damaged") as caught:
        column_names(path)
    assert caught.value.code == ExitCode.FAILED


def test_a_gzip_bomb_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_tables, "_MAX_UNPACKED", 1 << 16)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"IID,a\n" + b"1,2\n" * 50_000))  # 200 kB of rows
    with pytest.raises(InputError, match="unpacks to more than"):
        read_numbers(path, id_column="IID", columns=["a"])


def test_the_order_of_rows_is_that_of_the_file(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(300)
    path = write(tmp_path, "IID,a\n" + "".join(f"p{i},{i}\n" for i in order))
    table = read_numbers(path, id_column="IID", columns=["a"])
    assert table.ids == [f"p{i}" for i in order]
    assert table.values[:, 0].tolist() == order.tolist()
