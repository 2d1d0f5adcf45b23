"""Families, splits, covariates and fillings of a small cohort that is made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from neurocli.core.cohort.assign import assign_parts
from neurocli.core.config.run import RunConfig
from neurocli.core.errors import ExitCode, InputError, NeuroError, UsageError
from neurocli.systems.genes.cohort import PairedCohort, pair_people
from neurocli.systems.genes.config import GenesDataBlock
from neurocli.systems.genes.divide import assign_people, fill_absent, set_families, take_out
from neurocli.systems.genes.pack import read_block, write_values

Configure = Callable[..., RunConfig]
IDS = [f"{100 + i}" for i in range(12)]


@pytest.fixture
def cohort(tmp_path: Path) -> PairedCohort:
    """Return twelve people; the last one lacks gene B."""
    rng = np.random.default_rng(0)
    for name, ids in (("latents", IDS), ("A", IDS), ("B", IDS[:-1])):
        values = rng.standard_normal((len(ids), 3)).astype(np.float32)
        kind = "latents" if name == "latents" else "gene"
        write_values(tmp_path / name, ids, values, kind=kind, name=name)  # type: ignore[arg-type]
    data = GenesDataBlock(min_gene_coverage=0.5)
    blocks = [read_block(tmp_path / name) for name in ("A", "B")]
    return pair_people(read_block(tmp_path / "latents"), blocks, data)


def people(folder: Path, **columns: list[str]) -> Path:
    path = folder / "participants.tsv"
    lines = ["\t".join(["participant_id", *columns])]
    lines += [
        "\t".join([name, *cells]) for name, *cells in zip(IDS, *columns.values(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_without_any_table_it_is_said(tmp_path: Path, cohort: PairedCohort) -> None:
    notes = set_families(cohort, GenesDataBlock(), tmp_path / "none.tsv")
    assert notes == ["no --group: relatives may land in different parts and flatter the result"]
    assert cohort.families == IDS


def test_the_column_family_ties_and_blanks_do_not(tmp_path: Path, cohort: PairedCohort) -> None:
    cells = ["f", "f", "", "", "g", "g", "g", *[""] * 5]
    assert set_families(cohort, GenesDataBlock(), people(tmp_path, family=cells)) == []
    found = cohort.families
    assert found[0] == found[1]
    assert found[4] == found[5] == found[6]
    assert len(set(found)) == 12 - 1 - 2


def test_a_group_table_ties_by_any_of_its_columns(tmp_path: Path, cohort: PairedCohort) -> None:
    # 100 and 101 share a mother, 101 and 102 a father: all three are of one family.
    path = tmp_path / "kin.csv"
    path.write_text("id,mother,father\n100,m1,x\n101,m1,y\n102,m2,y\n103,m3,z\n")
    notes = set_families(cohort, GenesDataBlock(group=str(path)), tmp_path / "none.tsv")
    assert len(set(cohort.families[:3])) == 1
    assert cohort.families[3] not in cohort.families[:3]
    assert notes[0].startswith("8 people have no row in kin.csv")
    path.write_text("id,mother\n900,m1\n")
    with pytest.raises(InputError, match="names nobody of these people"):
        set_families(cohort, GenesDataBlock(group=str(path)), tmp_path / "none.tsv")


def test_shares_of_the_hash_are_those_asked_for(configure: Configure, cohort: PairedCohort) -> None:
    config = configure("data.val_share=0.25", "data.test_share=0.25", path=None)
    found = assign_people(config, cohort, Path("none"), None)
    assert {part: len(names) for part, names in found.parts.items()} == {
        "train": 6,
        "val": 3,
        "test": 3,
    }
    assert found.notes[0] == "no --split: people are divided 50/25/25 by a hash of seed and id"
    again = assign_people(config, cohort, Path("none"), None)
    assert (again.parts, again.sha256) == (found.parts, found.sha256)
    other = assign_people(configure("run.seed=5", path=None), cohort, Path("none"), None)
    assert other.parts["train"] != found.parts["train"]


def test_a_split_that_divides_a_family_is_refused(
    tmp_path: Path, configure: Configure, cohort: PairedCohort
) -> None:
    cohort.families[0] = cohort.families[11] = "f"
    parts = {"train": IDS[:8], "val": IDS[8:10], "test": IDS[10:]}
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"schema": "neuro/split/1", "parts": parts, "method": "by hand"}))
    with pytest.raises(NeuroError, match="1 families are in several parts, such as 100, 111") as e:
        assign_people(configure(f"data.split={path}", path=None), cohort, tmp_path, None)
    assert e.value.code == ExitCode.FAILED
    assert e.value.where == str(path)
    # Whoever is in no part cannot give anything away.
    parts["test"] = [IDS[10]]
    path.write_text(json.dumps({"schema": "neuro/split/1", "parts": parts, "method": "by hand"}))
    found = assign_people(configure(f"data.split={path}", path=None), cohort, tmp_path, None)
    assert found.parts["rest"] == [IDS[11]]


def test_what_is_taken_out_is_fitted_on_training_people_alone(
    tmp_path: Path, cohort: PairedCohort
) -> None:
    ages = np.array([40.0, 50, 60, 45, 55, 65, 42, 52, 62, 47, 57, 67])
    path = people(tmp_path, age=[f"{age:g}" for age in ages])
    data = GenesDataBlock(covariates=("age",))
    assigned = assign_parts(IDS, parts={"train": IDS[:8], "val": IDS[8:], "test": []})
    rows = np.arange(12)
    raw = {"brain": cohort.raw_brain(rows), "A": cohort.raw_gene(0, rows)}
    cells, notes = take_out(cohort, data, path, assigned)
    assert cells["age"][:2] == ["40", "50"]
    assert notes[-1] == "taken out of brains and genes, fitted on 8 training people: age"
    x = np.column_stack([np.ones(12), ages])
    for name, found in (("brain", cohort.brain(rows)), ("A", cohort.gene(0, rows))):
        weights, *_ = np.linalg.lstsq(x[:8], raw[name][:8], rcond=None)
        assert found == pytest.approx(raw[name] - x @ weights, abs=1e-4)
        assert np.abs(x[:8].T @ found[:8]).max() < 1e-2  # nothing of age is left in training


def test_covariates_without_training_people_are_refused(
    tmp_path: Path, cohort: PairedCohort
) -> None:
    assigned = assign_parts(IDS, parts={"test": IDS})
    path = people(tmp_path, age=["50"] * 12)
    with pytest.raises(UsageError, match="fitted on training people, and none are here"):
        take_out(cohort, GenesDataBlock(covariates=("age",)), path, assigned)
    assert take_out(cohort, GenesDataBlock(), path, assigned) == ({}, [])
    with pytest.raises(UsageError, match="unknown column 'aeg'; did you mean age"):
        take_out(cohort, GenesDataBlock(covariates=("aeg",)), path, assigned)


def test_absent_genes_are_filled_with_the_training_mean(cohort: PairedCohort) -> None:
    last = np.array([11])
    assert cohort.gene(1, last).tolist() == [[0, 0, 0]]
    assigned = assign_parts(IDS, parts={"train": [*IDS[:4], IDS[11]], "test": IDS[4:11]})
    fill_absent(cohort, GenesDataBlock(missing_genes="mask"), assigned)
    assert cohort.filled is None
    fill_absent(cohort, GenesDataBlock(missing_genes="mean"), assigned)
    # The mean over the four training people who have the gene, not over all who have it.
    expected = cohort.raw_gene(1, np.arange(4)).mean(0)
    assert cohort.gene(1, last)[0] == pytest.approx(expected, abs=1e-6)
    assert cast(np.ndarray, cohort.filled).dtype == np.float32
