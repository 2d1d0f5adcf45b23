"""Augmentation against scipy.ndimage, which works from the same definitions independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neurocli.systems.fmri.augment import augment_clips, blur, resample, rotation

SHAPE = (7, 9, 6, 3)


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(SHAPE)).float()


def all_brain(n: int) -> torch.Tensor:
    return torch.ones(n, *SHAPE[:3], dtype=torch.bool)


def test_rotation_turns_about_the_axes_in_order() -> None:
    angles = torch.tensor([0.3, -0.2, 0.5])
    expected = Rotation.from_euler("xyz", angles.numpy() * [1, -1, 1]).as_matrix()
    np.testing.assert_allclose(rotation(angles).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.15, -0.1, 0.17), (0.5, 0.4, -0.6)])
def test_resampling_equals_scipy_in_every_frame(
    clip: torch.Tensor, angles: tuple[float, float, float]
) -> None:
    matrix = rotation(torch.tensor(angles)) * torch.tensor([1.1, 0.9, 1.05])
    found = resample(clip, matrix).numpy()
    centre = (np.array(SHAPE[:3]) - 1) / 2
    offset = centre - matrix.numpy() @ centre
    for t in range(SHAPE[3]):
        expected = ndimage.affine_transform(
            clip[..., t].numpy().astype(np.float64), matrix.numpy(), offset, order=1, mode="nearest"
        )
        np.testing.assert_allclose(found[..., t], expected, atol=2e-5)


def test_one_slice_stays_where_it_is() -> None:
    flat = torch.arange(20.0).reshape(4, 5, 1, 1)
    torch.testing.assert_close(resample(flat, torch.eye(3)), flat)
    assert torch.isfinite(resample(flat, rotation(torch.tensor([0.2, 0.2, 0.2])))).all()


@pytest.mark.parametrize("sigmas", [(0.5, 0.3, 0.2), (0.0, 0.45, 0.1), (1.4, 0.0, 0.7)])
def test_blur_equals_scipy(clip: torch.Tensor, sigmas: tuple[float, float, float]) -> None:
    expected = ndimage.gaussian_filter(
        clip.numpy().astype(np.float64), (*sigmas, 0), mode="nearest", truncate=4.0
    )
    np.testing.assert_allclose(blur(clip, sigmas).numpy(), expected, atol=1e-6)


def test_a_clip_is_changed_by_its_draw_alone(clip: torch.Tensor) -> None:
    clips = torch.stack([clip, 2 * clip, 3 * clip])[:, None]
    together = augment_clips(clips, all_brain(3), [11, 12, 13], kind="all", strength=2.0)
    alone = augment_clips(clips[1:2], all_brain(1), [12], kind="all", strength=2.0)
    assert torch.equal(together[1:2], alone)
    other = augment_clips(clips[1:2], all_brain(1), [15], kind="all", strength=2.0)
    assert not torch.equal(alone, other)
    assert together.dtype == torch.float32
    assert together.shape == clips.shape


def test_half_precision_stays_half_precision(clip: torch.Tensor) -> None:
    clips = clip[None, None].bfloat16()
    changed = augment_clips(clips, all_brain(1), [3], kind="all", strength=9.0)
    assert changed.dtype == torch.bfloat16


def test_outside_the_brain_nothing_changes(clip: torch.Tensor) -> None:
    brain = torch.zeros(1, *SHAPE[:3], dtype=torch.bool)
    brain[0, 2:5, 3:7, 1:5] = True
    clips = torch.where(brain[:, None, ..., None], clip[None, None], torch.tensor(-4.0))
    for draw in range(8):
        changed = augment_clips(clips, brain, [draw], kind="all", strength=2.0)
        assert (changed[0, 0][~brain[0]] == -4.0).all()
    assert not torch.equal(changed, clips)


@pytest.mark.parametrize(("strength", "affine", "noise"), [(1.0, 0.5, 0.3), (2.0, 0.8, 0.8)])
def test_chances_and_noise_are_those_of_the_family(
    strength: float, affine: float, noise: float
) -> None:
    n = 600
    flat = torch.zeros(n, 1, 4, 4, 4, 2)
    ramp = flat + torch.arange(4.0).view(4, 1, 1, 1)
    brain = torch.ones(n, 4, 4, 4, dtype=torch.bool)
    draws = range(n)
    moved = augment_clips(ramp, brain, draws, kind="affine", strength=strength)
    share = float((moved != ramp).flatten(1).any(1).float().mean())
    assert share == pytest.approx(affine, abs=0.07)
    noisy = augment_clips(flat, brain, draws, kind="intensity", strength=strength)
    is_noisy = noisy.flatten(1).std(1) > 0
    assert float(is_noisy.float().mean()) == pytest.approx(noise, abs=0.07)
    spread = float(noisy[is_noisy].flatten(1).std(1).median())
    assert spread == pytest.approx(0.1 * strength, rel=0.05)
    # New noise in every frame: frames of a clip do not go together.
    first, second = noisy[is_noisy][..., 0].flatten(), noisy[is_noisy][..., 1].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.02
