"""Quality numbers, against values computed by hand."""

from __future__ import annotations

import numpy as np

from neurocli.core.data.statistics import voxel_stats
from neurocli.systems.fmri.quality import quality, spike_frames


def judge(values: np.ndarray, mask: np.ndarray | None = None) -> dict[str, object]:
    values = values.astype(np.float32)
    mean, std = voxel_stats(values)
    whole = np.ones((values.shape[1], 1, 1), bool)
    return quality(values, mean, std, whole if mask is None else mask)


def test_tsnr_is_the_median_over_changing_voxels() -> None:
    # Means 10, 20, 30 and unbiased spreads 1, 1, 0: tSNR 10 and 20, the constant one left out.
    values = np.array([[9, 19, 30], [10, 20, 30], [11, 21, 30]])
    report = judge(values)
    assert report["tsnr_median"] == 15.0
    assert report["n_voxels_in_mask"] == 3
    assert report["n_frames"] == 3


def test_a_run_without_change_has_no_tsnr() -> None:
    assert judge(np.full((4, 2), 7.0))["tsnr_median"] is None


def test_a_spike_is_found_and_named() -> None:
    random = np.random.default_rng(0)
    values = 1000 + random.normal(0, 5, (40, 50))
    values[17] += 200
    report = judge(values)
    assert report["n_spikes"] == 1
    assert report["spike_frames"] == [17]


def test_calm_runs_have_no_spikes() -> None:
    signal = np.random.default_rng(1).normal(0, 1, 60)
    assert spike_frames(signal) == []
    assert spike_frames(np.full(10, 3.0)) == []


def test_share_of_the_grid() -> None:
    mask = np.zeros((4, 5, 5), bool)
    mask[0, 0, :2] = True
    assert judge(np.arange(6.0).reshape(3, 2), mask)["mask_share"] == 0.02
