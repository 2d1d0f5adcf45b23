"""Maps of a judgement: on the runs' own grid, true to a model whose weights are known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from cohort_files import SHAPE, write_cohort
from torch import Tensor, nn

from neurocli.core.config.load import load_config
from neurocli.core.engine.task import Batch
from neurocli.core.errors import UsageError
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.data import open_data
from neurocli.systems.fmri.explain import ClipExplainer, smooth_inside

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])  # of cohort_files


class OneVoxel(nn.Module):
    """Read the voxel (2, 1, 0) of the run, three times its mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, clips: Tensor) -> Tensor:
        return self.weight * clips[:, 0, 2, 1, 0].mean(-1)


def outputs(model: nn.Module, batch: Batch) -> list[tuple[str, Any]]:
    def output(model: nn.Module, clips: Tensor, brain: Tensor) -> Tensor:
        assert brain.shape[0] == clips.shape[0]
        value: Tensor = model(clips)
        return value

    return [("level", output)] * len(batch["clip"])


def explained(
    tmp_path: Path,
    method: str,
    *settings: str,
    with_train: bool = False,
    rival: Callable[[str, float], bool] = lambda name, target: True,
) -> tuple[Path, ClipSet, list[str]]:
    cohort = write_cohort(tmp_path / "c", 6, columns={"sex": list("FMFMFM")})
    given = ["model.patch_size=2,2,2,1", "data.sequence_length=4", f"data.path={cohort}"]
    given += ["data.scaling=znorm_zeroback", "task.target=sex"]
    config = load_config(model="fmamba_mlp", set=[*given, *settings])
    assert isinstance(config.task, FmriTaskBlock)
    part = open_data(config).parts["train"]
    assert isinstance(part, ClipSet)
    known = part if with_train else None
    explainer = ClipExplainer(method, [part], outputs, config.task, known, rival=rival)
    model = OneVoxel()
    explainer.step(model, part.collate([part.sample(i, 0) for i in range(len(part))]))
    assert model.weight.requires_grad
    return tmp_path / "maps", part, explainer.write(tmp_path / "maps")


def test_gradients_land_on_the_voxel_that_is_read(tmp_path: Path) -> None:
    folder, part, said = explained(tmp_path, "gradients", "task.explain_smooth=0")
    assert any("in which nothing happens" in line for line in said)
    assert any("add up to the outputs within 0.00%" in line for line in said)
    for subject in {part.reader.runs[run].subject for run, _ in part.clips}:
        image = nib.load(folder / f"{subject}_signed.nii.gz")
        values = np.asarray(image.dataobj)
        assert values.shape == SHAPE
        assert np.allclose(image.affine, AFFINE)
        # Expected: three times the mean over clips, shared by the 4 frames.
        clips = [part.reader.read(r, s)[0][0, 2, 1, 0] for r, s in part.clips
                 if part.reader.runs[r].subject == subject]  # fmt: skip
        assert values[2, 1, 0] == pytest.approx(3 * np.mean(clips) / 4, rel=1e-4)
        assert np.count_nonzero(values) == 1
        sizes = np.asarray(nib.load(folder / f"{subject}_abs.nii.gz").dataobj)
        assert np.array_equal(sizes, np.abs(values))
    assert (folder / "group_abs.nii.gz").exists()
    rows = list(csv.DictReader((folder / "clips.csv").open()))
    assert len(rows) == len(part)
    assert {row["explained"] for row in rows} == {"level"}
    course = list(csv.DictReader((folder / "time_course.csv").open()))
    assert len(course) == 4 * len(part)


def test_baselines_are_clips_of_other_people(tmp_path: Path) -> None:
    settings = ("task.explain_smooth=0", "task.explain_baselines=2")
    folder, part, said = explained(tmp_path, "gradients", *settings, with_train=True)
    assert not any("in which nothing happens" in line for line in said)
    rows = list(csv.DictReader((folder / "clips.csv").open()))
    means = {}  # what the model gives, by (participant, start)
    for index, (run, start) in enumerate(part.clips):
        clip = part.sample(index, 0)["clip"]
        means[part.reader.runs[run].participant, str(start)] = 3 * clip[0, 2, 1, 0].mean()
    for row in rows:
        base = float(row["baseline_output"])
        others = [value for (who, _), value in means.items() if who != row["participant"]]
        # Expected: the mean of two clips, none of them the person's own.
        gaps = [abs(base - (a + b) / 2) for i, a in enumerate(others) for b in others[i + 1 :]]
        assert min(gaps) < 1e-5


