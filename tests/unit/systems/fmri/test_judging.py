"""Rows become units, thresholds come from validation only; scikit-learn is the referee."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from neurocli.core.config.load import load_config
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.systems.fmri.classification import ClassificationTask
from neurocli.systems.fmri.judging import choose_threshold, per_unit
from neurocli.systems.fmri.regression import RegressionTask

SMALL = ["model.embed_dim=32", "model.depth=1", "model.patch_size=2,2,2,1", "task.target=x"]


def task_of(classes: str, *settings: str) -> ClassificationTask:
    task = ClassificationTask(load_config(model="fmamba_mlp", set=[*SMALL, *settings]))
    share = 1 / len(classes)
    task.load_state_dict({"classes": list(classes), "train_shares": [share] * len(classes)})
    return task


def random_rows(classes: str, n_units: int, *, by_window: bool = False, seed: int = 0) -> Any:
    """Return rows of one to four clips per unit, and the truth and mean score of each unit."""
    random = np.random.default_rng(seed)
    rows, truth, score = [], [], []
    for i in range(n_units):
        label = int(random.integers(len(classes)))
        own = random.dirichlet(np.ones(len(classes)), size=int(random.integers(1, 5)))
        own[:, label] += 0.3
        own /= own.sum(1, keepdims=True)
        truth.append(label)
        score.append(own.mean(0))
        # Two windows of each person when windows are judged.
        person = f"p{i // 2 if by_window else i:03d}"
        unit = f"{person}@{i:03d}" if by_window else person
        names = {"unit": unit, "participant": person, "subject": person, "start": 0}
        for p in own:
            cells = {f"p_{name}": float(p[k]) for k, name in enumerate(classes)}
            rows.append({**names, "target": float(label), **cells})
    random.shuffle(rows)
    return rows, np.array(truth), np.array(score)


@pytest.mark.parametrize("classes", ["ab", "abcd"])
@pytest.mark.parametrize("by_window", [False, True])
def test_metrics_equal_scikit_learn_on_gathered_units(classes: str, by_window: bool) -> None:
    rows, truth, score = random_rows(classes, 30, by_window=by_window)
    summary = task_of(classes).summarise(rows)
    predicted = score.argmax(1)
    ranked = score[:, 1] if len(classes) == 2 else score
    assert summary.n == 30
    assert summary.unit == ("windows" if by_window else "subjects")
    assert summary.metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert summary.metrics["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, predicted)
    )
    assert summary.metrics["auroc"] == pytest.approx(
        roc_auc_score(truth, ranked, multi_class="ovr", average="macro")
    )
    assert summary.metrics["log_loss"] == pytest.approx(log_loss(truth, score))
    expected = confusion_matrix(truth, predicted, labels=range(len(classes)))
    assert summary.details["confusion"] == {"classes": list(classes), "counts": expected.tolist()}
    assert sum(row["n_clips"] for row in summary.per_subject) == len(rows)
    assert ("unit" in summary.per_subject[0]) == by_window


def test_intervals_resample_people_with_all_their_windows() -> None:
    rows, truth, score = random_rows("ab", 30, by_window=True, seed=3)
    summary = task_of("ab").summarise(rows)
    owners = [f"p{i // 2:03d}" for i in range(30)]
    loss = -np.log(score[np.arange(30), truth])
    mean = {"log_loss": lambda columns: float(columns["loss"].mean())}
    together = bootstrap_ci({"loss": loss}, mean, participants=owners)
    assert summary.ci95["log_loss"] == pytest.approx(together["log_loss"])
    alone = bootstrap_ci({"loss": loss}, mean)
    assert summary.ci95["log_loss"] != pytest.approx(alone["log_loss"], abs=1e-9)


def test_windows_of_one_person_are_resampled_and_it_is_said() -> None:
    rows, _, _ = random_rows("ab", 30, by_window=True)
    for row in rows:
        row["participant"] = "only"
    summary = task_of("ab").summarise(rows)
    assert summary.ci95
    assert "intervals resample their windows" in summary.notes[0]


def test_one_judged_class_leaves_auroc_undefined_and_says_so() -> None:
    rows, _, _ = random_rows("ab", 12)
    summary = task_of("ab").summarise([row for row in rows if row["target"] == 0])
    assert np.isnan(summary.metrics["auroc"])
    assert summary.notes == ["auroc is undefined: nobody of class b is judged"]


@pytest.mark.parametrize("seed", range(5))
def test_threshold_is_the_best_by_youden(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, 40)
    score = np.clip(0.3 * truth + random.normal(0.3, 0.2, 40), 0, 1)
    found = choose_threshold(truth, score)
    false_positive, true_positive, _ = roc_curve(truth, score)
    best = (true_positive - false_positive).max()
    own = np.mean(score[truth == 1] > found) - np.mean(score[truth == 0] > found)
    assert own == pytest.approx(best)


def test_of_equal_thresholds_the_nearest_to_one_half_is_taken() -> None:
    assert choose_threshold(np.array([0, 1]), np.array([0.2, 0.9])) == 0.5
    assert choose_threshold(np.array([0, 1, 0, 1]), np.array([0.6, 0.8, 0.6, 0.8])) == 0.7


def test_threshold_comes_from_validation_and_never_from_what_is_judged() -> None:
    task = task_of("ab", "task.threshold=validation")
    assert task.needs_validation
    rows, _, _ = random_rows("ab", 40, seed=1)
    for row in rows:  # every probability of b is far below one half
        row["p_b"] = 0.2 * row["p_b"]
        row["p_a"] = 1 - row["p_b"]
    (said,) = task.tune(rows)
    chosen = task.threshold["value"]
    assert chosen < 0.2
    assert f"{chosen:.3g}" in said
    judged, truth, _ = random_rows("ab", 40, seed=2)
    first = task.summarise(judged)
    flipped = task.summarise([{**row, "target": 1 - row["target"]} for row in judged])
    assert first.details["threshold"] == flipped.details["threshold"]
    assert first.details["threshold"] == {"value": chosen, "rule": "validation", "n": 40}
    # What was chosen for the model's scale is not put upon a baseline's.
    usual = task.summarise_baseline(judged)
    scores = per_unit(judged, ["p_b"])[1][:, 0]
    assert usual.metrics["accuracy"] == pytest.approx(np.mean((scores > 0.5) == truth))


@pytest.mark.parametrize("reason", ["there is none", "it holds one class"])
def test_without_a_usable_validation_part_one_half_stays(reason: str) -> None:
    task = task_of("ab", "task.threshold=validation")
    rows = [row for row in random_rows("ab", 9)[0] if row["target"] == 0]
    (said,) = task.tune(None if "none" in reason else rows)
    assert reason in said
    assert task.threshold["value"] == 0.5


def test_old_states_of_the_scaler_still_load() -> None:
    task = RegressionTask(load_config(model="fmamba_mlp", set=SMALL))
    task.load_state_dict({"mean": 40.0, "sd": 5.0})
    assert (task.mean, task.shift, task.scale) == (40.0, 40.0, 5.0)
    other = RegressionTask(task.config)
    other.load_state_dict(task.state_dict())
    assert (other.mean, other.shift, other.scale) == (40.0, 40.0, 5.0)
