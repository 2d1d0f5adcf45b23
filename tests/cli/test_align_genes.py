"""The command line of `align-genes`: spellings, outputs, exit codes, one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.errors import UsageError
from neurocli.systems.genes.known_truth import Cohort, CohortSpec
from neurocli.systems.genes.raw_files import write_raw_files
from neurocli.systems.genes.result import AlignResult

TINY = CohortSpec(
    sizes=(80, 24, 24),
    latent_shape=(2, 10),
    n_inner=10,
    n_genes=3,
    tiers=((0.8, 1),),
    gene_dim=8,
    n_gene_inner=5,
)
METRICS = (
    "r_at_1",
    "r_at_5",
    "r_at_10",
    "median_rank",
    "mrr",
    "percentile",
    "chance_r_at_1",
    "p_value",
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_raw_files(folder, Cohort(TINY))
    return folder


def result(**values: Any) -> AlignResult:
    base: dict[str, Any] = {
        "run": Path("r"),
        "mode": "single",
        "method": "rcca",
        "model": "rcca",
        "checkpoint": Path("r/best_model.pt"),
        "n": 9,
        "metrics": dict.fromkeys(METRICS, 0.5),
        "gene_names": ["APOE"],
    }
    return AlignResult(**{**base, **values})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--latents", "l", "--genes", "g"], {"latents": Path("l"), "genes": Path("g")}),
        (["--brain_latent_dir", "l"], {"latents": Path("l")}),
        (["--gene_embedding_path", "a.csv"], {"genes": Path("a.csv")}),
        (["--gene-embedding-dir", "g"], {"genes": Path("g")}),
        (["--single_gene_name", "APOE"], {"gene": "APOE"}),
        (["--transformer_pooling", "cls"], {"pooling": "cls"}),
        (["--num_epochs", "50"], {"epochs": 50}),
        (["--learning_rate", "1e-4"], {"lr": 1e-4}),
        (["--gradient_accumulation_steps", "2"], {"accumulate": 2}),
        (["--output_dir", "o"], {"out": Path("o")}),
        (["--batch_size", "128"], {"batch_size": 128}),
        (["--projection_dim", "512", "--hidden_dim", "1024"], {"hidden_dim": 1024}),
        (["--covariates", "age,sex"], {"covariates": ("age", "sex")}),
        (["--mode", "sequence"], {"mode": "sequence", "method": None}),
        (["--iid_column", "eid"], {"set": ["data.iid_column=eid"]}),
        (["--gene_embedding_dim", "256"], {"set": ["data.gene_dim=256"]}),
        (["--dropout", "0.2"], {"set": ["model.dropout=0.2"]}),
        (["--weight_decay", "0.1"], {"set": ["train.weight_decay=0.1"]}),
        (["--val_split", "0.1"], {"set": ["data.val_share=0.1"]}),
        (["--num_workers", "4"], {"set": ["data.prefetch=4"]}),
        (
            [
                "--transformer_hidden_dim",
                "768",
                "--transformer_num_layers",
                "6",
                "--transformer_num_heads",
                "12",
            ],
            {
                "set": [
                    "model.transformer_hidden_dim=768",
                    "model.transformer_num_layers=6",
                    "model.transformer_num_heads=12",
                ]
            },
        ),
        (["-s", "task.pca=9"], {"set": ["task.pca=9"]}),
    ],
)
def test_spellings(neuro: Any, pretend: Any, words: list[str], expected: dict[str, Any]) -> None:
    calls = pretend("align_genes", lambda **_: result())
    assert neuro("align-genes", *words, "-q").code == 0
    given = calls[0][1]
    assert {key: given[key] for key in expected} == expected


def test_quiet_is_the_run_folder(neuro: Any, pretend: Any) -> None:
    pretend("align_genes", lambda **_: result())
    assert neuro("align-genes", "-q").out == "r\n"


def test_json_is_one_object_with_the_fixed_metrics(neuro: Any, pretend: Any) -> None:
    pretend("align_genes", lambda **_: result())
    answer = neuro("align-genes", "--json").json
    assert answer["schema"] == "neuro/align-genes/1"
    assert set(METRICS) <= set(answer["metrics"])
    assert answer["part"] == "test"


def test_text_shows_baselines_and_shares(neuro: Any, pretend: Any) -> None:
    values = dict.fromkeys(METRICS, 0.25)
    pretend(
        "align_genes",
        lambda **_: result(
            baselines={"chance": values, "oracle": values},
            share_of_optimum={"r_at_1": 0.5},
            ci95={"r_at_1": (0.1, 0.9)},
        ),
    )
    answer = neuro("align-genes")
    assert "APOE: test part, n = 9 people, both ways" in answer.out
    assert "of the optimum" in answer.out
    assert "50%" in answer.out
    assert "0.1 to 0.9" in answer.out
    assert "neuro report r" in answer.err


def test_text_says_how_it_stands_to_the_floor(neuro: Any, pretend: Any) -> None:
    gain = {"mean": -0.125, "low": -0.25, "high": -0.0625, "verdict": "worse"}
    unknown = {"mean": 0.5, "low": None, "high": None, "verdict": "no claim"}
    told = {"differences": {"rcca": {"r_at_1": gain, "mrr": unknown}}}
    pretend("align_genes", lambda **_: result(details=told))
    answer = neuro("align-genes")
    assert "against the floors, the same people" in answer.out
    line = next(row for row in answer.out.splitlines() if "r_at_1 minus rcca" in row)
    assert line.split()[3:] == ["-0.125", "-0.25", "to", "-0.0625", "worse"]
    pretend("align_genes", lambda **_: result())
    assert "against the floors" not in neuro("align-genes").out


def test_sweeps_show_their_genes(neuro: Any, pretend: Any) -> None:
    row = {"gene": "APOE", "n": 9, "percentile": 0.8, "z": 5.0, "p": 1e-6, "q": 1e-5}
    genes = [{**row, "found": True}, {**row, "gene": "BDNF", "found": False}]
    pretend("align_genes", lambda **_: result(mode="sweep", genes=genes))
    answer = neuro("align-genes", "--mode", "sweep")
    assert "1 of 2 genes found at q < 0.05" in answer.out
    assert "all genes at once" in answer.out


def test_a_dry_run_shows_the_plan(neuro: Any, pretend: Any) -> None:
    pretend("align_genes", lambda **_: result(plan={"genes": 3}))
    answer = neuro("align-genes", "--dry-run")
    assert answer.code == 0
    assert "Nothing was written" in answer.out


def test_left_out_files_are_listed_with_exit_three(neuro: Any, pretend: Any) -> None:
    pretend("align_genes", lambda **_: result(left_out=[("102", "damaged")]))
    answer = neuro("align-genes")
    assert answer.code == 3
    assert "102: damaged" in answer.err


def test_errors_pass_through(neuro: Any, pretend: Any) -> None:
    def fail(**_: Any) -> AlignResult:
        raise UsageError("no ids agree", hint="look")

    pretend("align_genes", fail)
    answer = neuro("align-genes", "--json")
    assert answer.code == 2
    assert answer.json["error"]["message"] == "no ids agree"


def quick(study: Path, out: Path) -> list[str]:
    settings = ["task.permutations=10", "model.transformer_hidden_dim=16"]
    settings += ["model.transformer_num_heads=2", "model.transformer_ff_dim=16"]
    words = ["--latents", study / "latents", "--genes", study / "genes", "-o", out]
    words += ["--preset", "genes/tiny", "--epochs", "1", "--split", study / "split.json"]
    return [*map(str, words), *(word for text in settings for word in ("-s", text))]


@pytest.mark.parametrize(
    "mode",
    [
        ["--mode", "single", "--gene", "APOE"],
        ["--mode", "sequence", "--pooling", "max", "--gene-input", "per-gene"],
        ["--mode", "sweep"],
        ["--method", "rcca", "--gene", "APOE"],
        ["--gene", "APOE", "--loss", "siglip", "--hidden-dim", "12"],
    ],
    ids=" ".join,
)
def test_real_files_run_in_every_mode(
    neuro: Any, study: Path, tmp_path: Path, mode: list[str]
) -> None:
    answer = neuro("align-genes", *mode, *quick(study, tmp_path / "run"), "--json")
    assert answer.code == 0, answer.err
    assert set(METRICS) <= set(answer.json["metrics"])
    assert answer.json["n"] == 24
    assert Path(answer.json["checkpoint"]).is_file()


def bad(study: Path, tmp_path: Path, kind: str) -> list[str]:
    """Return words of a run that must be refused."""
    latents, genes = tmp_path / "latents", tmp_path / "genes"
    latents.mkdir()
    genes.mkdir()
    for i in range(30):
        array: Any = np.full((2, 3), float(i))
        if kind == "nan" and i == 4:
            array[0, 0] = np.nan
        if kind == "object":
            array = np.array([{"a": 1}], dtype=object)
        np.savez(latents / f"{100 + i}_latent.npz", latent=array)
    first = 900 if kind == "ids" else 100
    lines = [f"{first + i},{i},1" for i in range(30)]
    (genes / "APOE.csv").write_text("\n".join(["IID,emb_0,emb_1", *lines]) + "\n")
    words = ["--latents", str(latents), "--genes", str(genes), "-o", str(tmp_path / "run")]
    if kind == "gene":
        words += ["--gene", "APEO"]
    if kind == "width":
        words += ["--gene_embedding_dim", "256"]
    return words


@pytest.mark.parametrize(
    ("kind", "code", "told"),
    [
        ("ids", 2, "no id of the latents (100, 101, 102, 103, 104, ...)"),
        ("gene", 2, "unknown gene 'APEO'; did you mean APOE"),
        ("width", 1, "expected 256"),
        ("nan", 1, "1 latents hold NaN or Inf: 104"),
        ("object", 1, "Python objects"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    neuro: Any, study: Path, tmp_path: Path, kind: str, code: int, told: str
) -> None:
    answer = neuro("align-genes", "--method", "rcca", *bad(study, tmp_path, kind))
    assert answer.code == code, answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert "Traceback" not in answer.err
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_genes_is_refused(neuro: Any, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = quick(study, out)
    assert neuro("align-genes", "--mode", "sequence", *words, "-q").code == 0
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((study / "genes").iterdir())[1:]:
        (few / path.name).write_bytes(path.read_bytes())
    answer = neuro(
        "evaluate", out / "best_model.pt", "-s", f"data.genes={few}", "-o", tmp_path / "e"
    )
    assert answer.code == 2
    assert "1 of them are not in this data" in answer.err