def test_baselines_are_clips_of_rivals(tmp_path: Path) -> None:
    asked: list[str] = []

    def is_first_class(name: str, target: float) -> bool:
        asked.append(name)
        return target == 0

    settings = ("task.explain_smooth=0", "task.explain_baselines=2")
    folder, part, said = explained(
        tmp_path, "gradients", *settings, with_train=True, rival=is_first_class
    )
    assert set(asked) == {"level"}
    assert not any("start from clips of what they are" in line for line in said)
    means = {}  # what the model gives for clips of the first class, by (participant, clip)
    for index in range(len(part)):
        sample = part.sample(index, 0)
        if sample["target"] == 0:
            means[sample["participant"], index] = 3 * float(sample["clip"][0, 2, 1, 0].mean())
    rows = list(csv.DictReader((folder / "clips.csv").open()))
    for row in rows:
        base = float(row["baseline_output"])
        others = [value for (who, _), value in means.items() if who != row["participant"]]
        # Expected: the mean of two clips of others of that class.
        gaps = [abs(base - (a + b) / 2) for i, a in enumerate(others) for b in others[i + 1 :]]
        assert min(gaps) < 1e-5


def test_without_rivals_anyone_else_has_to_do_and_that_is_said(tmp_path: Path) -> None:
    _, part, said = explained(
        tmp_path, "gradients", with_train=True, rival=lambda name, target: False
    )
    assert any(f"{len(part)} clips start from clips of what they are" in line for line in said)


def test_how_surely_is_the_mean_over_lines_by_its_error(tmp_path: Path) -> None:
    folder, part, said = explained(tmp_path, "gradients", "task.explain_smooth=0", with_train=True)
    assert not any("how surely" in line for line in said)
    subject = part.reader.runs[part.clips[0][0]].subject
    values = np.asarray(nib.load(folder / f"{subject}_snr.nii.gz").dataobj)
    assert np.count_nonzero(values) == 1
    # Expected: the model is linear, so a line gives three times the difference of the two means.
    own = [part.sample(i, 0) for i in range(len(part))]
    order = np.random.default_rng(0).permutation(len(part))
    level = [float(sample["clip"][0, 2, 1, 0].mean()) for sample in own]
    others = [i for i in order if own[i]["subject"] != subject][:4]
    mine = [i for i, sample in enumerate(own) if sample["subject"] == subject]
    lines = [3 * (level[i] - level[j]) / 4 for i in mine for j in others]
    error = np.std(lines, ddof=1) / np.sqrt(len(lines))
    assert values[2, 1, 0] == pytest.approx(abs(np.mean(lines)) / error, rel=1e-3)
    group = np.asarray(nib.load(folder / "group_snr.nii.gz").dataobj)
    assert np.count_nonzero(group) == 1


def test_too_few_lines_leave_the_map_of_how_surely_out(tmp_path: Path) -> None:
    settings = ("task.explain_baselines=1", "data.stride_between=4")
    folder, part, said = explained(tmp_path, "gradients", *settings, with_train=True)
    few = len(part) // 6 < 4
    assert few == (not (folder / "group_snr.nii.gz").exists())
    assert few == any("have no map of how surely" in line for line in said)


def test_occlusion_finds_the_cube_that_is_read(tmp_path: Path) -> None:
    folder, part, _ = explained(tmp_path, "occlusion")
    subject = part.reader.runs[part.clips[0][0]].subject
    values = np.asarray(nib.load(folder / f"{subject}_abs.nii.gz").dataobj)
    assert np.count_nonzero(values) == 1
    assert values[2, 1, 0] > 0
    assert not (folder / "time_course.csv").exists()


def test_an_unknown_method_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown explanation 'gradient'"):
        explained(tmp_path, "gradient")


def test_smoothing_keeps_a_constant_and_stays_inside() -> None:
    random = np.random.default_rng(0)
    brain = random.random((7, 6, 5)) > 0.4
    level = smooth_inside(np.full(brain.shape, 2.0), brain, 1.3)
    assert np.allclose(level[brain], 2.0)
    assert not level[~brain].any()
    noise = random.standard_normal(brain.shape)
    assert smooth_inside(noise, brain, 1.0)[brain].std() < 0.6 * noise[brain].std()
    assert np.array_equal(smooth_inside(noise, brain, 0)[brain], noise[brain])
