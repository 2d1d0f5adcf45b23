"""Positional features against golden arrays and their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neurocli.core.errors import UsageError
from neurocli.core.nn.positions import METHODS, encode, encoded_grid, features, mesh

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


@pytest.mark.parametrize("method", ["none", "ff", "nerf"])
def test_the_projection_is_random_and_comes_from_the_seed_alone(method: str) -> None:
    # Expected: unit-variance columns, so an entry's variance is the features' squared length.
    torch.manual_seed(0)
    first = encode(method, GRID, dim=4096, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first, encode(method, GRID, dim=4096, seed=5))
    assert not torch.equal(first, encode(method, GRID, dim=4096, seed=6))
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    raw = features(method, mesh(GRID).flatten(0, -2))
    want = raw.square().sum(-1)
    np.testing.assert_allclose(first.square().mean(-1), want, rtol=0.15, atol=1e-6)


def test_positions_are_linear_in_the_features() -> None:
    # Expected: one matrix gives all places, the same for every grid; solved by least squares.
    raw = features("nerf", mesh((9, 8, 7, 5)).flatten(0, -2).double())
    made = encode("nerf", (9, 8, 7, 5), dim=12, seed=3).double()
    matrix = torch.linalg.lstsq(raw, made, driver="gelsd").solution
    np.testing.assert_allclose(raw @ matrix, made, rtol=0, atol=1e-4)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(84, 12, generator=generator).double()
    other = features("nerf", mesh((2, 3, 4, 6)).flatten(0, -2).double())
    made = encode("nerf", (2, 3, 4, 6), dim=12, seed=3)
    np.testing.assert_allclose(made, other @ drawn, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "grid", [(1, 1, 1, 1), (1, 1, 1, 8), (8, 1, 1, 1), (4, 2, 2, 2), (2, 2, 4, 2), (3, 5, 2, 10)]
)
def test_a_grid_is_told_from_its_positions(method: str, grid: tuple[int, ...]) -> None:
    made = encode(method, grid, dim=24, seed=2)
    assert encoded_grid(method, made, seed=2) == grid
    assert encoded_grid(method, made.half(), seed=2) == grid
    assert encoded_grid(method, made.double(), seed=2) == grid


def test_a_large_grid_is_told_too() -> None:
    grid = (16, 16, 16, 20)
    assert encoded_grid("nerf", encode("nerf", grid, dim=16)) == grid


def test_foreign_positions_have_no_known_grid() -> None:
    made = encode("nerf", (4, 2, 2, 2), dim=24, seed=2)
    assert encoded_grid("nerf", made, seed=3) is None
    assert encoded_grid("ff", made, seed=2) is None
    assert encoded_grid("nerf", torch.randn(32, 24), seed=2) is None
    changed = made.clone()
    changed[17, 5] += 0.5
    assert encoded_grid("nerf", changed, seed=2) is None
