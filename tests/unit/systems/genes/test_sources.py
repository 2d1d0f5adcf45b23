"""Folders of latents and gene tables: what is found, how it is read, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.errors import InputError, UsageError
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.sources import (
    LatentReader,
    feature_columns,
    gene_files,
    gene_of,
    latent_files,
    read_gene,
)

Options = Callable[..., LatentsOptions]
PATTERN = "{iid}_latent.npz"


def reader(options: LatentsOptions) -> LatentReader:
    return LatentReader(options, [], [], [])


def test_latents_are_found_by_their_pattern(latents_folder: Path) -> None:
    files, notes = latent_files(latents_folder, PATTERN)
    assert list(files) == ["100", "101", "102", "103", "104"]
    assert files["100"].name == "100_latent.npz"
    assert notes == []


def test_hidden_and_other_files_are_left_alone(latents_folder: Path) -> None:
    (latents_folder / ".100_latent.npz").write_bytes(b"x")
    (latents_folder / "notes.txt").write_text("x")
    np.savez(latents_folder / "mean.npz", a=np.zeros(2))
    files, notes = latent_files(latents_folder, PATTERN)
    assert len(files) == 5
    assert notes == ["1 array files are not called {iid}_latent.npz and are left out"]


def test_other_names_are_taken_and_noted(tmp_path: Path) -> None:
    np.save(tmp_path / "7.npy", np.zeros(2))
    np.save(tmp_path / "8.npy", np.zeros(2))
    files, notes = latent_files(tmp_path, PATTERN)
    assert list(files) == ["7", "8"]
    assert "ids are the names of the 2 array files" in notes[0]


def test_a_pattern_of_ones_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "z_7_v2.npz", a=np.zeros(2))
    files, _ = latent_files(tmp_path, "z_{iid}_v2.npz")
    assert list(files) == ["7"]


def test_a_pattern_needs_the_id() -> None:
    with pytest.raises(UsageError, match=r"no \{iid\}"):
        latent_files(Path("x"), "latent.npz")


def test_two_files_of_one_id_are_refused(latents_folder: Path) -> None:
    np.save(latents_folder / "100_latent.npy", np.zeros((2, 3)))
    with pytest.raises(UsageError, match="are of one id '100'"):
        latent_files(latents_folder, PATTERN)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of latents"):
        latent_files(tmp_path / "none", PATTERN)
    with pytest.raises(InputError, match=r"holds no \.npz"):
        latent_files(tmp_path, PATTERN)


def test_rows_are_flat_float32(latents_folder: Path, options: Options) -> None:
    work = reader(options())
    files, _ = latent_files(latents_folder, PATTERN)
    rows = list(work.rows(files))
    assert [owner for owner, _ in rows] == ["100", "101", "102", "103", "104"]
    assert rows[1][1].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows[0][1].dtype == np.float32
    assert work.shape == [2, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16])
def test_other_widths_become_float32(tmp_path: Path, options: Options, dtype: type) -> None:
    np.savez(tmp_path / "1_latent.npz", latent=np.arange(4).astype(dtype))
    found = reader(options()).read(tmp_path / "1_latent.npz")
    assert found.dtype == np.float32
    assert found.tolist() == [0, 1, 2, 3]


def test_leading_axes_of_one_are_dropped(tmp_path: Path, options: Options) -> None:
    np.savez(tmp_path / "1_latent.npz", latent=np.zeros((1, 1, 3, 2)))
    work = reader(options())
    work.read(tmp_path / "1_latent.npz")
    assert work.shape == [3, 2]


def test_a_flat_latent_is_as_good(tmp_path: Path, options: Options) -> None:
    np.savez(tmp_path / "1_latent.npz", latent=np.zeros((3, 2)))
    np.savez(tmp_path / "2_latent.npz", latent=np.zeros(6))
    work = reader(options())
    assert len(list(work.rows(latent_files(tmp_path, PATTERN)[0]))) == 2


def test_another_size_is_left_out_with_its_reason(latents_folder: Path, options: Options) -> None:
    np.savez(latents_folder / "999_latent.npz", latent=np.zeros((2, 4)))
    work = reader(options())
    assert len(list(work.rows(latent_files(latents_folder, PATTERN)[0]))) == 5
    assert work.left_out == [["999", "999_latent.npz: has shape 2x4, expected 2x3"]]


def test_a_wanted_shape_is_enforced(latents_folder: Path, options: Options) -> None:
    work = reader(options(latent_shape=(3, 15)))
    with pytest.raises(InputError, match=r"no latent can be read; 100_latent.npz: has shape 2x3"):
        list(work.rows(latent_files(latents_folder, PATTERN)[0]))


def test_a_broken_file_does_not_stop_the_rest(latents_folder: Path, options: Options) -> None:
    (latents_folder / "101_latent.npz").write_bytes(b"PK\x03\x04broken")
    work = reader(options())
    assert len(list(work.rows(latent_files(latents_folder, PATTERN)[0]))) == 4
    assert work.left_out[0][0] == "101"


def with_nan(folder: Path) -> dict[str, Path]:
    np.savez(folder / "102_latent.npz", latent=np.array([[np.nan, 1, 2], [3, np.inf, 5]]))
    return latent_files(folder, PATTERN)[0]


def test_nan_is_an_error(latents_folder: Path, options: Options) -> None:
    with pytest.raises(InputError, match="1 latents hold NaN or Inf: 102"):
        list(reader(options()).rows(with_nan(latents_folder)))


def test_nan_can_be_dropped(latents_folder: Path, options: Options) -> None:
    work = reader(options(nonfinite="drop"))
    assert len(list(work.rows(with_nan(latents_folder)))) == 4
    assert work.left_out == [["102", "102_latent.npz: holds NaN or Inf"]]


def test_nan_can_be_zero(latents_folder: Path, options: Options) -> None:
    rows = dict(reader(options(nonfinite="zero")).rows(with_nan(latents_folder)))
    assert rows["102"].tolist() == [0, 1, 2, 3, 0, 5]


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("APOE_brain_gene_embeddingUKB.csv", "APOE"),
        ("HLA-DRB1_brain_gene_embeddingUKB.csv.gz", "HLA-DRB1"),
        ("C9orf72_brain_gene_embeddingHCP.parquet", "C9orf72"),
        ("BDNF.tsv", "BDNF"),
    ],
)
def test_genes_are_named_by_their_files(name: str, gene: str) -> None:
    assert gene_of(Path(name)) == gene


def test_marked_tables_win_in_a_folder(tmp_path: Path) -> None:
    for name in ("APOE_brain_gene_embeddingUKB.csv", "participants.csv", ".hidden.csv"):
        (tmp_path / name).write_text("IID,emb_0\n1,2\n")
    assert list(gene_files(tmp_path)) == ["APOE"]


def test_plain_tables_are_genes_where_none_is_marked(tmp_path: Path) -> None:
    (tmp_path / "APOE.csv").write_text("x")
    assert list(gene_files(tmp_path)) == ["APOE"]
    assert list(gene_files(tmp_path / "APOE.csv", "MINE")) == ["MINE"]


def test_no_gene_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no gene table"):
        gene_files(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        gene_files(tmp_path / "none")


def table(folder: Path, text: str) -> Path:
    path = folder / "APOE.csv"
    path.write_text(text)
    return path


def test_columns_are_ordered_by_number() -> None:
    names = ["emb_10", "emb_2", "emb_0", "FID", "Unnamed: 0"]
    assert feature_columns(Path("t"), names, None) == ["emb_0", "emb_2", "emb_10"]


def test_columns_of_other_names_keep_their_order() -> None:
    assert feature_columns(Path("t"), ["b", "a", "eid"], None) == ["b", "a"]


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="has 2 columns of numbers, expected 3; missing emb_1"):
        feature_columns(Path("t"), ["emb_0", "emb_2"], 3)


def test_further_columns_are_named() -> None:
    with pytest.raises(InputError, match="expected 2; more are emb_2"):
        feature_columns(Path("t"), ["emb_0", "emb_1", "emb_2"], 2)


def test_a_table_without_numbers_is_refused(tmp_path: Path, options: Options) -> None:
    with pytest.raises(InputError, match="has 0 columns of numbers"):
        read_gene(table(tmp_path, "IID,FID\n1,1\n"), options())


def test_the_column_of_ids_is_found_in_any_case(tmp_path: Path, options: Options) -> None:
    ids, values, _ = read_gene(table(tmp_path, "iid,emb_0\n007,2\n"), options())
    assert ids == ["007"]
    assert values.tolist() == [[2.0]]


def test_a_missing_id_column_lists_the_others(tmp_path: Path, options: Options) -> None:
    with pytest.raises(InputError, match="has no column 'IID'") as caught:
        read_gene(table(tmp_path, "who,emb_0\n1,2\n"), options())
    assert "who, emb_0" in str(caught.value.hint)


def test_equal_repeats_are_kept_once(tmp_path: Path, options: Options) -> None:
    ids, values, notes = read_gene(table(tmp_path, "IID,emb_0\n1,2\n2,3\n1,2\n"), options())
    assert ids == ["1", "2"]
    assert values.ravel().tolist() == [2, 3]
    assert "1 people have several rows" in notes[0]


def test_differing_repeats_are_an_error(tmp_path: Path, options: Options) -> None:
    with pytest.raises(UsageError, match="1 people have several, different rows: 1"):
        read_gene(table(tmp_path, "IID,emb_0\n1,2\n1,4\n"), options())


@pytest.mark.parametrize(("how", "expected"), [("first", 2.0), ("mean", 3.0)])
def test_differing_repeats_by_choice(
    tmp_path: Path, options: Options, how: str, expected: float
) -> None:
    path = table(tmp_path, "IID,emb_0\n1,2\n1,4\n")
    _, values, _ = read_gene(path, options(duplicates=how))
    assert values.ravel().tolist() == [expected]


def test_people_who_withdrew_are_dropped(tmp_path: Path, options: Options) -> None:
    ids, _, notes = read_gene(table(tmp_path, "IID,emb_0\n1,2\n-3,2\n,5\n"), options())
    assert ids == ["1"]
    assert "2 rows without an id or of people who withdrew" in notes[0]


def test_nan_in_a_table_names_the_people(tmp_path: Path, options: Options) -> None:
    path = table(tmp_path, "IID,emb_0\n1,2\n8,\n9,inf\n")
    with pytest.raises(InputError, match="2 people have blank, NaN or infinite cells: 8, 9"):
        read_gene(path, options())
    ids, _, notes = read_gene(path, options(nonfinite="drop"))
    assert ids == ["1"]
    assert "they are left out" in notes[0]
    _, values, _ = read_gene(path, options(nonfinite="zero"))
    assert values.ravel().tolist() == [2, 0, 0]


def test_the_wrong_width_is_refused(tmp_path: Path, options: Options) -> None:
    with pytest.raises(InputError, match="expected 256"):
        read_gene(table(tmp_path, "IID,emb_0\n1,2\n"), options(gene_dim=256))


def test_nobody_left_is_refused(tmp_path: Path, options: Options) -> None:
    with pytest.raises(InputError, match="holds no usable row"):
        read_gene(table(tmp_path, "IID,emb_0\n-1,2\n"), options())


def test_what_stands_before_and_behind_an_id_never_shares_letters(tmp_path: Path) -> None:
    for name in ("x_x.npz", "x_7_x.npz", "x__x.npz", ".x_8_x.npz", "x_9_x.npy", "x_5_x.txt"):
        np.savez(tmp_path / "any", a=np.zeros(3))
        (tmp_path / "any.npz").rename(tmp_path / name)
    files, notes = latent_files(tmp_path, "x_{iid}_x.npz")
    assert {owner: path.name for owner, path in files.items()} == {
        "7": "x_7_x.npz",
        "9": "x_9_x.npy",
    }
    assert notes == ["2 array files are not called x_{iid}_x.npz and are left out"]
