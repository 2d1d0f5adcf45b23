"""Plain methods on regions: series by a slow loop, connectivity by numpy, fits by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_files import SHAPE, values_of, write_cohort
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from neurocli.core.config.load import load_config
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError
from neurocli.core.events import ignore
from neurocli.systems.fmri.baselines import Fitted, fit_baselines
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.data import open_data
from neurocli.systems.fmri.regions import atlas_regions, block_regions, region_series

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def opened(folder: Path, *settings: str) -> tuple[RunData, FmriTaskBlock]:
    given = ["model.patch_size=2,2,2,1", "data.sequence_length=4", f"data.path={folder}"]
    config = load_config(model="fmamba_mlp", set=[*given, *settings])
    task = config.task
    assert isinstance(task, FmriTaskBlock)
    return open_data(config), task


def part(data: RunData, name: str) -> ClipSet:
    samples = data.parts[name]  # type: ignore[index]
    assert isinstance(samples, ClipSet)
    return samples


def cohort(folder: Path, n: int = 24) -> Path:
    sex = ["FM"[i % 2] for i in range(n)]
    ages = [20 + i for i in range(n)]
    return write_cohort(folder, n, columns={"sex": sex, "age": ages})


def fitted(data: RunData, task: FmriTaskBlock) -> Fitted:
    n_classes = len(data.info["classes"])
    return fit_baselines(task, part(data, "train"), [part(data, "test")], n_classes, ignore)


def test_cubes_are_the_smallest_that_are_few_enough(tmp_path: Path) -> None:
    data, _ = opened(cohort(tmp_path, 4), "task.target=sex")
    reader = part(data, "train").reader
    everyone = range(len(reader.runs))
    voxels = block_regions(reader, everyone)
    # 18 voxels are in the mask of all, a corner only in that of even people.
    assert voxels.n == 18
    assert voxels.source == "18 cubes of 1 voxels"
    fewer = block_regions(reader, everyone, most=8)
    assert fewer.source.endswith("cubes of 2 voxels")
    masks = [reader.brain(run) for run in everyone]
    expected = set.intersection(
        *({tuple(place // 2) for place in np.argwhere(mask)} for mask in masks)
    )
    labels = {tuple(place // 2) for place in np.argwhere(fewer.labels > 0)}
    assert labels == expected
    assert fewer.n == len(expected)


def test_series_are_means_of_regions_in_any_blocks(tmp_path: Path) -> None:
    data, _ = opened(cohort(tmp_path, 3), "task.target=sex", "data.scaling=none")
    reader = part(data, "train").reader
    regions = block_regions(reader, [0, 1, 2], most=8)
    for run, entry in enumerate(reader.runs):
        values, mask = values_of(int(entry.subject[1:]), 12)
        label = regions.labels[:5, :4, :3][mask]
        expected = [values[2:11, label == k + 1].mean(1) for k in range(regions.n)]
        found = region_series(reader, run, regions, slice(2, 11))
        np.testing.assert_allclose(found, np.array(expected).T, rtol=1e-6)


def test_an_atlas_on_the_same_grid_is_used_and_another_refused(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    data, _ = opened(cohort(folder, 3), "task.target=sex")
    reader = part(data, "train").reader
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[1, 1:3], labels[2:4, 1:3] = 7, 300
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "atlas.nii.gz")
    regions = atlas_regions(tmp_path / "atlas.nii.gz", reader)
    assert regions.n == 2
    assert np.array_equal(regions.labels[:5, :4, :3], np.where(labels == 7, 1, labels // 150))
    nib.save(nib.Nifti1Image(labels, 2 * AFFINE), tmp_path / "other.nii.gz")
    with pytest.raises(InputError, match="another grid"):
        atlas_regions(tmp_path / "other.nii.gz", reader)
    nib.save(nib.Nifti1Image(np.minimum(labels, 1), AFFINE), tmp_path / "one.nii.gz")
    with pytest.raises(InputError, match="1 region"):
        atlas_regions(tmp_path / "one.nii.gz", reader)


def region_features(data: RunData, name: str) -> tuple[np.ndarray, np.ndarray]:
    samples = part(data, name)
    reader = samples.reader
    train_runs = sorted({run for run, _ in part(data, "train").clips})
    regions = block_regions(reader, train_runs)
    rows, truth = [], []
    for unit in samples.units:
        run = next(i for i, entry in enumerate(reader.runs) if entry.participant == unit)
        series = region_series(reader, run, regions, slice(0, 12))
        rows.append(np.r_[series.mean(0), series.std(0)])
        assert samples.targets is not None
        truth.append(samples.targets[unit])
    return np.array(rows), np.array(truth)


@pytest.mark.parametrize("column", ["sex", "age"])
def test_region_baseline_is_a_linear_model_of_scikit_learn(tmp_path: Path, column: str) -> None:
    data, task = opened(cohort(tmp_path), f"task.target={column}", "data.scaling=psc")
    found = fitted(data, task)
    x_train, y_train = region_features(data, "train")
    x_test, _ = region_features(data, "test")
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    penalties = [10.0**k for k in range(-2, 5)]
    if column == "sex":
        candidates = [
            LogisticRegression(C=1 / a, max_iter=500).fit(x_train, y_train).predict_proba(x_test)
            for a in penalties
        ]
    else:
        candidates = [Ridge(alpha=a).fit(x_train, y_train).predict(x_test) for a in penalties]
    own = found.predictions["roi"]
    # Which penalty is chosen is the inner search's business, the model is one of these.
    assert min(np.abs(own - each).max() for each in candidates) < 1e-6


def test_connectivity_tells_people_apart_and_needs_frames(tmp_path: Path) -> None:
    data, task = opened(cohort(tmp_path), "task.target=sex")
    found = fitted(data, task)
    assert set(found.predictions) == {"fc", "roi"}
    np.testing.assert_allclose(found.predictions["fc"].sum(1), 1)
    assert found.units.names == part(data, "test").units
    again = fitted(data, task)
    assert np.array_equal(again.predictions["fc"], found.predictions["fc"])
    assert "cubes of 1 voxels" in found.notes[0]


def test_a_baseline_that_cannot_be_fitted_is_named(tmp_path: Path) -> None:
    data, task = opened(cohort(tmp_path, 8), "task.target=sex", "data.sequence_length=2",
                        "data.stride_between=9")  # fmt: skip
    found = fitted(data, task)
    assert "fc" not in found.predictions
    assert any("baseline fc could not be fitted: a correlation needs" in n for n in found.notes)


def test_the_test_part_never_enters_the_fit(tmp_path: Path) -> None:
    data, task = opened(cohort(tmp_path), "task.target=sex")
    before = fitted(data, task).predictions["roi"]
    samples = part(data, "test")
    assert samples.targets is not None
    samples.targets = {
        name: 1 - value if name in samples.units else value
        for name, value in samples.targets.items()
    }
    assert np.array_equal(fitted(data, task).predictions["roi"], before)
