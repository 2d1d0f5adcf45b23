"""`neuro preprocess latents`: what is packed, what fails by itself, what a rerun does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurocli import preprocess
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.discover import find_latents
from neurocli.systems.genes.known_truth import Cohort
from neurocli.systems.genes.pack import open_pack
from neurocli.systems.genes.raw_files import gene_path, write_gene_table
from neurocli.systems.genes.sources import read_gene

OPTIONS = LatentsOptions().model_dump(mode="json")


@pytest.fixture
def study(tmp_path: Path, latents_folder: Path) -> Path:
    """Return a folder with latents of five people and tables of two genes."""
    genes = tmp_path / "genes"
    genes.mkdir()
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    for name in ("APOE", "BDNF"):
        write_gene_table(gene_path(genes, name), [str(100 + i) for i in range(5)], values)
    return tmp_path


def test_latents_and_genes_are_items(study: Path) -> None:
    found = find_latents([study / "latents", study / "genes"], OPTIONS)
    assert [item.subject for item in found.items] == ["latents", "APOE", "BDNF"]
    assert len(found.items[0].sources) == 5
    assert found.failures == []


def test_a_single_table_is_an_item(study: Path) -> None:
    path = study / "genes" / "APOE_brain_gene_embeddingUKB.csv"
    assert [item.subject for item in find_latents([path], OPTIONS).items] == ["APOE"]


def test_without_a_source_the_cohort_is_made() -> None:
    found = find_latents([], OPTIONS)
    assert [item.subject for item in found.items] == ["cohort"]
    assert found.built_in_data
    assert found.notes == ["synthetic data: 1200 made-up people, 24 genes"]


def test_two_tables_of_one_gene_are_refused(study: Path) -> None:
    with pytest.raises(UsageError, match="two sources hold APOE"):
        find_latents([study / "genes", study / "genes"], OPTIONS)


def test_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_latents([tmp_path / "none"], OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no gene table"):
        find_latents([tmp_path / "empty"], OPTIONS)


def test_everything_is_packed(study: Path) -> None:
    result = preprocess("latents", study / "latents", study / "genes", out=study / "out")
    assert (result.done, result.failed, result.skipped) == (3, 0, 0)
    pack = open_pack(study / "out")
    assert pack.latents is not None
    assert pack.latents.shape == (2, 3)
    assert list(pack.genes) == ["APOE", "BDNF"]
    assert pack.genes["APOE"].values.tolist() == np.arange(10).reshape(5, 2).tolist()
    lines = (study / "out" / "manifest.jsonl").read_text().splitlines()
    record = {json.loads(line)["subject"]: json.loads(line) for line in lines}
    assert record["latents"]["shape"] == [5, 2, 3]
    assert record["APOE"]["files"] == ["APOE/values.npy", "APOE/index.json"]


def test_a_rerun_does_only_what_changed(study: Path) -> None:
    sources = (study / "latents", study / "genes")
    preprocess("latents", *sources, out=study / "out")
    again = preprocess("latents", *sources, out=study / "out")
    assert (again.done, again.skipped) == (0, 3)
    values = np.ones((5, 2), dtype=np.float32)
    write_gene_table(gene_path(study / "genes", "BDNF"), [str(100 + i) for i in range(5)], values)
    third = preprocess("latents", *sources, out=study / "out")
    assert (third.done, third.skipped) == (1, 2)
    assert open_pack(study / "out").genes["BDNF"].values.max() == 1


def test_a_broken_latent_fails_alone(study: Path) -> None:
    (study / "latents" / "102_latent.npz").write_bytes(b"PK\x03\x04")
    result = preprocess("latents", study / "latents", out=study / "out")
    assert (result.done, result.failed) == (1, 1)
    assert result.failures[0][0] == "102"
    pack = open_pack(study / "out")
    assert pack.latents is not None
    assert pack.latents.ids == ["100", "101", "103", "104"]


def test_a_broken_table_fails_alone(study: Path) -> None:
    gene_path(study / "genes", "BDNF").write_text("IID,emb_0,emb_1\n1,2,oops\n")
    result = preprocess("latents", study / "genes", out=study / "out")
    assert (result.done, result.failed) == (1, 1)
    assert "holds no number for 1: oops" in result.failures[0][1]


def test_nothing_usable_is_an_error(study: Path) -> None:
    for path in (study / "latents").iterdir():
        path.write_bytes(b"PK\x03\x04")
    with pytest.raises(NeuroError, match="no latent can be read"):
        preprocess("latents", study / "latents", out=study / "out")


def test_options_are_checked(study: Path) -> None:
    with pytest.raises(UsageError, match="nonfinite"):
        preprocess("latents", study / "latents", out=study / "out", options={"nonfinite": "x"})


def test_the_cohort_with_raw_files(tmp_path: Path) -> None:
    options = {"n_people": 40, "n_genes": 2, "raw_files": True, "seed": 5}
    result = preprocess("latents", out=tmp_path / "out", options=options)
    assert result.done == 1
    raw = tmp_path / "out" / "cohort" / "raw"
    assert len(list((raw / "latents").glob("*_latent.npz"))) == 40
    pack = open_pack(tmp_path / "out" / "cohort")
    ids, values, _ = read_gene(gene_path(raw / "genes", "APOE"), LatentsOptions())
    assert ids == pack.genes["APOE"].ids
    # Nine digits are enough for every float32 to read back bit by bit.
    assert np.array_equal(values, pack.genes["APOE"].values)
    assert json.loads((raw / "rhos.json").read_text()) == {"APOE": 0.7, "BDNF": 0.7}


def test_raw_latents_are_those_of_the_cohort(raw: Path, cohort: Cohort) -> None:
    owner = cohort.spec.ids[4]
    with np.load(raw / "latents" / f"{owner}_latent.npz") as archive:
        found = archive["latent"]
    assert found.shape == cohort.spec.latent_shape
    assert np.array_equal(found.ravel(), cohort.latents()[0][4])
