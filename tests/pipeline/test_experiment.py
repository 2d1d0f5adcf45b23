"""An experiment from a command line to tables: killed, restarted, with a model that fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurocli
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import EvalDone, Event, RunStarted
from neurocli.core.experiment.judge import ManyResult, evaluate_many
from neurocli.core.infer.sliding_window import labels_from_logits, sliding_window_logits
from neurocli.systems.brats.data import open_data
from neurocli.systems.brats.synthetic import CohortSpec, write_tree

SPEC = CohortSpec(n_cases=6, shape=(16, 16, 12), spacing_mm=12.0)
SMALL = [
    "model.width=4", "model.norm=in", "data.patch=16,16,16", "data.samples_per_case=1",
    "run.threads=1", "task.lesions=none", "task.loss=nnunet",
]  # fmt: skip
FINE = ("unet3d_xs", "unet3d_stride_xs")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumours")
    write_tree(folder / "raw", "brats2018", SPEC)
    neurocli.preprocess("brats2018", folder / "raw", out=folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="module", autouse=True)
def quick_costs() -> Any:
    """Measure costs once for each model of this file, not once for each experiment."""
    from neurocli.core.experiment import costs

    known: dict[str, Any] = {}
    measured = costs._measured

    def remembered(checkpoint: Path) -> Any:
        name = load_checkpoint(checkpoint)["model_name"]
        if name not in known:
            known[name] = measured(checkpoint)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "_measured", remembered)
        yield


def start(dataset: Path, out: Path, *models: str, **options: Any) -> neurocli.ExperimentResult:
    chosen = models or FINE
    given = {"data": dataset, "epochs": 2, "set": SMALL, "folds": 3, "seeds": [7], "out": out}
    return neurocli.run_experiment(*chosen, **{**given, **options})


@pytest.fixture(scope="module")
def whole(dataset: Path) -> neurocli.ExperimentResult:
    return start(dataset, dataset.parent / "whole")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_every_run_is_judged_on_the_fold_it_did_not_see(
    whole: neurocli.ExperimentResult,
) -> None:
    assert [run["status"] for run in whole.runs] == ["done"] * 6
    assert not whole.left_out
    cases = rows_of(whole.out / "per_case.csv")
    for model in FINE:
        own = [row for row in cases if row["model_name"] == model]
        assert len(own) == len({row["subject"] for row in own}) == SPEC.n_cases
    for run in whole.runs:
        folder = Path(run["run"])
        parts = json.loads((folder / "split.json").read_text())["parts"]
        tested = {
            row["participant"] for row in rows_of(folder / "evaluations/test/per_subject.csv")
        }
        assert tested == set(parts["test"])
        assert not tested & {*parts["train"], *parts["val"]}
        record = json.loads((folder / "evaluations/test/metrics.json").read_text())
        assert record["in_sample"] is False
        assert run["metrics"]["dice_wt"] == record["metrics"]["dice_wt"]


def test_tables_and_named_checkpoints(whole: neurocli.ExperimentResult) -> None:
    runs = rows_of(whole.out / "integrated_experiment_results.csv")
    assert [(row["model_name"], row["fold"]) for row in runs] == [
        (model, str(fold)) for fold in range(3) for model in FINE
    ]
    for row in runs:
        assert float(row["pam_train"]) > float(row["pam_inference"]) > 0
        assert float(row["inference_latency_ms"]) > 0
        assert row["dataset"] == "brats2018"
        best = whole.out / f"{row['model_name']}_seed_7_fold_{row['fold']}_best.pth"
        assert load_checkpoint(best)["model_name"] == row["model_name"]
    epochs = rows_of(whole.out / "all_epochs_results.csv")
    assert len(epochs) == 12
    assert all(row["val_loss"] and row["train_loss"] for row in epochs)
    assert sum(bool(row["test_dice"]) for row in epochs) == 6
    modes = {row["mode"] for row in rows_of(whole.out / "stage_wise_pam_results.csv")}
    assert modes == {"train", "inference"}
    pairs = rows_of(whole.out / "comparison.csv")
    assert {(row["first"], row["second"]) for row in pairs} == {FINE}
    assert {row["n"] for row in pairs if row["metric"] == "dice_wt"} == {"6"}


class Killed(BaseException):
    """Stand for a signal that nobody can catch."""


def test_a_killed_experiment_goes_on_and_ends_the_same(
    dataset: Path, whole: neurocli.ExperimentResult, tmp_path: Path
) -> None:
    out, started = tmp_path / "killed", []

    def kill(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(Path(event.run_dir).name)
        if len(started) == 2 and isinstance(event, EvalDone) and event.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        start(dataset, out, listener=kill)
    # One run has ended; the one under way has told of its first epoch.
    assert len(rows_of(out / "integrated_experiment_results.csv")) == 1
    epochs = rows_of(out / "all_epochs_results.csv")
    assert [row["epoch"] for row in epochs] == ["1", "2", "1"]
    started.clear()
    again: list[RunStarted] = []
    done = neurocli.run_experiment(
        resume=out, listener=lambda e: again.append(e) if isinstance(e, RunStarted) else None
    )
    assert [run["status"] for run in done.runs] == ["skipped", *["done"] * 5]
    assert [Path(event.run_dir).name for event in again] == [run["name"] for run in whole.runs[1:]]
    assert again[0].start_step > 0  # taken up, not begun anew
    for name in ("all_epochs_results.csv", "per_case.csv", "comparison.csv"):
        assert (out / name).read_bytes() == (whole.out / name).read_bytes()
    for run in whole.runs:
        one, two = (
            load_checkpoint(folder / f"{run['name']}_best.pth")["state_dict"]
            for folder in (out, whole.out)
        )
        assert all(torch.equal(one[key], two[key]) for key in two)


def test_the_same_command_does_nothing_and_another_is_refused(
    dataset: Path, whole: neurocli.ExperimentResult
) -> None:
    done = start(dataset, whole.out)
    assert {run["status"] for run in done.runs} == {"skipped"}
    assert done.comparison == whole.comparison
    with pytest.raises(UsageError, match="another experiment: seeds is"):
        start(dataset, whole.out, seeds=[8])
    with pytest.raises(UsageError, match="cannot change it"):
        neurocli.run_experiment(resume=whole.out, epochs=3)
    with pytest.raises(UsageError, match="not empty"):
        start(dataset, dataset)


def test_a_model_that_fails_is_listed_and_the_others_go_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurocli.core.experiment import run as module

    def break_one(model: str, **options: Any) -> Any:
        if model == "unet3d_stride_xs":
            raise RuntimeError("a kernel is missing\nand more")
        return neurocli.train(model, **options)

    monkeypatch.setattr(module, "train", break_one)
    options: dict[str, Any] = {"folds": None, "epochs": 1}
    out = tmp_path / "some"
    found = start(dataset, out, *reversed(FINE), **options)
    assert [run["status"] for run in found.runs] == ["failed", "done"]
    assert found.left_out == [("unet3d_stride_xs_seed_7", "RuntimeError: a kernel is missing")]
    assert len(rows_of(out / "integrated_experiment_results.csv")) == 1
    assert found.comparison == {}
    with pytest.raises(NeuroError, match="none of 1 runs"):
        start(dataset, tmp_path / "none", "unet3d_stride_xs", **options)


def test_a_plan_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    found = start(dataset, tmp_path / "plan", seeds=[1, 2], dry_run=True)
    assert not (tmp_path / "plan").exists()
    assert found.plan is not None
    assert len(found.plan["runs"]) == 12
    single = [found.plan["models"][name]["cost"]["flops_at_most"] for name in FINE]
    assert found.plan["flops_at_most"] == 6 * sum(single)
    assert found.plan["parts"]["fold_0.json"] == {"train": 2, "val": 2, "test": 2}


def test_runs_of_an_experiment_are_compared_case_by_case(
    whole: neurocli.ExperimentResult, tmp_path: Path
) -> None:
    found = evaluate_many(whole.out, out=tmp_path)
    assert isinstance(found, ManyResult)
    assert found.comparison == whole.comparison  # the same cases, judged the same way
    ones = [whole.out / f"{model}_seed_7_fold_0_best.pth" for model in FINE]
    pair = evaluate_many(*ones, part="all", out=tmp_path / "pair")
    assert isinstance(pair, ManyResult)
    (row,) = pair.comparison["dice_wt"]["pairs"]
    tables = [
        {r["subject"]: float(r["dice_wt"]) for r in rows_of(each.out / "per_subject.csv")}
        for each in pair.results
    ]
    differences = [tables[0][case] - tables[1][case] for case in tables[0]]
    assert row["n"] == SPEC.n_cases
    assert row["mean_difference"] == pytest.approx(np.mean(differences))
    assert all(result.in_sample for result in pair.results)


def test_an_ensemble_is_the_mean_of_its_folds(
    whole: neurocli.ExperimentResult, tmp_path: Path
) -> None:
    paths = [whole.out / f"unet3d_xs_seed_7_fold_{fold}_best.pth" for fold in range(3)]
    found = evaluate_many(*paths, average=True, part="all", out=tmp_path)
    assert not isinstance(found, ManyResult)
    assert found.in_sample
    payload = load_checkpoint(paths[0])
    config = neurocli.load_config("brats/tiny", set=[*SMALL, f"data.path={_data(payload)}"])
    data = open_data(config, split=payload["split"], like=payload["info"])
    models = [neurocli.load_model(path).eval() for path in paths]
    dice = {}
    for part in data.parts.values():
        for index in range(len(part)):
            sample = part.sample(index, 0)
            with torch.no_grad():
                # The logits of every member over the whole volume, then their mean.
                each = [
                    sliding_window_logits(sample["volume"][None], model, (16, 16, 16), 0.1)
                    for model in models
                ]
            labels = labels_from_logits(torch.stack(each).mean(0))[0].numpy()
            both = ((labels > 0) & (sample["truth"] > 0)).sum()
            dice[sample["subject"]] = 2 * both / ((labels > 0).sum() + (sample["truth"] > 0).sum())
    told = {r["subject"]: float(r["dice_wt"]) for r in rows_of(tmp_path / "per_subject.csv")}
    assert told == pytest.approx(dice)
    single = neurocli.evaluate(paths[0], part="all", out=tmp_path / "one")
    assert single.metrics != found.metrics


def _data(payload: dict[str, Any]) -> str:
    return str(payload["config"]["data"]["path"])


def test_what_has_no_mean_is_refused(whole: neurocli.ExperimentResult, tmp_path: Path) -> None:
    best = whole.out / "unet3d_xs_seed_7_fold_0_best.pth"
    payload = load_checkpoint(best)
    other = tmp_path / "other.pth"
    torch.save({**payload, "info": {**payload["info"], "n_classes": 3}}, other)
    with pytest.raises(UsageError, match="info is not that of the first"):
        evaluate_many(best, other, average=True, out=tmp_path / "e")
