"""What studies hand in by mistake: each ends in one sentence, with its place and its exit code."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import ExitCode, InputError, UsageError
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.pack import INDEX, read_block, write_values
from neurocli.systems.genes.sources import (
    PREFERRED,
    LatentReader,
    feature_columns,
    gene_files,
    gene_of,
    latent_files,
    read_gene,
)

Configure = Callable[..., RunConfig]


def table(folder: Path, text: str, name: str = "APOE.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_two_tables_of_one_gene_in_a_folder(tmp_path: Path) -> None:
    for name in ("APOE.csv", "APOE.tsv", "BDNF.csv"):
        table(tmp_path, "IID,emb_0\n1,2\n", name)
    with pytest.raises(UsageError, match=r"APOE\.csv and APOE\.tsv are both tables") as caught:
        gene_files(tmp_path)
    assert caught.value.code == ExitCode.USAGE
    (tmp_path / "APOE.tsv").unlink()
    assert list(gene_files(tmp_path)) == ["APOE", "BDNF"]


@pytest.mark.parametrize("header", ["IID,emb_0,emb_0,emb_1", "IID,a,a,b"])
def test_columns_of_one_name(tmp_path: Path, header: str) -> None:
    # Which of the two is meant nobody can say; readers would take the first, or end in an error.
    path = table(tmp_path, f"{header}\n1,2,3,4\n")
    with pytest.raises(InputError, match=r"columns of one name: (emb_0|a)$") as caught:
        read_gene(path, LatentsOptions())
    assert caught.value.code == ExitCode.FAILED
    assert caught.value.where == str(path)


def test_twice_named_columns_that_are_no_numbers_do_no_harm(tmp_path: Path) -> None:
    path = table(tmp_path, "IID,note,note,emb_1,emb_0\n7,x,y,1,2\n")
    ids, values, _ = read_gene(path, LatentsOptions())
    assert (ids, values.tolist()) == (["7"], [[2.0, 1.0]])


@pytest.mark.parametrize(
    ("names", "expected", "words"),
    [
        (["emb_0", "emb_2"], 3, "has 2 columns of numbers, expected 3; missing emb_1$"),
        (["emb_0", "emb_1"], 1, "has 2 columns of numbers, expected 1; more are emb_1$"),
        (["fid", "Unnamed: 0"], None, "has 0 columns of numbers, expected some$"),
        (["a", "b"], 3, "has 2 columns of numbers, expected 3$"),
    ],
)
def test_the_wrong_number_of_columns(names: list[str], expected: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        feature_columns(Path("t.csv"), names, expected)


@pytest.mark.parametrize("cell", ["nan", "", "inf", "-inf"])
def test_cells_that_are_no_numbers_of_a_person(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path, f"IID,emb_0,emb_1\n1,2,3\n2,{cell},5\n3,6,7\n")
    with pytest.raises(InputError, match="1 people have blank, NaN or infinite cells: 2") as caught:
        read_gene(path, LatentsOptions())
    assert "nonfinite=drop" in str(caught.value.hint)
    ids, values, notes = read_gene(path, LatentsOptions(nonfinite="drop"))
    assert (ids, values.tolist()) == (["1", "3"], [[2, 3], [6, 7]])
    assert notes[0].endswith("they are left out")
    ids, values, _ = read_gene(path, LatentsOptions(nonfinite="zero"))
    assert (ids, values[1].tolist()) == (["1", "2", "3"], [0, 5])


def test_people_named_twice(tmp_path: Path) -> None:
    path = table(tmp_path, "IID,emb_0\n1,2\n2,9\n1,4\n")
    with pytest.raises(UsageError, match="1 people have several, different rows: 1") as caught:
        read_gene(path, LatentsOptions())
    assert caught.value.code == ExitCode.USAGE
    # The mean of 2 and 4; the first of both.
    for choice, value in (("mean", 3.0), ("first", 2.0)):
        ids, values, _ = read_gene(path, LatentsOptions(duplicates=choice))
        assert (ids, values[:, 0].tolist()) == (["1", "2"], [value, 9.0])


def test_a_bomb_and_objects_among_latents_are_left_out_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "1_latent.npz", latent=np.ones(4))
    np.savez(tmp_path / "2_latent.npz", latent=np.array([{}], dtype=object))
    with zipfile.ZipFile(tmp_path / "3_latent.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latent.npy", b"\0" * (1 << 20))
    data = bytearray((tmp_path / "3_latent.npz").read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (1 << 30).to_bytes(4, "little")  # claims a gigabyte
    (tmp_path / "3_latent.npz").write_bytes(bytes(data))
    files, _ = latent_files(tmp_path, "{iid}_latent.npz")
    reader = LatentReader(LatentsOptions(), [], [], [])
    assert [owner for owner, _ in reader.rows(files)] == ["1"]
    told = {row[0]: row[1] for row in reader.left_out}
    assert "holds Python objects" in told["2"]
    assert "claims 1073741824 bytes, which are not there" in told["3"]


def test_the_array_of_a_latent_is_chosen_by_likelihood(tmp_path: Path) -> None:
    # Autoencoders save mean and deviation; the mean comes first in the list of names.
    np.savez(tmp_path / "1_latent.npz", z_sigma=np.zeros(2), z_mu=np.ones(2))
    assert "z_mu" in PREFERRED
    reader = LatentReader(LatentsOptions(), [], [], [])
    assert reader.read(tmp_path / "1_latent.npz").tolist() == [1.0, 1.0]
    named = LatentReader(LatentsOptions(npz_key="z_sigma"), [], [], [])
    assert named.read(tmp_path / "1_latent.npz").tolist() == [0.0, 0.0]
    missing = LatentReader(LatentsOptions(npz_key="z"), [], [], [])
    with pytest.raises(InputError, match="has no array 'z'") as caught:
        missing.read(tmp_path / "1_latent.npz")
    assert caught.value.hint == "it holds z_sigma, z_mu"


def test_genes_keep_their_dots_and_other_endings() -> None:
    assert gene_of(Path("HLA.DRB1.tsv.gz")) == "HLA.DRB1"
    assert gene_of(Path("_brain_gene_embedding.csv")) == "_brain_gene_embedding"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": ["x"]}, "tells of rows of shape"),
        ({"shape": [-2]}, "tells of rows of shape"),
        ({"shape": [2.0]}, "tells of rows of shape"),
        ({"shape": [True]}, "tells of rows of shape"),
        ({"left_out": [["a"]]}, "damaged index"),
        ({"left_out": 3}, "damaged index"),
        ({"notes": 3}, "damaged index"),
        ({"ids": "ab"}, "no index of schema"),
    ],
)
def test_a_damaged_index_of_a_pack(tmp_path: Path, change: dict[str, object], words: str) -> None:
    write_values(tmp_path, ["a", "b"], np.ones((2, 2), np.float32), kind="gene", name="APOE")
    assert read_block(tmp_path).shape == (2,)
    path = tmp_path / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words) as caught:
        read_block(tmp_path)
    assert (caught.value.where, caught.value.hint) == (str(path), "pack the sources again")


def test_gene_vectors_of_another_width_than_a_model_takes(
    configure: Configure, opened: RunData
) -> None:
    with pytest.raises(UsageError, match=r"vectors of .* have 12 numbers, the model takes 13"):
        open_data(configure(), like=opened.info | {"gene_input_dim": 13})


def test_no_overlap_names_both_sides_and_the_likeliest_reason(
    tmp_path: Path, configure: Configure
) -> None:
    for i in range(3):
        np.savez(tmp_path / f"UKB{1000 + i}_latent.npz", latent=np.ones(4))
    path = table(tmp_path, "IID,emb_0\n" + "".join(f"{1000 + i},{i}\n" for i in range(3)))
    with pytest.raises(UsageError, match="no id of the latents") as caught:
        open_data(configure(f"data.genes={path}", path=tmp_path))
    assert re.search(r"UKB1000, UKB1001, UKB1002.*APOE \(1000, 1001", caught.value.message)
    assert "'UKB1000' holds '1000'" in str(caught.value.hint)
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize(("name", "near"), [("apoe", "APOE"), ("BNDF", "BDNF"), ("COMPT", "COMT")])
def test_an_unknown_gene_of_a_subset_names_the_nearest(
    configure: Configure, name: str, near: str
) -> None:
    with pytest.raises(UsageError, match=f"unknown gene '{name}'; did you mean {near}"):
        open_data(configure(f"data.gene_subset=[{name}]"))
