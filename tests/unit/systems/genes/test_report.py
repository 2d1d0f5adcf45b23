"""Pictures of alignments, counted by hand from small tables."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from neurocli.systems.genes.report import figures


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run" / "evaluations" / "test"
    out.mkdir(parents=True)
    record = {
        "part": "test",
        "metrics": {"r_at_1": 0.25},
        "baselines": {"chance": {"r_at_1": 0.25}, "rcca": {"r_at_1": 0.5, "r_at_10": 1.0}},
    }
    (out / "metrics.json").write_text(json.dumps(record))
    return tmp_path / "run"


def _texts(image: bytes) -> list[str]:
    nodes = ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


def test_retrieval_counts_people_whose_partner_is_soon_found(run: Path) -> None:
    rows = ["p1,1,2,20,1", "p2,10,1,20,0.5", "p3,10.5,3,20,0.5", "p4,20,20,20,0"]
    head = "participant,rank_to_gene,rank_to_neuro,n_candidates,percentile"
    table = "\n".join([head, *rows]) + "\n"
    (run / "evaluations" / "test" / "per_subject.csv").write_text(table)
    figure = next(f for f in figures(run) if f.title.startswith("Retrieval"))
    # Ranks 1 and 10 are among the first ten, 10.5 (a tie across the border) and 20 are not.
    assert figure.alt == (
        "Of 20 candidates the own genes are among the first ten for 0.500 of people; chance is "
        "0.500."
    )
    assert "people, n = 4;" in figure.caption
    texts = _texts(figure.image)
    assert {"genes of a brain", "brains of genes", "chance", "rcca"} <= set(texts)
    # Ticks of the logarithmic axis are numbers, not formulas.
    assert "10" in texts
    assert not [text for text in texts if "mathdefault" in text]


def test_a_sweep_names_what_is_found_in_alphabetical_order(run: Path) -> None:
    genes = ["gene,percentile,p,q", "B,0.9,1e-30,1e-29", "<i>A,0.6,0.01,0.03", "C,0.5,0.4,0.6",
             "D,0.5,0,0"]  # fmt: skip
    (run / "genes.csv").write_text("\n".join(genes) + "\n")
    figure = next(f for f in figures(run) if f.title.startswith("Sweep"))
    assert figure.alt == "3 of 4 genes have q below 0.05; the surest: D, B, <i>A."
    assert figure.caption == "n = 4 genes, q by Benjamini-Hochberg; run/genes.csv"
    texts = _texts(figure.image)
    assert {"B", "D", "<i>A", "q < 0.05, 3 genes"} <= set(texts)
    assert "C" not in texts


def test_a_run_without_ranks_has_no_picture(run: Path) -> None:
    (run / "evaluations" / "test" / "per_subject.csv").write_text("participant\nx\n")
    assert figures(run) == []
