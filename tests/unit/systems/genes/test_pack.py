"""Packed blocks: what went in comes out, numpy reads them, and damage is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.errors import InputError
from neurocli.core.paths import cache_dir
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.pack import is_pack, open_pack, read_block, write_block, write_values
from neurocli.systems.genes.prepare import packed_gene, packed_latents

Options = Callable[..., LatentsOptions]
VALUES = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
IDS = [f"{i:04d}" for i in range(300)]


def test_values_come_back(tmp_path: Path) -> None:
    write_values(tmp_path / "a", IDS, VALUES, kind="gene", name="APOE", notes=["n"])
    block = read_block(tmp_path / "a")
    assert (block.kind, block.name, block.notes) == ("gene", "APOE", ["n"])
    assert block.ids == IDS
    assert block.n_features == 6
    assert np.array_equal(block.values, VALUES)
    assert not block.values.flags.writeable


def test_rows_are_streamed_to_the_same_bytes(tmp_path: Path) -> None:
    write_values(tmp_path / "a", IDS, VALUES, kind="gene", name="x")
    rows = iter(zip(IDS, VALUES, strict=True))
    assert write_block(tmp_path / "b", rows, kind="gene", name="x", about={}) == 300
    first, second = (tmp_path / name / "values.npy" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_numpy_reads_the_array(tmp_path: Path) -> None:
    write_values(tmp_path / "a", IDS, VALUES, kind="gene", name="x")
    found = np.load(tmp_path / "a" / "values.npy", mmap_mode="r")
    assert np.array_equal(found, VALUES)


def test_lists_may_grow_while_rows_are_read(tmp_path: Path) -> None:
    left_out: list[list[str]] = []
    shape: list[int] = []

    def rows() -> object:
        shape.extend([2, 3])
        yield "1", VALUES[0]
        left_out.append(["2", "broken"])

    about = {"shape": shape, "left_out": left_out}
    write_block(tmp_path / "a", rows(), kind="latents", name="latents", about=about)  # type: ignore[arg-type]
    block = read_block(tmp_path / "a")
    assert block.shape == (2, 3)
    assert block.left_out == [("2", "broken")]


def test_a_failing_source_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> object:
        yield "1", VALUES[0]
        raise InputError(tmp_path, "is broken")

    with pytest.raises(InputError):
        write_block(tmp_path / "a", rows(), kind="gene", name="x", about={})  # type: ignore[arg-type]
    assert list((tmp_path / "a").iterdir()) == []


def test_a_pack_holds_latents_and_sorted_genes(tmp_path: Path) -> None:
    assert not is_pack(tmp_path)
    for name in ("B", "A"):
        write_values(tmp_path / name, IDS, VALUES, kind="gene", name=name)
    write_values(tmp_path / "latents", IDS, VALUES, kind="latents", name="latents", shape=[2, 3])
    assert is_pack(tmp_path)
    pack = open_pack(tmp_path)
    assert list(pack.genes) == ["A", "B"]
    assert pack.latents is not None
    assert pack.latents.shape == (2, 3)


def test_a_cut_array_is_noticed(tmp_path: Path) -> None:
    write_values(tmp_path / "a", IDS, VALUES, kind="gene", name="x")
    path = tmp_path / "a" / "values.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="does not hold 7200 bytes"):
        _ = read_block(tmp_path / "a").values


def test_a_missing_array_is_noticed(tmp_path: Path) -> None:
    write_values(tmp_path / "a", IDS, VALUES, kind="gene", name="x")
    (tmp_path / "a" / "values.npy").unlink()
    with pytest.raises(InputError, match="missing from the pack"):
        _ = read_block(tmp_path / "a").values


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"schema": "neuro/pack/1"},
        {"schema": "neuro/pack/9", "ids": [], "shape": []},
        {"schema": "neuro/pack/1", "ids": "x", "shape": []},
    ],
)
def test_a_foreign_index_is_refused(tmp_path: Path, index: dict[str, object]) -> None:
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="no index of schema"):
        read_block(tmp_path)


def packs() -> int:
    return len(list(cache_dir().glob("genes-pack-*")))


def test_latents_are_packed_once(latents_folder: Path, options: Options) -> None:
    before = packs()
    first = packed_latents(latents_folder, options())
    again = packed_latents(latents_folder, options())
    assert packs() == before + 1
    assert first.folder == again.folder
    assert first.values[3].tolist() == [3, 4, 5, 6, 7, 8]


def test_a_changed_file_is_packed_anew(latents_folder: Path, options: Options) -> None:
    first = packed_latents(latents_folder, options())
    np.savez(latents_folder / "100_latent.npz", latent=np.full((2, 3), 9.0))
    second = packed_latents(latents_folder, options())
    assert first.folder != second.folder
    assert second.values[0].tolist() == [9.0] * 6


def test_other_options_make_another_pack(latents_folder: Path, options: Options) -> None:
    first = packed_latents(latents_folder, options())
    second = packed_latents(latents_folder, options(nonfinite="drop"))
    assert first.folder != second.folder


def test_a_refused_folder_leaves_no_pack(latents_folder: Path, options: Options) -> None:
    np.savez(latents_folder / "100_latent.npz", latent=np.full((2, 3), np.nan))
    before = packs()
    with pytest.raises(InputError, match="NaN"):
        packed_latents(latents_folder, options())
    assert packs() == before


def test_gene_tables_are_packed_once(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "APOE.csv"
    path.write_text("IID,emb_0,emb_1\n7,1,2\n8,3,4\n")
    before = packs()
    first = packed_gene("APOE", path, options())
    assert packed_gene("APOE", path, options()).folder == first.folder
    assert packs() == before + 1
    assert first.values.tolist() == [[1, 2], [3, 4]]
