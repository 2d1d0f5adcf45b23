"""Quality numbers, against values computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.data.statistics import voxel_stats
from neurocli.systems.fmri.qc_figure import draw_quality
from neurocli.systems.fmri.quality import FrameTrace, jump_frames, quality, spike_frames


def judge(values: np.ndarray, mask: np.ndarray | None = None) -> dict[str, Any]:
    values = values.astype(np.float32)
    trace = FrameTrace(values.shape[1])
    for row in values:
        trace.add(row)
    whole = np.ones((values.shape[1], 1, 1), bool)
    return quality(
        trace, voxel_stats(values), whole if mask is None else mask, np.diag([2, 2, 5, 1])
    )


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


def test_volume_is_in_millilitres() -> None:
    # Three voxels of 2 x 2 x 5 mm are 60 mm3.
    report = judge(np.array([[9, 19, 30], [10, 20, 30], [11, 21, 30]]))
    assert report["mask_volume_ml"] == 0.06


def test_a_jump_is_found_where_the_level_changes() -> None:
    values = 1000 + np.random.default_rng(2).normal(0, 5, (40, 50))
    values[20:] += np.where(np.arange(50) % 2, 60, -60)  # the global signal stays
    report = judge(values)
    assert report["jump_frames"] == [20]
    assert report["n_spikes"] == 0
    assert jump_frames(np.array([0.0])) == []


def test_change_per_frame_is_that_of_its_formula() -> None:
    values = np.random.default_rng(3).normal(100, 5, (6, 30)).astype(np.float32)
    report = judge(values)
    wanted = np.sqrt(np.mean(np.diff(values.astype(np.float64), axis=0) ** 2, axis=1))
    np.testing.assert_allclose(report["dvars"], [0, *wanted], rtol=1e-5)
    np.testing.assert_allclose(report["global_signal"], values.mean(axis=1), rtol=1e-6)


def test_stored_numbers_give_the_quality_of_their_values() -> None:
    stored = np.random.default_rng(4).integers(-3000, 3000, (7, 20)).astype(np.int16)
    trace = FrameTrace(20, 0.5, 10)
    for row in stored:
        trace.add(row)
    values = stored * 0.5 + 10
    np.testing.assert_allclose(trace.signal_T, values.mean(axis=1))
    wanted = np.sqrt(np.mean(np.diff(values, axis=0) ** 2, axis=1))
    np.testing.assert_allclose(trace.dvars_T[1:], wanted, rtol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 12])
def test_the_figure_is_the_same_picture_every_time(tmp_path: Path, n_frames: int) -> None:
    values = np.random.default_rng(5).normal(100, 5, (n_frames, 30))
    report = judge(values)
    assert draw_quality(tmp_path, report) == "qc.svg"
    first = (tmp_path / "qc.svg").read_bytes()
    draw_quality(tmp_path, report)
    assert first == (tmp_path / "qc.svg").read_bytes()
    assert b"global signal" in first
