"""The main job as functions: raw runs, HDF5, split, pretraining, a head, judgement, report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import SMALL

import neurocli
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.errors import InputError, NeuroError, UsageError


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
    assert any("tensors loaded, 2 missing (output_head" in note for note in run.notes)
    assert not any("test participants were in the training" in note for note in run.notes)
    result = neurocli.evaluate(run.checkpoint, data=cohort, embeddings=True, explain="occlusion")
    maps = sorted(path.name for path in (result.out / "explanations").iterdir())
    assert {"clips.csv", "group_abs.nii.gz", "group_signed.nii.gz"} <= set(maps)
    assert len(maps) == 3 + 2 * result.n
    assert any("maps of" in note for note in result.notes)
    assert {"accuracy", "balanced_accuracy", "auroc"} <= set(result.metrics)
    assert set(result.baselines) == {"majority", "fc", "roi"}
    assert set(result.baseline_ci95["fc"]) == set(result.ci95)
    assert set(result.verdicts["fc"]) == set(result.metrics)
    record = json.loads((result.out / "metrics.json").read_text())
    assert sum(map(sum, record["confusion"]["counts"])) == record["n"]
    sites = {row["site"]: row["n"] for row in record["per_site"]}
    assert sum(sites.values()) == record["n"]
    assert len(sites) > 1
    with np.load(result.out / "embeddings.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file}
    index = list(csv.DictReader((result.out / "embeddings.csv").open()))
    assert found["features"].shape == (len(index), 32)
    assert [row["participant"] for row in index] == found["participant"].tolist()
    assert len({(row["subject"], row["start"]) for row in index}) == len(index)
    again = neurocli.evaluate(run.checkpoint, data=cohort)
    assert again.metrics == result.metrics
    assert not (result.out / "explanations").exists()
    assert not (result.out / "embeddings.npz").exists()  # nothing of an older judgement stays
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


@pytest.mark.parametrize("name", ["mlp", "conv_mlp", "mamba_head", "mamba_head_fn"])
def test_a_frozen_backbone_keeps_every_byte_over_epochs(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path, name: str
) -> None:
    # Patches small enough for the convolutions, which need 106 tokens.
    small = [*SMALL, "model.patch_size=6,6,6,1"] if name == "conv_mlp" else SMALL
    start = pretrained
    if name == "conv_mlp":
        start = neurocli.train("fmamba", data=cohort, split=split, set=small, steps=1,
                               out=tmp_path / "start")  # fmt: skip
    run = neurocli.train(
        f"fmamba_{name}", data=cohort, split=split, out=tmp_path / "run", set=small, task="sex",
        epochs=3, steps=None, lr=0.1, freeze=True, init_from=start.checkpoint,
    )  # fmt: skip
    assert run.epochs == 3
    before = load_checkpoint(start.checkpoint)["state_dict"]
    payload = load_checkpoint(run.run / "checkpoints" / "last.pth")
    after = payload["state_dict"]
    backbone = [key for key in before if not key.startswith("output_layer.")]
    assert len(backbone) >= 10
    assert "embedder.pos" in backbone  # a buffer
    for key in backbone:
        assert torch.equal(before[key], after[f"model.{key}"]), key
    head = [key for key in after if key.startswith("output_head.")]
    n_trained = sum(len(group["params"]) for group in payload["optimizer"]["param_groups"])
    assert n_trained == len(head)
    assert after["output_head.head.weight"].abs().max() > 0.05


def test_a_run_folder_stands_for_its_best_checkpoint(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    run = head(cohort, split, tmp_path / "run", init_from=pretrained.run, steps=1)
    assert any("checkpoints/best.pth is taken" in note for note in run.notes)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="without a checkpoint"):
        head(cohort, split, tmp_path / "other", init_from=empty)


def test_weights_fix_the_sizes_of_the_model(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    data = [text for text in SMALL if not text.startswith("model.")]
    named: dict[str, Any] = {"data": cohort, "split": split, "task": "sex", "dry_run": True,
                             "init_from": pretrained.checkpoint}  # fmt: skip
    plan: Any = neurocli.train("fmamba_mlp", set=data, **named).plan
    assert plan["config"]["model"]["embed_dim"] == 32
    assert plan["config"]["model"]["patch_size"] == [8, 8, 8, 2]
    for wrong in ("model.embed_dim=64", "model.patch_size=4,4,4,2", "model.depth=3"):
        with pytest.raises(UsageError, match="the weights have"):
            neurocli.train("fmamba_mlp", set=[*data, wrong], **named)


def test_weights_go_out_under_official_names_and_come_back(
    pretrained: neurocli.RunResult, cohort: Path, split: Path, tmp_path: Path
) -> None:
    out = tmp_path / "official.ckpt"
    result = neurocli.export_weights(pretrained.checkpoint, out)
    assert result.model == "fmamba"
    content = torch.load(out, weights_only=True)
    saved = load_checkpoint(pretrained.checkpoint)["state_dict"]
    assert content["state_dict"].keys() == {f"model.{name}" for name in saved}
    assert all(torch.equal(content["state_dict"][f"model.{n}"], v) for n, v in saved.items())
    assert content["hyper_parameters"]["patch_size"] == [8, 8, 8, 2]
    assert content["global_step"] == pretrained.steps
    model = neurocli.load_model(out)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    data = [text for text in SMALL if not text.startswith("model.")]
    run = neurocli.train("fmamba_mlp", data=cohort, split=split, set=data, task="sex", steps=1,
                         init_from=out, out=tmp_path / "run")  # fmt: skip
    assert any("tensors loaded, 2 missing (output_head" in note for note in run.notes)


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
    with pytest.raises(UsageError, match="takes its folder, not a file") as caught:
        neurocli.train(resume=run.checkpoint)
    assert f"neuro train --resume {run.run}" in str(caught.value.hint)
    assert "--init-from best.pth starts a new run" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no such run"):
        neurocli.train(resume=tmp_path / "absent")
    with pytest.raises(UsageError, match="--init-from cannot change it"):
        neurocli.train(resume=run.run, init_from=run.checkpoint)
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
        (("fmamba", "fmamba_mlp"), {}, UsageError, "several models"),
        (("fmamba",), {"seeds": [1, 2]}, UsageError, "several models, seeds"),
        (("fmamba",), {"pretrain": "arr"}, UsageError, "'arr'"),
        (("fmamba_mlp",), {"pretrain": "ar", "task": "sex"}, UsageError, "not trained for 'ar'"),
        (("fmamba",), {"parallel": "ddq"}, UsageError, "train.parallel"),
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


@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_window_is_dropped_or_counted_twice(
    pretrained: neurocli.RunResult, cohort: Path, tmp_path: Path, batch_size: int
) -> None:
    found = {}
    for size in (16, batch_size):
        out = tmp_path / str(size)
        found[size] = neurocli.evaluate(pretrained.checkpoint, data=cohort, out=out, part="all",
                                        batch_size=size, save_predictions=True)  # fmt: skip
        rows = list(csv.DictReader((out / "predictions" / "samples.csv").open()))
        assert len({(row["subject"], row["start"]) for row in rows}) == len(rows)
    assert found[16].metrics == pytest.approx(found[batch_size].metrics, rel=1e-5)


def test_regression_on_age(cohort: Path, split: Path, tmp_path: Path) -> None:
    run = head(cohort, split, tmp_path / "age", task="age", task_type="regression")
    result = neurocli.evaluate(run.checkpoint, data=cohort, save_predictions=True)
    assert {"mse", "mae", "r2", "pearson"} <= set(result.metrics)
    assert "train_mean" in result.baselines
    assert (result.out / "predictions" / "samples.csv").is_file()
