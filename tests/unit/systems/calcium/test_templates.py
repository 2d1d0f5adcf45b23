"""Templates of movie frames: a slow loop, discriminants of scikit-learn, when they are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from neurocli.systems.calcium.decoding import Side, decode
from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.templates import _MOST_JOINT, template_frames, templates

F = 24


def presentations(
    rng: np.random.Generator, n_repeats: int, n_features: int, noise: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return noisy presentations of a movie whose features follow the same waves each time."""
    turn = 2 * np.pi * np.arange(F)[:, None] / F
    clean = np.cos(turn * rng.integers(1, 4, n_features) + 2 * np.pi * rng.random(n_features))
    frame = np.tile(np.arange(F), n_repeats)
    mixing = rng.normal(size=(n_features, n_features))
    noisy = clean[frame] + noise * rng.normal(size=(len(frame), n_features)) @ mixing
    return noisy.astype(np.float32), frame


def fixed(seed: int, **sizes: Any) -> Any:
    """Return presentations to fit and to decode, drawn from one movie."""
    x, frame = presentations(np.random.default_rng(seed), **sizes)
    half = len(x) // 2
    return (x[:half], frame[:half]), x[half:], frame[half:]


@pytest.mark.parametrize("shrinkage", [0.1, 1.0])
def test_frames_equal_a_slow_loop(shrinkage: float) -> None:
    fit, asked, _ = fixed(0, n_repeats=6, n_features=5, noise=0.4)
    width = 1.5
    # The formula, one frame at a time: scipy cuts its Gaussian at four deviations.
    far = np.abs(np.arange(F)[:, None] - np.arange(F))
    far = np.minimum(far, F - far)
    weight = np.where(far <= round(4 * width), np.exp(-0.5 * (far / width) ** 2), 0)
    mean = np.stack([
        sum(w * x for w, x in zip(weight[f][fit[1]], fit[0].astype(float), strict=True))
        / weight[f][fit[1]].sum()
        for f in range(F)
    ])  # fmt: skip
    rest = fit[0] - mean[fit[1]]
    scatter = rest.T @ rest / len(rest)
    kept = (1 - shrinkage) * scatter + shrinkage * np.diag(np.diag(scatter))
    inverse = np.linalg.inv(kept)
    wanted = [min(range(F), key=lambda f: (x - mean[f]) @ inverse @ (x - mean[f])) for x in asked]
    (found,) = next(iter(template_frames(fit, [asked], F, [(width, shrinkage)])))
    assert np.allclose(templates(fit[0].astype(float), fit[1], F, width), mean)
    assert found.tolist() == wanted


def test_without_smoothing_they_are_linear_discriminants() -> None:
    fit, asked, _ = fixed(1, n_repeats=20, n_features=4, noise=0.3)
    (found,) = next(iter(template_frames(fit, [asked], F, [(1e-3, 0.0)])))
    usual = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(F, 1 / F)).fit(*fit)
    assert (found == usual.predict(asked)).mean() > 0.99  # the floor of variances is 1e-6


def test_frames_that_were_never_shown_are_never_decoded() -> None:
    fit, asked, _ = fixed(2, n_repeats=4, n_features=5, noise=2.0)
    seen = fit[1] < F // 2
    (found,) = next(iter(template_frames((fit[0][seen], fit[1][seen]), [asked], F, [(0.1, 1.0)])))
    assert found.max() < F // 2
    assert np.isnan(templates(fit[0][seen].astype(float), fit[1][seen], F, 0.1)[-2]).all()


def test_a_silent_feature_and_many_features_are_taken() -> None:
    fit, asked, frame = fixed(3, n_repeats=6, n_features=_MOST_JOINT + 1, noise=0.02)
    fit[0][:, 0] = asked[:, 0] = 0
    (found,) = next(iter(template_frames(fit, [asked], F, [(0.3, 0.1)])))
    assert (found == frame).mean() > 0.9


def test_validation_takes_templates_where_neighbours_mislead_and_never_sees_the_judged() -> None:
    rng = np.random.default_rng(4)
    x, frame = presentations(rng, 10, 30, 0.35)
    segment = np.repeat(np.arange(10), F)
    sides = [
        Side(x[part], frame[part], segment[part], np.flatnonzero(part))
        for part in (segment < 8, segment == 8, segment == 9)
    ]
    spec = LabelSpec("movie_one", "movie", F, 1)
    found = decode(spec, *sides)
    assert "template_width" in found.setting
    assert "k" not in found.setting
    spoiled = Side(sides[2].x, (frame[segment == 9] + 7) % F, sides[2].segment, sides[2].centre)
    other = decode(spec, sides[0], sides[1], spoiled)
    assert other.predicted.tolist() == found.predicted.tolist()
    chosen = ("template_width", "shrinkage", "smoothing_s", "penalty", "r2_smoothing_s")
    assert [other.setting[key] for key in chosen] == [found.setting[key] for key in chosen]
