"""What one look at each frame tells, against numpy on the whole matrix in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurocli.core.data.statistics import global_stats
from neurocli.systems.fmri import tally as tally_module
from neurocli.systems.fmri.tally import LevelTally, ValueTally, all_levels, is_levels

N_FRAMES, N_VOXELS = 37, 23  # not a whole number of blocks


def whole(dtype: str, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    random = np.random.default_rng(seed)
    values = random.integers(info.min, info.max, (N_FRAMES, N_VOXELS), endpoint=True)
    return values.astype(dtype)


def tallied(rows: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> LevelTally:
    tally = LevelTally(rows.dtype, rows.shape[1], slope, inter)
    for row in rows:
        tally.add(row)
    return tally


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, 0.0), (0.25, -7.0), (-2.0, 3.0)])
def test_levels_tell_everything(dtype: str, slope: float, inter: float) -> None:
    rows = whole(dtype)
    tally = tallied(rows, slope, inter)
    values = rows.astype(np.float64) * slope + inter
    assert tally.span() == (values.min(), values.max())
    mean, std = tally.moments()
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(std, values.std(axis=0, ddof=1), rtol=1e-6)
    found = tally.stats()
    assert found is not None
    inside = values[values != 0]
    assert found.valid_voxels == inside.size
    assert found.global_mean == pytest.approx(inside.mean())
    assert found.global_std == pytest.approx(inside.std(ddof=1))
    assert (found.global_min, found.global_max) == (inside.min(), inside.max())
    assert found.median == pytest.approx(np.median(inside))
    q75, q25 = np.percentile(inside, [75, 25])
    assert found.iqr == pytest.approx(q75 - q25)


@pytest.mark.parametrize("n_values", [1, 2, 3, 4, 7, 100])
def test_quantiles_are_those_of_numpy(n_values: int) -> None:
    rows = np.random.default_rng(n_values).integers(1, 9, (n_values, 1)).astype(np.int16)
    found = tallied(rows).stats()
    assert found is not None
    q75, q25 = np.percentile(rows, [75, 25])
    assert found.median == np.median(rows)
    assert found.iqr == pytest.approx(q75 - q25)


def test_the_background_is_not_counted() -> None:
    rows = np.array([[0, 5, -3], [0, 7, -3]], dtype=np.int16)
    found, wanted = tallied(rows).stats(), global_stats(lambda: [rows.astype(np.float32)])
    assert found is not None
    for name, value in wanted.as_dict().items():
        assert found.as_dict()[name] == pytest.approx(value), name
    assert tallied(rows).stats(background=-3.0) != found
    assert tallied(np.zeros((3, 2), np.int16)).stats() is None


@pytest.mark.parametrize("level", [-32768, 0, 9001, 32767])
def test_constant_voxels_have_no_spread(level: int) -> None:
    rows = np.full((1200, 3), level, dtype=np.int16)
    rows[:, 1] += np.arange(1200, dtype=np.int16) % 2 if level < 32767 else 0
    mean, std = tallied(rows).moments()
    assert std[0] == std[2] == 0
    assert mean[0] == level


def test_sums_outlast_their_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 16 bits only 65536 frames reach the limit of the sums; a lower one stands in for it.
    monkeypatch.setattr(tally_module, "_MAX_SIGNED", 100_000)
    rows = whole("int16", seed=4)
    rows[:, 0] = -32768
    mean, std = tallied(rows).moments()
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, rows.std(axis=0, ddof=1), rtol=1e-6)


def test_a_single_frame_has_no_spread() -> None:
    assert not tallied(whole("int16")[:1]).moments()[1].any()


@pytest.mark.parametrize("n_frames", [1, 16, 17, N_FRAMES])
def test_values_of_any_kind(n_frames: int) -> None:
    rows = np.random.default_rng(1).normal(1e4, 3, (n_frames, N_VOXELS)).astype(np.float32)
    tally = ValueTally(N_VOXELS)
    for row in rows:
        tally.add(row)
    assert tally.span() == (rows.min(), rows.max())
    mean, std = tally.moments()
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    wanted = exact.std(axis=0, ddof=1) if n_frames > 1 else np.zeros(N_VOXELS)
    np.testing.assert_allclose(std, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("int8", True), ("uint16", True), (">i2", True), ("int32", False), ("float32", False)],
)
def test_what_counts_as_levels(dtype: Any, wanted: bool) -> None:
    assert is_levels(np.dtype(dtype)) is wanted


def test_levels_stand_in_the_order_of_their_bits() -> None:
    levels = all_levels(np.dtype(np.int16))
    assert len(levels) == 65536
    assert levels[[0, 1, 32767, 32768, 65535]].tolist() == [0, 1, 32767, -32768, -1]
