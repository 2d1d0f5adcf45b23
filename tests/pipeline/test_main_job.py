"""The main job as functions: raw runs, HDF5, split, pretraining, a head, judgement, report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SMALL

import neurocli
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.errors import InputError, NeuroError, NotBuiltYetError, UsageError


def head(cohort: Path, split: Path, out: Path, **options: Any) -> neurocli.RunResult:
    named: dict[str, Any] = {"task": "sex", "steps": 4, "set": SMALL, **options}
    return neurocli.train("fmamba_mlp", data=cohort, split=split, out=out, **named)


def test_the_run_folder_says_everything(pretrained: neurocli.RunResult) -> None:
    run = pretrained.run
    assert pretrained.steps == 6
    assert pretrained.best["part"] == "val"
    for name in ("config.yaml", "config.sources.json", "environment.json", "data.json"):
        assert (run / name).stat().st_size > 0, name
    for name in ("split.json", "log.jsonl", "metrics.csv", "card.md", "result.json"):
        assert (run / name).stat().st_size > 0, name
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    payload = load_checkpoint(run / "checkpoints" / "last.pth")
    assert payload["model_name"] == "fmamba"
    assert payload["progress"]["step"] == 6
    assert payload["info"]["img_size"][3] == 8


def test_a_checkpoint_is_judged_on_people_it_never_saw(
    pretrained: neurocli.RunResult, cohort: Path, tmp_path: Path
) -> None:
    result = neurocli.evaluate(pretrained.checkpoint, data=cohort, out=tmp_path / "e")
    assert result.part == "test"
    assert not result.in_sample
    assert set(result.metrics) >= {"loss", "skill_vs_persistence"}
    assert set(result.baselines) == {"persistence", "zero"}
    record = json.loads((tmp_path / "e" / "metrics.json").read_text())
    rows = list(csv.DictReader((tmp_path / "e" / "per_subject.csv").open()))
    split = json.loads((pretrained.run / "split.json").read_text())["parts"]
    assert {row["participant"] for row in rows} == set(split["test"])
    assert record["n"] == result.n == len(split["test"]) > 0


def test_every_part_and_the_in_sample_warning(
    pretrained: neurocli.RunResult, cohort: Path, tmp_path: Path
) -> None:
    every = neurocli.evaluate(pretrained.checkpoint, data=cohort, part="all", out=tmp_path / "a")
    train = neurocli.evaluate(pretrained.checkpoint, data=cohort, part="train", out=tmp_path / "b")
    assert every.n == 12
    assert every.in_sample
    assert train.in_sample
    assert any("trained on" in note for note in train.notes)
    with pytest.raises(UsageError, match="unknown part"):
        neurocli.evaluate(pretrained.checkpoint, data=cohort, part="tset")


def test_batch_size_changes_no_metric(
    pretrained: neurocli.RunResult, cohort: Path, tmp_path: Path
) -> None:
    losses = [
        neurocli.evaluate(
            pretrained.checkpoint, data=cohort, batch_size=size, out=tmp_path / str(size)
        ).metrics["loss"]
        for size in (1, 3, 16)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_head_from_pretraining_to_a_report(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    run = head(cohort, split, tmp_path / "sex", init_from=pretrained.checkpoint)
    assert any("backbone tensors were taken" in note for note in run.notes)
    assert not any("test participants were in the training" in note for note in run.notes)
    result = neurocli.evaluate(run.checkpoint, data=cohort)
    assert {"accuracy", "balanced_accuracy", "auroc"} <= set(result.metrics)
    assert "majority" in result.baselines
    assert result.out == run.run / "evaluations" / "test"
    page = neurocli.make_report([pretrained.run, run.run], out=tmp_path / "report.html")
    text = page.out.read_text()
    assert "fmamba_mlp" in text
    assert "majority" in text
    assert "synthetic" in text


def test_weights_from_people_of_the_test_part_are_told(
    pretrained: neurocli.RunResult, cohort: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    neurocli.make_split(cohort, other, seed=8, train=0.5, val=0.2)
    run = head(cohort, other, tmp_path / "run", init_from=pretrained.checkpoint, steps=1)
    assert any("test participants were in the training" in note for note in run.notes)


def test_freezing_trains_the_head_only(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    run = head(
        cohort, split, tmp_path / "run", init_from=pretrained.checkpoint, freeze=True, lr=0.1
    )
    before = load_checkpoint(pretrained.checkpoint)["state_dict"]
    after = load_checkpoint(run.run / "checkpoints" / "last.pth")["state_dict"]
    assert torch.equal(before["norm.weight"], after["model.norm.weight"])
    assert after["output_head.head.weight"].abs().max() > 0.05


def test_the_same_command_finds_its_finished_run(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    first = head(cohort, split, tmp_path / "run")
    weights = first.checkpoint.read_bytes()
    again = head(cohort, split, tmp_path / "run")
    assert any("already ended" in note for note in again.notes)
    assert again.best == first.best
    assert first.checkpoint.read_bytes() == weights
    with pytest.raises(UsageError, match="belongs to another run"):
        head(cohort, split, tmp_path / "run", lr=0.5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        head(cohort, split, tmp_path / "mine")


def test_resume_ends_where_an_uninterrupted_run_does(
    cohort: Path, split: Path, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop_at_three(event: object) -> None:
        if type(event).__name__ == "StepDone" and event.step == 3:  # type: ignore[attr-defined]
            raise Stop

    settings = [*SMALL, "run.checkpoint_every_steps=1"]
    whole = head(cohort, split, tmp_path / "whole", set=settings)
    with pytest.raises(Stop):
        head(cohort, split, tmp_path / "cut", set=settings, listener=stop_at_three)
    resumed = neurocli.train(resume=tmp_path / "cut")
    assert resumed.steps == whole.steps
    ends = [load_checkpoint(run.run / "checkpoints" / "last.pth") for run in (whole, resumed)]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    tables = [(run.run / "metrics.csv").read_text() for run in (whole, resumed)]
    assert tables[0] == tables[1]


def test_resume_refuses_what_changed(cohort: Path, split: Path, tmp_path: Path) -> None:
    run = head(cohort, split, tmp_path / "run", steps=2)
    with pytest.raises(UsageError, match="--lr cannot change it"):
        neurocli.train(resume=run.run, lr=0.1)
    with pytest.raises(UsageError, match="trains fmamba_mlp"):
        neurocli.train("fmamba", resume=run.run)
    with pytest.raises(InputError, match="no run folder"):
        neurocli.train(resume=tmp_path)
    copy = tmp_path / "h5"
    shutil.copytree(cohort, copy)
    out = tmp_path / "second"
    head(copy, split, out, steps=2)
    (out / "result.json").unlink()
    next(copy.glob("*.h5")).unlink()
    (copy / "manifest.jsonl").unlink()
    with pytest.raises(NeuroError, match="changed since"):
        neurocli.train(resume=out)


@pytest.mark.parametrize(
    ("models", "options", "error", "words"),
    [
        ((), {}, UsageError, "no MODEL"),
        (("fmamba", "fmamba_mlp"), {}, NotBuiltYetError, "several models"),
        (("fmamba",), {"seeds": [1, 2]}, NotBuiltYetError, "several models, seeds"),
        (("cebra",), {}, NotBuiltYetError, "not in this version"),
        (("fmamba",), {"pretrain": "arr"}, UsageError, "'arr'"),
        (("fmamba_mlp",), {"pretrain": "ar", "task": "sex"}, UsageError, "not trained for 'ar'"),
        (("fmamba",), {"parallel": "ddp"}, NotBuiltYetError, "ddp"),
        (("fmamba",), {"precision": "fp64"}, UsageError, "train.precision"),
        (("fmamba",), {"init_from": "absent.pth"}, InputError, "absent.pth"),
    ],
)
def test_what_cannot_be_trained_is_said(
    cohort: Path,
    tmp_path: Path,
    models: tuple[str, ...],
    options: dict[str, Any],
    error: type[NeuroError],
    words: str,
) -> None:
    with pytest.raises(error) as caught:
        neurocli.train(*models, data=cohort, set=SMALL, out=tmp_path / "r", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_a_dry_run_writes_nothing(cohort: Path, tmp_path: Path) -> None:
    result = neurocli.train("fmamba", data=cohort, set=SMALL, out=tmp_path / "r", dry_run=True)
    assert result.plan is not None
    assert result.plan["n_parameters"] > 0
    # Two clips of eight frames for each of the eight people of the training part (12 x 0.7).
    steps, samples = result.plan["cost"]["steps"], result.plan["parts"]["train"]["samples"]
    assert steps == 10 * -(-samples // 4)
    one = neurocli.count_flops("fmamba", set=SMALL, input_shape=result.plan["info"]["img_size"])
    assert result.plan["cost"]["flops_at_most"] == 10 * samples * one.flops_train_step
    assert not (tmp_path / "r").exists()


def test_a_model_comes_back_from_its_checkpoint(pretrained: neurocli.RunResult) -> None:
    model = neurocli.load_model(pretrained.checkpoint)
    assert not model.training
    saved = load_checkpoint(pretrained.checkpoint)["state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name])
    fresh = neurocli.load_model("fmamba_mlp", embed_dim=32, depth=1, img_size=(12, 12, 12, 4))
    logits = fresh(torch.randn(2, 1, 12, 12, 12, 4))["logits"]
    assert logits.shape == (2, 2)
    with pytest.raises(UsageError, match="cannot change it"):
        neurocli.load_model(pretrained.checkpoint, embed_dim=64)
    with pytest.raises(UsageError, match="unknown model"):
        neurocli.load_model("fmambo")


def test_regression_on_age(cohort: Path, split: Path, tmp_path: Path) -> None:
    run = head(cohort, split, tmp_path / "age", task="age", task_type="regression")
    result = neurocli.evaluate(run.checkpoint, data=cohort, save_predictions=True)
    assert {"mse", "mae", "r2", "pearson"} <= set(result.metrics)
    assert "train_mean" in result.baselines
    assert (result.out / "predictions" / "samples.csv").is_file()
