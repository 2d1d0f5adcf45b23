"""The task with a tiny stand-in for a network: losses, windows, what is scored and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trees import small_tree

from neurocli.core.config.load import load_config
from neurocli.core.data.preprocess import preprocess
from neurocli.core.engine.task import RunData
from neurocli.core.events import ignore
from neurocli.systems.brats.data import open_data
from neurocli.systems.brats.losses import segmentation_loss
from neurocli.systems.brats.task import SegmentationTask


class Painter(nn.Module):
    """Call bright FLAIR (channel 1) oedema; one weight, so that it can be trained."""

    def __init__(self, n_axes: int = 3) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.seen: list[tuple[int, ...]] = []
        self.n_axes = n_axes

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == self.n_axes + 2
        self.seen.append(tuple(x.shape))
        flair = x[:, 1:2] * self.gain
        zero = torch.zeros_like(flair)
        return torch.cat([zero + 0.8, zero - 9, flair, zero - 9], 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    preprocess("brats2021", small_tree(folder / "raw", n_cases=5), out=folder / "out")
    return folder / "out"


def opened(dataset: Path, *settings: str, model: str = "unet3d_xs") -> tuple[Any, RunData]:
    common = [f"data.path={dataset}", "data.patch=16,16,16", "data.samples_per_case=2"]
    config = load_config(model=model, set=[*common, *settings])
    return config, open_data(config)


def judged(config: Any, data: RunData) -> tuple[SegmentationTask, Any]:
    """Return the task as `evaluate` makes it, and a batch of one case."""
    task = SegmentationTask(config)
    task.load_state_dict({"dims": data.info["dims"]})
    cases = open_data(config, like=data.info).parts["train"]
    return task, cases.collate([cases.sample(0, 0)])


def test_a_step_gives_the_loss_of_its_name(dataset: Path) -> None:
    config, data = opened(dataset, "task.loss=dice5_ce5")
    task = SegmentationTask(config)
    task.fit(data)
    train = data.parts["train"]
    batch = train.collate([train.sample(i, 0) for i in range(2)])
    model = Painter()
    output = task.train_step(model, batch)
    expected = segmentation_loss("dice5_ce5", model(batch["image"]), batch["label"])
    assert torch.equal(output.loss, expected)
    output.loss.backward()
    assert model.gain.grad is not None


def test_training_scores_overlap_and_evaluation_everything(dataset: Path) -> None:
    config, data = opened(dataset)
    task, batch = judged(config, data)
    full = task.eval_step(Painter(), batch)[0]
    assert "hd95_wt" in full
    task.fit(data)
    quick = task.eval_step(Painter(), batch)[0]
    assert "hd95_wt" not in quick
    assert quick["dice_wt"] == full["dice_wt"]
    assert task.primary_metric.is_better(0.6, 0.5)


def test_slices_are_kept_only_when_a_judgement_asks(dataset: Path) -> None:
    config, data = opened(dataset)
    task, batch = judged(config, data)
    assert "picture" not in task.eval_step(Painter(), batch)[0]
    task.n_pictures = 1
    rows = [*task.eval_step(Painter(), batch), *task.eval_step(Painter(), batch)]
    assert ["picture" in row for row in rows] == [True] + [False] * (len(rows) - 1)
    ((name, picture),) = rows[0]["picture"].items()
    assert name.startswith(f"{rows[0]['subject']}.axial-")
    assert (len(picture), picture.dtype) == (4, np.uint8)


def test_training_tells_the_dice_of_its_patches(dataset: Path) -> None:
    config, data = opened(dataset)
    task = SegmentationTask(config)
    task.fit(data)
    train = data.parts["train"]
    batch = dict(train.collate([train.sample(i, 0) for i in range(2)]))
    # Painter calls oedema what is bright: whole tumour is found, core and enhancement are missed.
    batch["label"] = torch.zeros_like(batch["label"])
    batch["label"][:, 4:8] = 2
    batch["image"] = torch.zeros_like(batch["image"])
    batch["image"][:, 1, 4:8, :8] = 5
    half = task.train_step(Painter(), batch).logs["dice"]
    assert half == pytest.approx(2 * 1 / (1 + 2))  # half of the only region that is there
    batch["label"] = torch.zeros_like(batch["label"])
    assert "dice" not in task.train_step(Painter(), batch).logs


def test_validation_while_training_has_the_loss_of_the_whole_volume(dataset: Path) -> None:
    config, data = opened(dataset, "task.sliding_window=false", "task.loss=dice5_ce5")
    task, batch = judged(config, data)
    assert "loss" not in task.eval_step(Painter(), batch)[0]
    task.fit(data)
    row = task.eval_step(Painter(), batch)[0]
    # One window: the logits are those of a single pass.
    logits = Painter()(batch["volume"][0][None])
    truth = torch.from_numpy(batch["truth"][0])[None]
    expected = float(segmentation_loss("dice5_ce5", logits, truth).detach())
    assert row["loss"] == pytest.approx(expected, rel=1e-6)
    assert task.summarise([row]).metrics["loss"] == row["loss"]
    config, data = opened(dataset, "task.extent=brain")
    task, batch = judged(config, data)
    task.fit(data)
    assert "loss" not in task.eval_step(Painter(), batch)[0]  # no logits outside the box


def test_windows_follow_the_settings(dataset: Path) -> None:
    shapes = {
        "task.roi=12,11,10": {(1, 2, 12, 11, 10)},
        "task.overlap=0.3": {(1, 2, 16, 16, 16)},  # without a roi, the training patch
        "task.sliding_window=false": {(1, 2, 24, 22, 18)},
    }
    for setting, expected in shapes.items():
        config, data = opened(dataset, setting)
        task, batch = judged(config, data)
        model = Painter()
        task.eval_step(model, batch)
        assert set(model.seen) == expected
    config, data = opened(dataset, "task.extent=whole")
    task, batch = judged(config, data)
    model = Painter()
    # The brain ends at 23, 21 and 17 of voxels that now go on behind it: its box ends at 32.
    task.predict(model, torch.nn.functional.pad(batch["volume"][0], (0, 30, 0, 30, 0, 30)))
    assert model.seen == [(1, 2, 32, 32, 32)]


def test_mirroring_asks_eight_times(dataset: Path) -> None:
    counts = []
    for setting in ("task.tta=false", "task.tta=true"):
        config, data = opened(dataset, setting)
        task, batch = judged(config, data)
        model = Painter()
        task.eval_step(model, batch)
        counts.append(len(model.seen))
    assert counts[1] == 8 * counts[0]


def test_the_prediction_is_the_model_s_and_every_setting_agrees(dataset: Path) -> None:
    config, data = opened(dataset)
    _, batch = judged(config, data)
    volume = batch["volume"][0]
    expected = np.where(volume[1].numpy() > 0.8, 2, 0)
    for setting in ("task.blend=cosine", "task.blend=constant", "task.extent=brain"):
        config, _ = opened(dataset, setting)
        assert np.array_equal(SegmentationTask(config).predict(Painter(), volume), expected)


def test_slices_are_given_to_models_of_slices(dataset: Path) -> None:
    config, data = opened(dataset, model="mobile_unetr")
    task, batch = judged(config, data)
    model = Painter(n_axes=2)
    row = task.eval_step(model, batch)[0]
    assert {shape[2:] for shape in model.seen} == {(24, 22)}
    assert 0 <= row["dice_wt"] <= 1


def test_files_are_written_only_when_asked(dataset: Path, tmp_path: Path) -> None:
    config, data = opened(dataset)
    task, batch = judged(config, data)
    task.eval_step(Painter(), batch)
    assert not list(tmp_path.iterdir())
    task.keep_predictions(tmp_path / "predictions")
    task.eval_step(Painter(), batch)
    (path,) = (tmp_path / "predictions").iterdir()
    assert path.name == f"{batch['subject'][0]}.nii.gz"
    values = np.asarray(nib.load(path).dataobj)
    assert set(np.unique(values)) == {0, 2}
    assert np.array_equal(values > 0, task.predict(Painter(), batch["volume"][0]) > 0)


def test_baselines_are_fitted_on_the_training_part(dataset: Path) -> None:
    config, data = opened(dataset)
    task, _ = judged(config, data)
    parts = open_data(config, like=data.info).parts
    found = task.baseline_rows(parts["train"], [parts["test"]], ignore)
    assert [row["subject"] for row in found.rows["threshold"]] == [
        case.subject
        for case in parts["test"].cases  # type: ignore[attr-defined]
    ]
    assert "training cases" in found.notes[0]
    config, _ = opened(dataset, "task.baseline=false")
    assert not SegmentationTask(config).baseline_rows(parts["train"], [], ignore).rows


def test_state_is_plain_and_comes_back(dataset: Path) -> None:
    config, data = opened(dataset, model="mobile_unetr")
    task = SegmentationTask(config)
    task.fit(data)
    other = SegmentationTask(config)
    other.load_state_dict(task.state_dict())
    assert (other.dims, task.state_dict()) == (2, {"dims": 2})
