"""Scaling formulas, each against its definition written out in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from neurocli.core.data.scaling import (
    SCALINGS,
    GlobalStats,
    background_value,
    global_stats,
    scale,
    voxel_stats,
)
from neurocli.core.errors import NeuroError, UsageError


@pytest.fixture
def run():
    rng = np.random.default_rng(0)
    values = (rng.normal(9000, 50, size=(20, 300)) + rng.normal(0, 900, size=300)).astype("f4")
    values[4, 7] = 0  # dropout inside the mask
    return values


@pytest.fixture
def stats(run):
    return global_stats(lambda: [run])


def expected(method, values, stats):
    x = values.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0, ddof=1)
    z = (x - stats.global_mean) / stats.global_std
    return {
        "none": x,
        "znorm_zeroback": np.where(x == 0, 0, z),
        "znorm_minback": z,
        "minmax": x / stats.global_max,
        "robust": (x - stats.median) / stats.iqr,
        "voxel-z": (x - mean) / std,
        "psc": 100 * (x - mean) / mean,
    }[method]


def test_the_list_of_methods():
    assert SCALINGS == (
        "none",
        "znorm_zeroback",
        "znorm_minback",
        "minmax",
        "robust",
        "voxel-z",
        "psc",
    )


@pytest.mark.parametrize("method", SCALINGS)
def test_formulas(method, run, stats):
    mean, std = voxel_stats(run)
    before = run.copy()
    found = scale(run, method, stats=stats, voxel_mean_V=mean, voxel_std_V=std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(method, run, stats), rtol=2e-6, atol=2e-5)
    np.testing.assert_array_equal(run, before)


@pytest.mark.parametrize("method", SCALINGS)
@pytest.mark.parametrize("dtype", ["int16", "float16", "float64"])
def test_a_window_of_another_dtype_equals_the_run(method, dtype, run, stats):
    mean, std = voxel_stats(run)
    values = run.astype(dtype)
    parts = {"stats": stats, "voxel_mean_V": mean, "voxel_std_V": std}
    whole = scale(values.astype("f4"), method, **parts)
    np.testing.assert_array_equal(scale(values[5:9], method, **parts), whole[5:9])


def test_voxels_without_spread_or_level_become_zero():
    values = np.full((5, 4), 7.0, np.float32)
    values[:, 0] = [1, 2, 3, 4, 5]
    values[:, 2] = 0
    values[:, 3] = [1e-4, -1e-4, 1e-4, -1e-4, 0]
    mean, std = voxel_stats(values)
    z = scale(values, "voxel-z", stats=None, voxel_mean_V=mean, voxel_std_V=std)
    np.testing.assert_array_equal(z[:, 1:3], 0)
    np.testing.assert_allclose(z[:, 0].std(ddof=1), 1, rtol=1e-6)
    psc = scale(values, "psc", stats=None, voxel_mean_V=mean)
    np.testing.assert_array_equal(psc[:, 1:], 0)
    np.testing.assert_allclose(psc[:, 0], 100 * (values[:, 0] - 3) / 3, rtol=1e-6)
    assert np.isfinite(z).all()


def test_rounding_noise_of_a_constant_voxel_is_not_blown_up():
    values = np.full((50, 1), 10_000, np.float32)
    values[7] = np.nextafter(np.float32(10_000), np.float32(20_000))
    mean, std = voxel_stats(values)
    assert std[0] > 0
    np.testing.assert_array_equal(
        scale(values, "voxel-z", stats=None, voxel_mean_V=mean, voxel_std_V=std), 0
    )


def test_background_is_the_image_of_zero(stats):
    z_of_zero = -stats.global_mean / stats.global_std
    assert background_value("znorm_minback", stats) == pytest.approx(z_of_zero)
    assert background_value("robust", stats) == pytest.approx(-stats.median / stats.iqr)
    for method in ("none", "znorm_zeroback", "minmax", "voxel-z", "psc"):
        assert background_value(method, None) == 0.0


def test_background_of_minback_is_the_minimum_even_below_zero(stats):
    signed = dataclasses.replace(stats, global_min=-500.0)
    lowest = scale(np.array([[-500.0]]), "znorm_minback", stats=signed)[0, 0]
    assert background_value("znorm_minback", signed) == pytest.approx(lowest, rel=1e-6)
    unknown = dataclasses.replace(stats, global_min=math.nan)
    assert background_value("znorm_minback", unknown) == background_value("znorm_minback", stats)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("znorm_zeroback", "global_std", 0.0),
        ("znorm_minback", "global_std", 0.0),
        ("minmax", "global_max", 0.0),
        ("minmax", "global_max", -3.0),
        ("robust", "iqr", 0.0),
    ],
)
def test_division_by_zero_is_named(method, name, value, run, stats):
    with pytest.raises(NeuroError, match=f"'{method}' would divide by the run's {name}"):
        scale(run, method, stats=dataclasses.replace(stats, **{name: value}))


def test_absent_inputs_are_named(run):
    poor = GlobalStats(10, 1.0, 2.0, 3.0)
    with pytest.raises(NeuroError, match="needs the run's median"):
        scale(run, "robust", stats=poor)
    with pytest.raises(NeuroError, match="needs the run's global_mean"):
        scale(run, "znorm_minback", stats=None)
    with pytest.raises(NeuroError, match="needs the run's global_"):
        background_value("znorm_minback", None)
    with pytest.raises(NeuroError, match="needs voxel_mean_V"):
        scale(run, "psc", stats=None)
    with pytest.raises(NeuroError, match="needs voxel_std_V"):
        scale(run, "voxel-z", stats=None, voxel_mean_V=run.mean(axis=0))


def test_an_unknown_method_gets_the_nearest():
    for call in (
        lambda: scale(np.ones((1, 1)), "voxelz", stats=None),
        lambda: background_value("voxelz", None),
    ):
        with pytest.raises(UsageError, match="did you mean voxel-z"):
            call()
