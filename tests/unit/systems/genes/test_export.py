"""Files for other programs: vectors, attention and tables against what the model gives slowly."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.genes import report
from neurocli.systems.genes.export import (
    embed,
    write_attention,
    write_embeddings,
    write_plain,
    write_rows,
)
from neurocli.systems.genes.models.build import build
from neurocli.systems.genes.pair_set import PairSet

Configure = Callable[..., RunConfig]


def test_vectors_are_those_of_one_person_at_a_time(
    configure: Configure, opened: RunData, test_part: PairSet
) -> None:
    torch.manual_seed(0)
    model = build(configure(), opened.info).eval()
    few = PairSet(test_part.cohort, test_part.rows[:7], test_part.classes)
    ids, brain, gene = embed(model, few)
    assert ids == few.participants
    for i in range(7):
        one = few.collate([few.sample(i, 0)])
        with torch.no_grad():
            u, v = model(one["neuro_embedding"], one["gene_sequence"])
        torch.testing.assert_close(brain[i], u[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gene[i], v[0], atol=1e-5, rtol=1e-5)


def test_parts_follow_one_another_in_the_file(tmp_path: Path) -> None:
    a, b = torch.arange(4.0).reshape(2, 2), torch.full((1, 2), 9.0)
    path = write_embeddings(
        tmp_path, {"train": (["p1", "p2"], a, -a), "test": (["p3"], b, -b)}, 14.3
    )
    content = torch.load(path, weights_only=True)
    assert content["iids"] == ["p1", "p2", "p3"]
    assert content["split"] == ["train", "train", "test"]
    assert content["neuro_features"].tolist() == [[0, 1], [2, 3], [9, 9]]
    assert torch.equal(content["gene_features"], -content["neuro_features"])
    assert content["logit_scale"] == 14.3


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_attention_is_the_mean_over_people(
    tmp_path: Path, configure: Configure, opened: RunData, test_part: PairSet, pooling: str
) -> None:
    torch.manual_seed(0)
    model = build(configure(f"model.pooling={pooling}"), opened.info).eval()
    few = PairSet(test_part.cohort, test_part.rows[:5], test_part.classes)
    path = write_attention(tmp_path, model, few)
    assert path is not None
    found = np.load(path)
    slow = []
    for i in range(5):
        one = few.collate([few.sample(i, 0)])["gene_sequence"]
        with torch.no_grad():
            slow.append(model.attention(one)[:, 0].numpy())  # type: ignore[operator]
    assert found == pytest.approx(np.mean(slow, axis=0), abs=1e-6)
    assert found.sum(-1) == pytest.approx(np.ones(found.shape[:-1]), abs=1e-5)
    names = (tmp_path / "gene_attention_genes.txt").read_text().splitlines()
    assert names == ["(class)"] * (pooling == "cls") + test_part.cohort.genes
    # The picture names the token that gets most, as counted here.
    strongest = names[int(found.mean((0, 1)).sum(0).argmax())]
    shown = report._attention(tmp_path)
    assert shown is not None
    assert shown.alt == f"Most attention goes to {strongest}."


def test_a_sum_of_maps_has_no_attention(
    tmp_path: Path, configure: Configure, opened: RunData, test_part: PairSet
) -> None:
    model = build(configure("model.gene_tower=linear-sum"), opened.info)
    assert write_attention(tmp_path, model, test_part) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(3, 3), (1, 1, 5, 5), (1, 1, 3, 4), (0, 1, 3, 3)])
def test_attention_of_other_genes_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "gene_attention.npy", np.ones(shape))
    (tmp_path / "gene_attention_genes.txt").write_text("APOE\nBDNF\nCOMT\n")
    with pytest.raises(InputError, match="is no attention between 3 genes") as caught:
        report._attention(tmp_path)
    assert caught.value.where == str(tmp_path / "gene_attention.npy")


def test_tables_hold_no_formulas_and_blanks_for_nothing(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "genes.csv",
        [{"gene": "=1+1", "q": 0.25}, {"gene": 'a,"b"', "q": None, "rho": float("nan")}],
    )
    rows = list(csv.reader(path.open(newline="")))
    assert rows == [["gene", "q", "rho"], ["'=1+1", "0.25", ""], ['a,"b"', "", ""]]


def test_genes_of_a_picture_are_counted_by_q(tmp_path: Path) -> None:
    # 0.05 itself is not found; a gene without a q is not drawn.
    table = "gene,percentile,q\nAPOE,0.9,0.001\nBDNF,0.6,0.05\nCOMT,0.7,0.049\nAPP,0.5,\n"
    (tmp_path / "genes.csv").write_text(table)
    shown = report._genes(tmp_path)
    assert shown is not None
    assert shown.alt == "2 of 3 genes are found at q below 0.05."
    assert shown.caption.startswith("n = 3 genes;")
    again = report._genes(tmp_path)
    assert again is not None
    assert again.image == shown.image


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(NeuroError):
        write_plain(tmp_path / "x.pt", {"path": tmp_path})
    assert not (tmp_path / "x.pt").exists()
