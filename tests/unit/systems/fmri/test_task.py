"""Rows become metrics per person; expected values are worked out by hand or by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, r2_score, roc_auc_score

from neurocli.core.config.load import load_config
from neurocli.core.engine.task import RunData
from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.classification import ClassificationTask
from neurocli.systems.fmri.regression import RegressionTask
from neurocli.systems.fmri.task import ArTask

SMALL = ["model.embed_dim=32", "model.depth=1", "model.patch_size=2,2,2,1"]
INFO: dict[str, Any] = {"img_size": [4, 4, 4, 3], "scaling": "voxel-z"}


class Samples:
    """Hold only what `fit` reads."""

    def __init__(self, targets: dict[str, float]) -> None:
        self.targets = targets
        self.units = list(targets)

    def __len__(self) -> int:
        return len(self.targets)


def run_data(objective: str, targets: dict[str, float], **info: Any) -> RunData:
    return RunData(
        objective=objective,
        parts={"train": Samples(targets)},  # type: ignore[dict-item]
        info={**INFO, **info},
        split={"train": list(targets), "val": [], "test": []},
        split_sha256="",
        fingerprint="",
    )


def classification(targets: dict[str, float]) -> ClassificationTask:
    task = ClassificationTask(load_config(model="fmamba_mlp", set=[*SMALL, "task.target=sex"]))
    task.fit(run_data("classification", targets, classes=["F", "M"], target="sex", n_outputs=2))
    return task


def test_classes_are_judged_per_person() -> None:
    task = classification({"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0})
    truth = {"p1": 0, "p2": 1, "p3": 1, "p4": 0}
    score = {"p1": [0.2, 0.4], "p2": [0.9, 0.3], "p3": [0.1, 0.6], "p4": [0.8]}
    rows = [
        {
            "unit": who,
            "participant": who,
            "subject": who,
            "start": i,
            "target": truth[who],
            "p_F": 1 - p,
            "p_M": p,
        }
        for who, values in score.items()
        for i, p in enumerate(values)
    ]
    summary = task.summarise(rows)
    mean = [np.mean(score[who]) for who in truth]
    label = list(truth.values())
    assert summary.n == 4
    assert summary.metrics["accuracy"] == 0.5  # p1 and p2 right, p3 and p4 wrong
    assert summary.metrics["balanced_accuracy"] == balanced_accuracy_score(
        label, [p > 0.5 for p in mean]
    )
    assert summary.metrics["auroc"] == pytest.approx(roc_auc_score(label, mean))
    assert summary.metrics["log_loss"] == pytest.approx(log_loss(label, mean))
    # Three of four training people are F, so the majority guesses F for everybody, at 3/4.
    majority = summary.baselines["majority"]
    assert [majority[name] for name in ("accuracy", "balanced_accuracy", "auroc")] == [0.5] * 3
    assert majority["log_loss"] == pytest.approx(log_loss(label, [0.25] * 4))
    first = summary.per_subject[0]
    assert (first["participant"], first["target"], first["predicted"]) == ("p1", "F", "F")
    assert first["n_clips"] == 2


def test_a_class_absent_from_training_is_refused() -> None:
    with pytest.raises(NeuroError, match="class M"):
        classification({"a": 0.0, "b": 0.0})


def test_class_state_survives_a_checkpoint() -> None:
    task = classification({"a": 0.0, "b": 1.0, "c": 1.0})
    other = ClassificationTask(task.config)
    other.load_state_dict(task.state_dict())
    assert other.classes == ("F", "M")
    assert other.train_shares == task.train_shares == pytest.approx((1 / 3, 2 / 3))


def test_numbers_are_scaled_on_people_and_judged_in_their_unit() -> None:
    config = load_config(model="fmamba_mlp", set=[*SMALL, "task.target=age"])
    task = RegressionTask(config)
    task.fit(run_data("regression", {"a": 20.0, "b": 30.0, "c": 40.0}, target="age", classes=[]))
    assert (task.mean, task.shift, task.scale) == (30.0, 30.0, 10.0)
    rows = [
        {"unit": who, "participant": who, "target": t, "predicted": p}
        for who, t, p in [("x", 25.0, 20.0), ("x", 25.0, 40.0), ("y", 35.0, 33.0)]
    ]
    summary = task.summarise(rows)
    assert summary.metrics["mae"] == pytest.approx((5 + 2) / 2)
    assert summary.metrics["r2"] == pytest.approx(r2_score([25, 35], [30, 33]))
    assert summary.baselines["train_mean"]["mae"] == pytest.approx(5)
    with pytest.raises(NeuroError, match="same value"):
        task.fit(run_data("regression", {"a": 1.0, "b": 1.0}, target="age", classes=[]))


def ar_task(**settings: Any) -> tuple[ArTask, torch.nn.Module]:
    extra = [f"model.{key}={value}" for key, value in settings.items()]
    task = ArTask(load_config(model="fmamba", set=[*SMALL, *extra]))
    torch.manual_seed(0)
    return task, task.build(INFO)


def batch_of(n: int, brain: torch.Tensor) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(n, 1, 4, 4, 4, 3, generator=generator)
    return {
        "clip": clip * brain[:, None, ..., None],
        "brain": brain,
        "participant": [f"p{i}" for i in range(n)],
        "subject": [f"p{i}" for i in range(n)],
        "start": [0] * n,
    }


@pytest.mark.parametrize("token_mask", ["per-sample", "union", "none"])
def test_rows_add_up_to_the_training_loss(token_mask: str) -> None:
    task, model = ar_task(token_mask=token_mask)
    brain = torch.ones(3, 4, 4, 4, dtype=torch.bool)
    brain[1, :2] = False
    batch = batch_of(3, brain)
    with torch.no_grad():
        step = task.train_step(model, batch)
        summary = task.summarise(task.eval_step(model, batch))
    assert summary.metrics["loss"] == pytest.approx(float(step.loss), rel=1e-5)
    assert summary.metrics["skill_vs_persistence"] == pytest.approx(
        step.logs["skill_vs_persistence"], rel=1e-5
    )
    assert summary.n == 3


def test_the_baselines_are_what_they_say() -> None:
    task, model = ar_task(token_mask="none")
    batch = batch_of(2, torch.ones(2, 4, 4, 4, dtype=torch.bool))
    summary = task.summarise(task.eval_step(model, batch))
    # By hand: 8 places x 3 times of 2x2x2 voxels, time fastest; persistence repeats a place.
    tokens = batch["clip"][:, 0].reshape(2, 2, 2, 2, 2, 2, 2, 3).permute(0, 1, 3, 5, 7, 2, 4, 6)
    tokens = tokens.reshape(2, 8, 3, 8).double()
    persistence = (tokens[:, :, 1:] - tokens[:, :, :-1]).square().mean()
    zero = tokens.reshape(2, 24, 8)[:, 1:].square().mean()
    assert summary.baselines["persistence"]["loss_same_place"] == pytest.approx(float(persistence))
    assert summary.baselines["zero"]["loss"] == pytest.approx(float(zero))


def test_a_head_starts_from_a_pretrained_backbone() -> None:
    _, pretrained = ar_task()
    head_config = load_config(model="fmamba_mlp", set=[*SMALL, "task.target=sex"])
    task = ClassificationTask(head_config)
    model = task.build({**INFO, "n_outputs": 2})
    sentence = task.init_from(model, pretrained.state_dict())
    assert sentence == (
        "12 tensors loaded, 2 missing (output_head.head.weight, output_head.head.bias), "
        "2 unexpected (output_layer.weight, output_layer.bias)"
    )
    backbone = model.model
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, pretrained.state_dict()[key]), key
    again = task.build({**INFO, "n_outputs": 2})
    task.init_from(again, model.state_dict())
    assert torch.equal(again.model.norm.weight, backbone.norm.weight)
    with pytest.raises(NeuroError, match="missing"):
        task.init_from(model, {"output_layer.weight": torch.zeros(1)})
