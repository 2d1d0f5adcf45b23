"""Masked and contrastive pretraining, and the targets of the autoregressive one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohort_files import write_cohort

from neurocli.core.config.load import load_config
from neurocli.core.engine.task import Task
from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.fmri.contrast import ContrastiveTask, local_loss
from neurocli.systems.fmri.data import open_data
from neurocli.systems.fmri.mim import MimTask
from neurocli.systems.fmri.models.forecast import (
    forecast_space,
    next_token_loss,
    place_means,
    scaled_per_voxel,
)
from neurocli.systems.fmri.task import ArTask

SMALL = ["model.embed_dim=32", "model.depth=1", "model.patch_size=2,2,2,1"]
INFO: dict[str, Any] = {"img_size": [4, 4, 4, 6], "scaling": "voxel-z"}
GRID = (2, 2, 2, 6)


def batch_of(n: int) -> dict[str, Any]:
    gen = torch.Generator().manual_seed(1)
    brain = torch.ones(n, 4, 4, 4, dtype=torch.bool)
    brain[0, :2] = False
    clip, pair = (
        torch.randn(n, 1, 4, 4, 4, 6, generator=gen) * brain[:, None, ..., None] for _ in range(2)
    )
    names = [f"p{i}" for i in range(n)]
    return {
        "clip": clip, "pair": pair, "brain": brain, "participant": names, "subject": names,
        "start": [0] * n, "draw": [11 + i for i in range(n)],
    }  # fmt: skip


def test_place_means_skip_what_is_hidden() -> None:
    # Expected: two places of three times by hand; the second place is all hidden.
    patches = torch.tensor([1.0, 2.0, 6.0, 4.0, 4.0, 4.0]).view(1, 6, 1)
    index = torch.arange(6)
    seen = torch.tensor([[True, True, False, False, False, False]])
    assert place_means(patches, index, (2, 1, 1, 3)).flatten().tolist() == [3, 3, 3, 4, 4, 4]
    some = place_means(patches, index, (2, 1, 1, 3), seen=seen)
    assert some.flatten().tolist() == [1.5, 1.5, 1.5, 0, 0, 0]
    scaled = scaled_per_voxel(patches, index, (2, 1, 1, 3)).flatten()
    torch.testing.assert_close(scaled[:3].std(unbiased=False), torch.tensor(1.0))
    assert scaled[3:].tolist() == [0, 0, 0]


def test_a_residual_prediction_of_nothing_is_persistence() -> None:
    patches = torch.randn(1, 12, 4)
    pred, _ = forecast_space(
        torch.zeros(1, 12, 4), patches, torch.arange(12), target="residual", grid=(2, 1, 1, 6)
    )
    want = (patches[:, 1:] - patches[:, :-1]).square()
    got = next_token_loss(pred, patches, torch.arange(12))
    torch.testing.assert_close(got, want.mean())
    # Without jumps the target at token 6, another place, does not count.
    still = next_token_loss(pred, patches, torch.arange(12), jumps=False, n_times=6)
    kept = [k for k in range(11) if k != 5]
    torch.testing.assert_close(still, want[:, kept].mean())


def test_without_jumps_one_time_leaves_nothing() -> None:
    patches = torch.randn(1, 4, 2)
    with pytest.raises(NeuroError, match="1 token along time leaves no target"):
        next_token_loss(patches, patches, torch.arange(4), jumps=False, n_times=1)


@pytest.mark.parametrize(("kind", "objective"), [(ArTask, "ar"), (MimTask, "mim")])
def test_a_few_clips_are_kept_with_their_predictions(kind: type[Task], objective: str) -> None:
    task = kind(load_config(model="fmamba", set=SMALL))
    model = task.build({**INFO, "objective": objective})
    batch = batch_of(3)
    with torch.no_grad():
        assert not any("picture" in row for row in task.eval_step(model, batch))
        task.n_pictures = 2
        rows = task.eval_step(model, batch)
    assert ["picture" in row for row in rows] == [True, True, False]
    ((name, values),) = rows[0]["picture"].items()
    assert name.startswith(f"{batch['subject'][0]}.")
    assert values.shape == (2, *INFO["img_size"][:2], 3)
    # Both layers hold numbers in the same places.
    seen = np.isfinite(values.astype(float))
    assert (seen[0] == seen[1]).all()
    assert seen.any()
    assert task.summarise(rows).n == 3


@pytest.mark.parametrize("kind", ["random", "tube", "temporal"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_hidden_patches_are_judged_and_not_seen(kind: str, bidirectional: bool) -> None:
    settings = [f"task.mask_type={kind}", f"model.bidirectional={bidirectional}", "task.loss=mse"]
    task = MimTask(load_config(model="fmamba", set=[*SMALL, *settings]))
    torch.manual_seed(0)
    model = task.build({**INFO, "objective": "mim"})
    batch = batch_of(3)
    with torch.no_grad():
        summary = task.summarise(task.eval_step(model, batch))
        step = task.train_step(model, batch)
    assert summary.metrics["loss"] == pytest.approx(float(step.loss), rel=1e-5)
    assert summary.metrics["mse_masked"] == pytest.approx(summary.metrics["loss"], rel=1e-6)
    mean = summary.baselines["temporal_mean"]["mse_masked"]
    assert summary.metrics["skill_vs_mean"] == pytest.approx(1 - float(step.loss) / mean, rel=1e-4)
    if kind == "tube":  # nothing of a hidden place is seen, so the mean is 0
        assert mean == summary.baselines["zero"]["mse_masked"]
    # What is hidden must not reach the prediction: other voxels there, the same prediction.
    losses, *_ = task._hidden(model, batch)
    masked = model(batch["clip"], batch["brain"], masked=task._masks(model, batch["draw"]))
    changed = batch["clip"].clone()
    hidden = _voxels(task._masks(model, batch["draw"]))
    changed[hidden] += 5
    again = model(changed, batch["brain"], masked=task._masks(model, batch["draw"]))
    torch.testing.assert_close(masked["pred"], again["pred"])
    assert losses.numel() > 0


def _voxels(masked: torch.Tensor) -> torch.Tensor:
    grid = masked.view(-1, 1, *GRID)
    for axis in (2, 3, 4):
        grid = grid.repeat_interleave(2, axis)
    return grid


def test_a_mask_that_cannot_be_drawn_is_refused_before_training() -> None:
    settings = [*SMALL, "task.mask_patch_size=3,2,2,1"]
    with pytest.raises(UsageError, match="mask patch of 3 along H"):
        MimTask(load_config(model="fmamba", set=settings)).build({**INFO, "objective": "mim"})


def test_contrast_tells_people_and_not_clips_apart() -> None:
    task = ContrastiveTask(load_config(model="fmamba", set=SMALL))
    torch.manual_seed(0)
    model = task.build({**INFO, "objective": "contrastive"})
    model.eval()
    batch = batch_of(4) | {"participant": ["a", "b", "a", "c"]}
    with torch.no_grad():
        rows = task.eval_step(model, batch)
        step = task.train_step(model, batch)
    assert len(rows[0]["first"]) == 128
    assert float(step.loss) > 0
    summary = task.summarise(rows)
    assert (summary.n, summary.baselines["chance"]["retrieval_top1"]) == (3, pytest.approx(1 / 3))
    # By hand: unit vectors along axes find their own; one that looks like another's does not.
    axes = torch.eye(3).tolist()
    rows = [
        {"participant": name, "start": 0, "first": axes[i], "second": axes[j]}
        for name, i, j in (("a", 0, 0), ("b", 1, 2), ("c", 2, 1))
    ]
    assert task.summarise(rows).metrics["retrieval_top1"] == pytest.approx(1 / 3)


def test_a_batch_of_one_makes_no_contrast() -> None:
    with pytest.raises(UsageError, match="1 clip makes no pair") as caught:
        ContrastiveTask(load_config(model="fmamba", set=[*SMALL, "data.batch_size=1"]))
    assert caught.value.where == "data.batch_size"


def config(folder: Path, frames: int) -> Any:
    settings = ["model.patch_size=2,2,2,1", f"data.sequence_length={frames}"]
    settings += [f"data.path={folder}", "task.objective=contrastive"]
    return load_config(model="fmamba", set=settings)


def test_pairs_share_no_time_and_change_with_the_epoch(tmp_path: Path) -> None:
    # Expected: the stored runs have twelve frames; clips of three start at 0, 3, 6, 9.
    data = open_data(config(write_cohort(tmp_path, 8), 3))
    samples = data.parts["train"]
    partners = samples.reader.partners(0, 3)  # type: ignore[attr-defined]
    assert partners == [0, 6, 7, 8, 9]
    drawn = [samples.sample(0, epoch)["pair"] for epoch in range(6)]
    assert any((drawn[0] != other).any() for other in drawn[1:])
    assert (samples.sample(0, 2)["pair"] == drawn[2]).all()
    batch = samples.collate([samples.sample(i, 0) for i in range(2)])
    assert batch["pair"].shape == batch["clip"].shape
    assert data.info["objective"] == "contrastive"


def test_runs_without_a_second_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NeuroError, match="no run is long enough for two clips of 7"):
        open_data(config(write_cohort(tmp_path, 4), 7))


def test_local_loss_equals_its_definition() -> None:
    # By the formula, person by person and row by row, in float64; the family sums over people.
    gen = torch.Generator().manual_seed(4)
    first, second, third, fourth = torch.randn(4, 3, 5, generator=gen, dtype=torch.float64)
    expected = []
    for i in range(3):
        four = torch.stack([first[i], second[i], third[i], fourth[i]])
        four = four / four.norm(dim=1, keepdim=True)
        likeness = (four @ four.T / 0.2).exp()
        rows = [
            -(likeness[r, (r + 2) % 4] / (likeness[r].sum() - likeness[r, r])).log()
            for r in range(4)
        ]
        expected.append(sum(rows) / 4)
    found = local_loss((first, second), (third, fourth), 0.2)
    torch.testing.assert_close(found, torch.stack(expected).mean())


@pytest.mark.parametrize("contrast", ["local", "both"])
def test_local_contrast_needs_views_that_differ(contrast: str) -> None:
    settings = [*SMALL, "task.objective=contrastive", f"task.contrast={contrast}"]
    with pytest.raises(UsageError, match="equal without augmentation"):
        ContrastiveTask(load_config(model="fmamba", set=settings))
    config = load_config(model="fmamba", set=[*settings, "data.augment=all"])
    task = ContrastiveTask(config)
    torch.manual_seed(0)
    model = task.build({**INFO, "objective": "contrastive"})
    loss = task.train_step(model, batch_of(3)).loss
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_both_is_the_sum_of_the_two() -> None:
    losses = {}
    for contrast in ("instance", "local", "both"):
        settings = [f"task.contrast={contrast}", "data.augment=all", "data.augment_strength=2"]
        task = ContrastiveTask(load_config(model="fmamba", set=[*SMALL, *settings]))
        torch.manual_seed(0)
        # Without batch statistics, which would see the additional views.
        model = task.build({**INFO, "objective": "contrastive"}).eval()
        losses[contrast] = float(task.train_step(model, batch_of(3)).loss)
    assert losses["both"] == pytest.approx(losses["instance"] + losses["local"], rel=1e-5)


@pytest.mark.parametrize("task_class", [MimTask, ContrastiveTask])
def test_training_is_augmented_and_judging_is_not(task_class: Any) -> None:
    objective = "mim" if task_class is MimTask else "contrastive"
    batch, found = batch_of(3), {}
    batch["draw"] = [3, 5, 8]  # whose chances move and disturb clips
    for augment in ("none", "all"):
        given = [f"data.augment={augment}", "data.augment_strength=3"]
        task = task_class(load_config(model="fmamba", set=[*SMALL, *given]))
        torch.manual_seed(0)
        model = task.build({**INFO, "objective": objective}).eval()
        with torch.no_grad():
            found[augment] = (
                float(task.train_step(model, batch).loss),
                task.eval_step(model, batch),
            )
    assert found["none"][0] != pytest.approx(found["all"][0])
    assert found["none"][1] == found["all"][1]
