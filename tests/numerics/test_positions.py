"""Positional features against golden arrays and their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocli.core.errors import UsageError
from neurocli.core.nn.positions import METHODS, features, mesh

GRID = (4, 3, 2, 5)


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "pe_features_f32.npz"))


def test_mesh_equals_golden(arrays: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(mesh(GRID).numpy(), arrays["mesh"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["nerf", "ff"])
def test_features_equal_golden(arrays: dict[str, np.ndarray], method: str) -> None:
    got = features(method, mesh(GRID))
    assert got.shape == arrays[method].shape
    np.testing.assert_allclose(got.numpy(), arrays[method], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [32, 64, 96, 100, 128])
def test_cpe_equals_golden(arrays: dict[str, np.ndarray], dim: int) -> None:
    got = features("cpe", mesh(GRID), dim=dim)
    np.testing.assert_allclose(got.numpy(), arrays[f"cpe_{dim}"], rtol=0, atol=1e-6)


def test_order_of_the_features() -> None:
    # Expected: the formulas, written out at one place whose coordinates all differ.
    place = [0.1, 0.25, 0.6, 0.9]
    coords = torch.tensor(place, dtype=torch.float64)
    nerf = list(place)
    for k in range(10):
        nerf += [math.sin(2**k * c) for c in place] + [math.cos(2**k * c) for c in place]
    bands = [1 + 9 * k / 11 for k in range(12)]
    angles = [math.pi * f * c for c in place for f in bands]
    ff = [*place, *map(math.sin, angles), *map(math.cos, angles)]
    cpe: list[float] = []
    for c in place:
        for j in range(0, 6, 2):
            angle = 2 * math.pi * c / 10000 ** (j / 6)
            cpe += [math.sin(angle), math.cos(angle)]
    for method, want, dim in (("nerf", nerf, None), ("ff", ff, None), ("cpe", [*cpe, 0, 0], 26)):
        got = features(method, coords, dim=dim)
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-12, err_msg=method)
    assert features("none", coords) is coords


def test_an_axis_of_one_token_has_the_value_zero() -> None:
    coords = mesh((1, 2, 1, 3))
    assert coords.shape == (1, 2, 1, 3, 4)
    assert not bool(coords[..., 0].any())
    assert coords[0, :, 0, 0, 1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_keep_leading_axes_and_dtype(method: str, dtype: torch.dtype) -> None:
    got = features(method, torch.rand(2, 7, 4, dtype=dtype), dim=48)
    assert got.shape == (2, 7, {"none": 4, "ff": 100, "nerf": 84, "cpe": 48}[method])
    assert got.dtype == dtype


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown positional encoding 'nrf'; did you mean nerf\?"):
        features("nrf", torch.zeros(4))
    with pytest.raises(ValueError, match=r"coords has shape \(3,\)"):
        features("nerf", torch.zeros(3))
    for dim in (None, 7):
        with pytest.raises(UsageError, match=f"cpe needs an embedding size.*{dim}"):
            features("cpe", torch.zeros(4), dim=dim)
