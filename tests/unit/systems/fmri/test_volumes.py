"""Pictures of volumes from what a judgement left: drawn where whole, left out where not."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from neurocli.core.paths import durable_json
from neurocli.core.report.collect import Run, collect_run
from neurocli.systems.fmri.models.patches import patchify
from neurocli.systems.fmri.reconstruction import hidden_picture, next_picture
from neurocli.systems.fmri.volumes import attributions, data_quality, reconstructions

GRID, PATCH = (2, 2, 2, 3), (2, 2, 2, 1)


class _Model:
    grid = GRID
    patch_size = PATCH


@pytest.fixture
def run(tmp_path: Path) -> Run:
    out = tmp_path / "run" / "evaluations" / "test"
    out.mkdir(parents=True)
    durable_json(out / "metrics.json", {"part": "test", "metrics": {}})
    data = {"data": {"path": str(tmp_path / "data")}, "model": {"name": "fmamba"}}
    (tmp_path / "run" / "config.yaml").write_text(json.dumps(data))
    return collect_run(tmp_path / "run")


def test_a_forecast_is_put_at_the_place_of_the_token_it_is_for() -> None:
    clip = torch.arange(4 * 4 * 4 * 3.0).view(1, 1, 4, 4, 4, 3)
    patches = patchify(clip, PATCH)[0]
    index = torch.tensor([0, 1, 2, 12, 13, 14])  # two places, all their times
    kept = patches[index]
    # A perfect forecast: after each token stands the next one.
    pred = torch.cat([kept[1:], torch.full_like(kept[:1], -7.0)])
    ((name, values),) = next_picture("sub-1", pred, kept, index, _Model()).items()
    assert values.shape == (2, 4, 4, 3)
    seen = np.isfinite(values.astype(float))
    np.testing.assert_array_equal(values[0][seen[0]], values[1][seen[1]])
    # The first kept token is nobody's target, so frame 0 of its place is empty.
    frame = int(name.rpartition("-")[2])
    depth = [4 * part // 6 for part in (2, 3, 4)]
    truth = clip[0, 0, ..., frame][..., depth].numpy()
    np.testing.assert_array_equal(values[0][seen[0]], truth[seen[0]])
    assert seen[0].any()


def test_hidden_patches_alone_are_shown() -> None:
    patches = torch.ones(2, 8)
    index = torch.tensor([4, 16])
    ((_, values),) = hidden_picture("s", 3 * patches, patches, index, _Model()).items()
    assert set(values[0][np.isfinite(values[0].astype(float))]) == {1}
    assert set(values[1][np.isfinite(values[1].astype(float))]) == {3}


def test_a_reconstruction_says_how_well_it_fits(run: Run) -> None:
    folder = run.folder / "evaluations" / "test" / "pictures"
    folder.mkdir()
    truth = np.random.default_rng(0).normal(size=(4, 4, 2))
    truth[0] = np.nan
    np.save(folder / "sub-1.next-frame-5.npy", np.stack([truth, 2 * truth + 1]).astype(np.float16))
    np.save(folder / "other.npy", np.zeros((2, 2)))
    (figure,) = reconstructions(run, run.evaluations[0])
    # A linear map of the truth correlates fully; 3 x 4 x 2 voxels are no NaN.
    assert figure.alt == "Prediction and target correlate with 1.00 over the voxels shown."
    assert "frame 5" in figure.caption
    assert "n = 24 voxels" in figure.caption
    np.save(folder / "sub-1.next-frame-5.npy", np.full((2, 4, 4, 2), np.nan, dtype=np.float16))
    assert reconstructions(run, run.evaluations[0]) == []


def test_maps_are_turned_upright_whatever_their_order_on_disk(run: Run) -> None:
    folder = run.folder / "evaluations" / "test" / "explanations"
    folder.mkdir()
    values = np.ones((6, 6, 6), dtype=np.float32)
    values[1, 4, 2] = 9.0
    images = []
    for affine, array in (
        (np.diag([2.0, 2.0, 2.0, 1.0]), values),
        # The same brain with its first axis towards the left, and the last two swapped.
        (
            np.array([[-2.0, 0, 0, 10], [0, 0, 2, 0], [0, 2, 0, 0], [0, 0, 0, 1]]),
            np.ascontiguousarray(values[::-1].transpose(0, 2, 1)),
        ),
    ):
        nib.save(nib.Nifti1Image(array, affine), folder / "group_abs.nii.gz")
        (folder / "sub-1_abs.nii.gz").write_bytes((folder / "group_abs.nii.gz").read_bytes())
        (figure,) = attributions(run, run.evaluations[0])
        images.append(figure.image)
        assert figure.alt == "The largest value is at voxel 1, 4, 2 of the image."
        assert "n = 1 runs" in figure.caption
    assert images[0] == images[1]
    (folder / "group_abs.nii.gz").write_bytes(b"no image")
    assert attributions(run, run.evaluations[0]) == []


def test_quality_is_read_from_the_manifest_of_the_dataset(run: Run, tmp_path: Path) -> None:
    assert data_quality(run) is None
    (tmp_path / "data").mkdir()
    quality = {"tsnr_median": 50.0, "n_frames": 40, "n_spikes": 2, "n_jumps": 2}
    rows = [
        {"subject": "a", "status": "done", "stats": {"qc": quality}},
        {"subject": "b", "status": "failed"},
        {"subject": "c", "status": "done", "stats": {}},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data" / "manifest.jsonl").write_text(text)
    figure = data_quality(run)
    assert figure is not None
    assert "n = 1;" in figure.caption
    assert figure.alt.endswith("of 1 runs is 50.")
