"""Attributions against functions whose answer is known on paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurocli.systems.fmri.attribution import integrated_gradients, occlusion

SHAPE = (1, 2, 2, 2, 3)


def clip_and_weights() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=random), torch.randn(SHAPE, generator=random)


def test_a_linear_output_gives_each_voxel_its_term() -> None:
    clip, weights = clip_and_weights()
    baseline = torch.full(SHAPE, 0.5)
    found = integrated_gradients(
        lambda x: (x * weights).flatten(1).sum(1), clip, [baseline], points=4
    )
    # Expected: of w.x + c each voxel owns w (x - baseline), whatever the path.
    assert torch.allclose(found.values.float(), weights * (clip - 0.5), atol=1e-6)
    assert found.output - found.baseline == pytest.approx(float(found.values.sum()), rel=1e-5)
    assert found.steps == 4


def test_a_product_is_shared_as_the_path_integral_says() -> None:
    # Expected: for f = x^2 y along the straight line from 0 the integral gives x 2/3, y 1/3 of f.
    clip = torch.zeros(SHAPE)
    clip.view(-1)[:2] = torch.tensor([2.0, 3.0])

    def output(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return flat[:, 0] ** 2 * flat[:, 1]

    values = integrated_gradients(output, clip, [torch.zeros(SHAPE)], points=8).values.view(-1)
    assert values[:2].tolist() == pytest.approx([8.0, 4.0], rel=1e-6)
    assert not values[2:].any()


def test_several_baselines_give_the_mean_of_their_lines() -> None:
    clip, weights = clip_and_weights()
    baselines = [torch.full(SHAPE, 0.5), torch.full(SHAPE, -1.0)]
    found = integrated_gradients(
        lambda x: (x * weights).flatten(1).sum(1), clip, baselines, points=4
    )
    assert torch.allclose(found.values.float(), weights * (clip + 0.25), atol=1e-6)
    own = torch.stack([(weights * (clip - start)).sum(-1) for start in (0.5, -1.0)])
    assert torch.allclose(found.lines.float(), own, atol=1e-6)
    assert found.steps == 8
    assert found.baseline == pytest.approx(float((-0.25 * weights).sum()), rel=1e-5)


def test_pieces_are_halved_until_the_parts_add_up() -> None:
    # A kink at alpha = 0.9 that few points cannot see.
    clip = torch.ones(SHAPE)

    def output(x: Tensor) -> Tensor:
        return torch.relu(x.flatten(1).mean(1) - 0.9) * 100

    found = integrated_gradients(output, clip, [torch.zeros(SHAPE)], points=4)
    assert 4 < found.steps <= 512
    assert found.error <= 0.01
    rough = integrated_gradients(output, clip, [torch.zeros(SHAPE)], points=4, tolerance=1e9)
    assert rough.steps == 4
    assert rough.error > 0.01


def test_points_go_where_the_output_changes() -> None:
    # A step as wide as 1/200 of the line, of which the ends tell the height: 1 but for exp(-60).
    clip = torch.ones(SHAPE)
    seen: list[float] = []

    def output(x: Tensor) -> Tensor:
        level = x.flatten(1).mean(1)
        seen.extend(level.tolist() if x.requires_grad else [])
        return torch.sigmoid((level - 0.3) * 200)

    found = integrated_gradients(output, clip, [torch.zeros(SHAPE)], tolerance=0.001)
    assert float(found.values.sum()) == pytest.approx(1.0, abs=0.001)
    assert torch.allclose(found.values, found.values.mean())
    # Points evenly spread take 400 for this: weights of 1/400 each, two to a width.
    assert found.steps < 100
    assert sum(abs(level - 0.3) < 0.1 for level in seen) > len(seen) / 2


def test_occlusion_takes_away_one_cube_at_a_time() -> None:
    clip, weights = clip_and_weights()
    cubes = torch.tensor([[[1, 1], [2, 2]], [[3, 3], [0, 0]]])
    falls = occlusion(
        lambda x: (x * weights).flatten(1).sum(1), clip, torch.zeros(SHAPE), cubes, batch=2
    )
    # Expected: a linear output falls by the cube's own terms, slow loop over the cubes.
    for name in (1, 2, 3):
        own = (cubes == name)[None, ..., None]
        assert float(falls[name - 1]) == pytest.approx(
            float((clip * weights * own).sum()), abs=1e-5
        )
    assert falls.shape == (3,)
