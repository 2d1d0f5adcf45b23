"""Opening data: parts, families, covariates, packs, and every refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.genes.built_in import write_cohort
from neurocli.systems.genes.covariates import columns_of, design_matrix, explain, strata_of
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.known_truth import CohortSpec
from neurocli.systems.genes.pair_set import PairSet

Configure = Callable[..., RunConfig]


def test_parts_are_those_of_the_cohort(opened: RunData, spec: CohortSpec) -> None:
    assert {part: len(people) for part, people in opened.split.items()} == {
        "train": 240,
        "val": 60,
        "test": 60,
    }
    assert opened.parts["train"].participants == spec.ids[:240]
    assert opened.built_in_data
    assert opened.objective == "align"


def test_what_a_model_must_know(opened: RunData) -> None:
    assert opened.info["neuro_input_dim"] == 96
    assert opened.info["latent_shape"] == [2, 6, 8]
    assert opened.info["gene_input_dim"] == 12
    assert opened.info["num_genes"] == 6
    assert opened.info["gene_names"] == sorted(opened.info["gene_names"])


def test_batches_hold_the_rows_of_their_people(opened: RunData, cohort: object) -> None:
    part = cast(PairSet, opened.parts["val"])
    batch = part.collate([part.sample(i, 0) for i in (3, 1)])
    assert batch["participant"] == batch["iid"] == [part.participants[3], part.participants[1]]
    latents = cohort.latents()[0]  # type: ignore[attr-defined]
    assert np.array_equal(batch["neuro_embedding"].numpy(), latents[[243, 241]])
    apoe = cohort.gene(0)[0]  # type: ignore[attr-defined]
    at = opened.info["gene_names"].index("APOE")
    assert np.array_equal(batch["gene_sequence"][:, at].numpy(), apoe[[243, 241]])
    assert "present" not in batch


def test_one_gene_is_one_token(configure: Configure) -> None:
    data = open_data(configure("data.gene=BDNF", model="gene_pair"))
    part = cast(PairSet, data.parts["test"])
    assert part.collate([part.sample(0, 0)])["gene_sequence"].shape == (1, 1, 12)
    assert data.info["gene_names"] == ["BDNF"]


def test_the_built_in_gene_is_a_true_one(configure: Configure) -> None:
    data = open_data(configure(model="gene_pair"))
    assert data.info["gene_names"] == ["APOE"]
    assert "no gene was named: APOE" in data.notes[0]


def test_raw_files_open_like_their_pack(raw: Path, configure: Configure, opened: RunData) -> None:
    config = configure(f"data.genes={raw / 'genes'}", path=raw / "latents")
    data = open_data(config)
    assert not data.built_in_data
    assert data.info == opened.info
    part, own = cast(PairSet, data.parts["train"]), cast(PairSet, opened.parts["train"])
    everyone = np.arange(len(part.cohort.people))
    assert np.array_equal(part.cohort.sequence(everyone), own.cohort.sequence(everyone))
    assert np.array_equal(part.cohort.brain(everyone), own.cohort.brain(everyone))


def test_a_single_table_is_a_gene(raw: Path, configure: Configure) -> None:
    table = raw / "genes" / "BDNF_brain_gene_embeddingUKB.csv"
    data = open_data(configure(f"data.genes={table}", model="gene_pair", path=raw / "latents"))
    assert data.info["gene_names"] == ["BDNF"]


def test_people_are_divided_by_a_hash_without_a_split(raw: Path, configure: Configure) -> None:
    config = configure(
        f"data.genes={raw / 'genes'}",
        "data.val_share=0.1",
        "data.test_share=0.2",
        path=raw / "latents",
    )
    data = open_data(config)
    assert [len(data.split[part]) for part in ("train", "val", "test")] == [252, 36, 72]
    assert any("divided 70/10/20 by a hash" in note for note in data.notes)
    assert open_data(config).split_sha256 == data.split_sha256


def test_a_split_file_is_followed(raw: Path, configure: Configure) -> None:
    config = configure(
        f"data.genes={raw / 'genes'}", f"data.split={raw / 'split.json'}", path=raw / "latents"
    )
    assert len(open_data(config).split["train"]) == 240


def test_a_checkpoints_split_wins(configure: Configure, spec: CohortSpec) -> None:
    split = {"train": spec.ids[:10], "val": [], "test": spec.ids[10:14]}
    data = open_data(configure(), split=split)
    assert len(data.parts["train"]) == 10
    assert len(data.split["rest"]) == 346
    assert "val" not in data.parts


def families(folder: Path, spec: CohortSpec, *tied: tuple[int, int]) -> Path:
    """Write a group table that ties some people."""
    lines = ["IID,mother"]
    mother = {i: f"m{i}" for i in range(spec.n_people)}
    for a, b in tied:
        mother[b] = mother[a]
    lines += [f"{owner},{mother[i]}" for i, owner in enumerate(spec.ids)]
    path = folder / "families.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_relatives_across_parts_are_an_error(
    tmp_path: Path, configure: Configure, spec: CohortSpec
) -> None:
    path = families(tmp_path, spec, (0, 350), (1, 2))
    with pytest.raises(NeuroError, match="1 families are in several parts") as caught:
        open_data(configure(f"data.group={path}"))
    assert f"{spec.ids[0]}, {spec.ids[350]} in train and test" in caught.value.message


def test_relatives_stay_together_without_a_split(
    tmp_path: Path, raw: Path, configure: Configure, spec: CohortSpec
) -> None:
    pairs = [(i, i + 180) for i in range(180)]
    path = families(tmp_path, spec, *pairs)
    config = configure(f"data.group={path}", f"data.genes={raw / 'genes'}", path=raw / "latents")
    data = open_data(config)
    part_of = {person: part for part, people in data.split.items() for person in people}
    assert all(part_of[spec.ids[a]] == part_of[spec.ids[b]] for a, b in pairs)
    part = cast(PairSet, data.parts["train"])
    assert len(set(part.cohort.families)) == 180


def test_without_families_it_is_said(raw: Path, configure: Configure) -> None:
    data = open_data(configure(f"data.genes={raw / 'genes'}", path=raw / "latents"))
    assert any("relatives may land in different parts" in note for note in data.notes)


def test_excluded_people_are_left_out(
    tmp_path: Path, configure: Configure, spec: CohortSpec
) -> None:
    path = tmp_path / "gone.txt"
    path.write_text("\n".join(spec.ids[:3]) + "\n")
    data = open_data(configure(f"data.exclude={path}"))
    assert len(data.split["train"]) == 237
    assert any("3 excluded" in note for note in data.notes)


def test_covariates_are_taken_out_of_both(configure: Configure, opened: RunData) -> None:
    data = open_data(configure("data.covariates=age,sex,site"))
    part, before = cast(PairSet, data.parts["train"]), cast(PairSet, opened.parts["train"])
    ages, _ = columns_of(
        Path(str(configure().data.path)) / "participants.tsv", part.participants, ["age"]
    )
    age = np.array([float(cell or 0) for cell in ages["age"]])
    brain = part.cohort.brain(part.rows)
    assert not np.array_equal(brain, before.cohort.brain(before.rows))
    centred = age - age.mean()
    # Least squares leaves nothing that correlates with a column of the design.
    assert np.abs(centred @ brain).max() < 1e-3 * np.abs(centred).sum()
    genes = part.cohort.sequence(part.rows)
    assert np.abs(np.einsum("n,ngd->gd", centred, genes)).max() < 1e-3 * np.abs(centred).sum()
    assert any("fitted on 240 training people" in note for note in data.notes)


def test_covariates_need_the_training_people(configure: Configure, spec: CohortSpec) -> None:
    split = {"train": [], "val": [], "test": spec.ids[:20]}
    with pytest.raises(UsageError, match="none are here"):
        open_data(configure("data.covariates=age"), split=split)


def test_an_unknown_covariate_names_the_nearest(configure: Configure) -> None:
    with pytest.raises(UsageError, match="unknown column 'agee'; did you mean age"):
        open_data(configure("data.covariates=agee"))


def test_missing_genes_come_with_a_mask(tmp_path: Path, configure: Configure) -> None:
    spec = CohortSpec(
        sizes=(60, 20, 20), latent_shape=(8,), n_inner=6, n_genes=10, tiers=(), missing=0.1
    )
    write_cohort(tmp_path / "p", spec)
    data = open_data(configure("data.min_gene_coverage=0.5", path=tmp_path / "p"))
    part = cast(PairSet, data.parts["train"])
    batch = part.collate([part.sample(i, 0) for i in range(len(part))])
    share = float(batch["present"].float().mean())
    assert share == pytest.approx(0.9, abs=0.05)
    absent = batch["gene_sequence"][~batch["present"]]
    assert float(absent.abs().max()) == 0
    filled = open_data(
        configure("data.min_gene_coverage=0.5", "data.missing_genes=mean", path=tmp_path / "p")
    )
    own = cast(PairSet, filled.parts["train"])
    again = own.collate([own.sample(i, 0) for i in range(len(own))])
    assert "present" not in again
    assert float(again["gene_sequence"][~batch["present"]].abs().max()) > 0


def test_a_trained_models_genes_are_taken_by_name(configure: Configure, opened: RunData) -> None:
    # Also in another order than this data would choose.
    names = ["BDNF", "APOE"]
    like = {**opened.info, "gene_names": names, "num_genes": 2}
    data = open_data(configure(), like=like)
    assert data.info["gene_names"] == names
    part = cast(PairSet, data.parts["test"])
    rows = np.arange(4)
    assert part.cohort.blocks[0].name == "BDNF"
    assert np.array_equal(part.cohort.sequence(rows)[:, 1], part.cohort.gene(1, rows))


def test_a_trained_models_genes_must_be_there(configure: Configure, opened: RunData) -> None:
    like = {**opened.info, "gene_names": ["APOE", "HTT"]}
    with pytest.raises(UsageError, match="1 of them are not in this data: HTT"):
        open_data(configure(), like=like)


def test_a_pair_is_judged_on_its_own_gene(configure: Configure) -> None:
    own = open_data(configure("data.gene=APOE", model="gene_pair"))
    with pytest.raises(UsageError, match="trained on APOE, not on BDNF"):
        open_data(configure("data.gene=BDNF", model="gene_pair"), like=own.info)


def test_latents_of_another_size_do_not_fit(configure: Configure, opened: RunData) -> None:
    like = {**opened.info, "neuro_input_dim": 97}
    with pytest.raises(UsageError, match="latents have 96 numbers, the model takes 97"):
        open_data(configure(), like=like)


def test_an_unknown_gene(configure: Configure) -> None:
    with pytest.raises(UsageError, match="unknown gene 'APEO'; did you mean APOE"):
        open_data(configure("data.gene=APEO", model="gene_pair"))


def test_missing_folders(tmp_path: Path, configure: Configure) -> None:
    with pytest.raises(InputError, match="no folder of latents"):
        open_data(configure(path=tmp_path / "none"))
    with pytest.raises(UsageError, match="gene tables were named and no latents"):
        open_data(configure(f"data.genes={tmp_path}", path=None))


def test_latents_without_genes(raw: Path, configure: Configure) -> None:
    with pytest.raises(UsageError, match="no gene table was named"):
        open_data(configure(path=raw / "latents"))


def test_a_pack_without_latents(tmp_path: Path, pack: Path, configure: Configure) -> None:
    shutil.copytree(pack / "APOE", tmp_path / "only" / "APOE")
    with pytest.raises(InputError, match="a pack without latents"):
        open_data(configure(path=tmp_path / "only"))


def test_unreadable_latents_are_listed(tmp_path: Path, raw: Path, configure: Configure) -> None:
    folder = tmp_path / "latents"
    shutil.copytree(raw / "latents", folder)
    first = sorted(folder.iterdir())[0]
    first.write_bytes(b"PK\x03\x04")
    data = open_data(configure(f"data.genes={raw / 'genes'}", path=folder))
    assert [name for name, _ in data.left_out] == [first.name.split("_")[0]]
    assert sum(map(len, data.split.values())) == 359


def test_the_fingerprint_follows_the_data(tmp_path: Path, pack: Path, configure: Configure) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(pack, copied)
    before = open_data(configure(path=copied)).fingerprint
    assert before == open_data(configure()).fingerprint
    index = json.loads((copied / "APOE" / "index.json").read_text())
    index["ids"] = index["ids"][1:] + index["ids"][:1]
    (copied / "APOE" / "index.json").write_text(json.dumps(index))
    write_cohort(tmp_path / "other", CohortSpec(sizes=(240, 60, 60)))
    assert open_data(configure(path=tmp_path / "other")).fingerprint != before


def test_designs_have_a_column_per_number_and_level() -> None:
    columns = {
        "age": ["50", "60", None, "70"],
        "site": ["a", "b", "c", "a"],
    }
    found = design_matrix(columns, np.array([0, 1, 3]))
    # A mean, age, a blank marker, and level b of a and b; level c is not in training.
    assert found.shape == (4, 4)
    assert found[:, 0].tolist() == [1, 1, 1, 1]
    assert found[[0, 1, 3], 1] == pytest.approx([-1.2247, 0, 1.2247], abs=1e-4)
    assert found[2, 1] == 0
    assert found[:, 2].tolist() == [0, 0, 1, 0]
    assert found[:, 3].tolist() == [0, 1, 0, 0]


def test_texts_with_too_many_levels_are_refused() -> None:
    cells: list[str | None] = [f"name{i}" for i in range(60)]
    with pytest.raises(UsageError, match="column who has 60 levels"):
        design_matrix({"who": cells}, np.arange(60))


def test_what_a_design_explains_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(50), rng.standard_normal((50, 2))])
    values = rng.standard_normal((50, 3)).astype(np.float32)
    train = np.arange(40)
    found = explain(design, train, lambda rows: values[rows])
    expected, *_ = np.linalg.lstsq(design[:40], values[:40], rcond=None)
    assert found.weights == pytest.approx(expected, abs=1e-5)
    rest = found.take_out(values[40:], np.arange(40, 50))
    assert rest == pytest.approx(values[40:] - design[40:] @ expected, abs=1e-4)


def test_strata_agree_in_all_columns() -> None:
    columns = {
        "sex": ["F", "M", "F", "M"],
        "site": ["1", "1", "1", "2"],
    }
    found = strata_of(columns)
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3


def test_numbers_are_cut_into_fifths() -> None:
    found = strata_of({"age": [str(i) for i in range(100)]})
    _, counts = np.unique(found, return_counts=True)
    assert len(counts) == 5
    assert counts.max() <= 21


def test_people_without_a_row_are_told(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("id,age\n1,50\n2,60\n")
    cells, notes = columns_of(path, ["2", "3"], ["age"])
    assert cells == {"age": ["60", None]}
    assert notes == ["1 people have no row in people.csv: 3"]
    with pytest.raises(InputError, match="names nobody of these people, such as 9"):
        columns_of(path, ["9"], ["age"])
    with pytest.raises(InputError, match="no table of people"):
        columns_of(tmp_path / "none.csv", ["1"], ["age"])
