"""Statistics of runs: the referees are numpy in float64 over all values at once."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest

from neurocli.core.data.statistics import GlobalStats, global_stats, voxel_stats
from neurocli.core.errors import NeuroError


def run(n_frames=30, n_voxels=400, dtype=np.float32):
    rng = np.random.default_rng(0)
    values = rng.normal(9000, 50, size=(n_frames, n_voxels)) + rng.normal(0, 900, size=n_voxels)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.float64, ">i2"])
@pytest.mark.parametrize("n_blocks", [1, 7, 30])
def test_global_statistics_equal_numpy(dtype, n_blocks):
    values = run(dtype=dtype)
    values[:, :100] = 0  # background
    values[3, 200:210] = 0  # and voxels that are background in one frame only
    stats = global_stats(lambda: np.array_split(values, n_blocks))
    kept = values[values != 0].astype(np.float64)
    quartiles = np.quantile(kept.astype(np.float32).astype(np.float64), (0.25, 0.5, 0.75))
    assert stats.valid_voxels == kept.size
    assert stats.global_mean == pytest.approx(kept.mean(), rel=1e-13)
    assert stats.global_std == pytest.approx(kept.std(ddof=1), rel=1e-12)
    assert (stats.global_max, stats.global_min) == (kept.max(), kept.min())
    assert stats.median == pytest.approx(quartiles[1], rel=1e-7)
    assert stats.iqr == pytest.approx(quartiles[2] - quartiles[0], rel=1e-6)


def test_a_large_level_does_not_spoil_the_spread():
    values = np.tile(np.array([1.0, 3.0]), 5000) + 2.0**40
    stats = global_stats(lambda: np.array_split(values, 11), background=-1.0)
    assert stats.global_std == pytest.approx(np.std([1.0, 3.0] * 5000, ddof=1), rel=1e-6)


def test_another_background_and_blocks_of_volumes():
    values = np.array([[-2.0, 5.0], [7.0, -2.0]], np.float32).reshape(2, 1, 2, 1)
    stats = global_stats(lambda: iter(values), background=-2.0)
    assert stats.as_dict() == {
        "valid_voxels": 2,
        "global_mean": 6.0,
        "global_std": math.sqrt(2),
        "global_max": 7.0,
        "global_min": 5.0,
        "median": 6.0,
        "iqr": 1.0,
    }


def test_a_single_value_has_no_spread():
    stats = global_stats(lambda: [np.array([0.0, 4.0])])
    assert (stats.valid_voxels, stats.global_std, stats.iqr) == (1, 0.0, 0.0)


def test_runs_without_statistics_are_refused():
    with pytest.raises(NeuroError, match="every value equals the background"):
        global_stats(lambda: [np.zeros(5)])
    with pytest.raises(NeuroError, match="2 of 4 values are not finite"):
        global_stats(lambda: [np.array([0, 1.0, np.nan, np.inf, 2.0])])


def test_memory_is_that_of_a_block():
    block = np.ones((100, 1000), np.float32)
    block[0, 0] = 2
    tracemalloc.start()
    stats = global_stats(lambda: (block for _ in range(50)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stats.valid_voxels == 5_000_000
    assert peak < 40 * block.nbytes / 2  # of 50 blocks; float64 copies and 16-bit counts among them


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_voxel_statistics_equal_numpy(dtype):
    values = run(41, dtype=dtype)
    mean, std = voxel_stats(values)
    assert mean.dtype == std.dtype == np.float32
    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=6e-8)
    np.testing.assert_allclose(std, exact.std(axis=0, ddof=1), rtol=6e-8)


def test_constant_voxels_have_a_spread_of_exactly_zero():
    values = np.tile(np.array([0.1, 1 / 3, 1e7 + 0.3, 0.0], np.float32), (1201, 1))
    mean, std = voxel_stats(values)
    np.testing.assert_array_equal(std, 0)
    np.testing.assert_array_equal(mean, values[0])
    np.testing.assert_array_equal(voxel_stats(values[:1])[1], 0)


def test_no_frames_are_refused():
    with pytest.raises(NeuroError, match="no frames"):
        voxel_stats(np.zeros((0, 5)))


def test_unknown_entries_are_left_out_and_come_back_unknown():
    stats = GlobalStats(10, 1.0, 2.0, 3.0)
    text = json.dumps(stats.as_dict(), allow_nan=False)
    assert json.loads(text) == {
        "valid_voxels": 10,
        "global_mean": 1.0,
        "global_std": 2.0,
        "global_max": 3.0,
    }
    again = GlobalStats.from_mapping(json.loads(text))
    assert again.as_dict() == stats.as_dict()
    assert math.isnan(again.median)


def test_arrays_of_no_dimension_are_numbers():
    values = {
        "valid_voxels": np.array(172349844),
        "global_mean": np.float32(7895.5),
        "global_std": 5594.6,
        "global_max": "37244.5",
        "iqr": None,
        "other": "ignored",
    }
    stats = GlobalStats.from_mapping(values)
    assert stats.valid_voxels == 172349844
    assert stats.global_max == 37244.5
    assert math.isnan(stats.iqr)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"global_std": None}, "lack global_std"),
        ({"global_mean": math.nan}, "global_mean is nan"),
        ({"global_max": math.inf}, "global_max is inf"),
        ({"valid_voxels": "many"}, "valid_voxels is no number"),
        ({"global_mean": np.zeros(3)}, "global_mean is no number"),
    ],
)
def test_unsound_entries_are_named(change, problem):
    values = {"valid_voxels": 2, "global_mean": 1.0, "global_std": 1.0, "global_max": 2.0}
    with pytest.raises(NeuroError, match=problem):
        GlobalStats.from_mapping({**values, **change})
