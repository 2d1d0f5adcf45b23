"""Decoding, agreement, goodness of fit and attribution against closed forms and known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from neurocli.core.nn.partition import log_partition
from neurocli.systems.calcium.attribution import attribute, jacobian
from neurocli.systems.calcium.consistency import by_value, consistency
from neurocli.systems.calcium.decoding import Side, is_right, neighbours, r2_of, ridge
from neurocli.systems.calcium.fitness import attainable_bits
from neurocli.systems.calcium.labels import LabelSpec, classes_and_values, with_null
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.session import Session

MOVIE = LabelSpec("movie_one", "movie", 300, 30)


def side(x: np.ndarray, y: np.ndarray) -> Side:
    zero = np.zeros(len(x), dtype=np.int64)
    return Side(x.astype(np.float32), y, zero, zero)


def test_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, asked = (
        rng.normal(size=(50, 4)).astype(np.float32),
        rng.normal(size=(9, 4)).astype(np.float32),
    )
    y = rng.normal(size=(50, 2)) + x[:, :2]
    centre, spread = x.mean(0), x.std(0)
    model = Ridge(alpha=3.0).fit((x - centre) / spread, y)
    assert np.allclose(ridge(x, y, asked, 3.0), model.predict((asked - centre) / spread), atol=1e-6)


def test_votes_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    x, asked = rng.normal(size=(200, 5)), rng.normal(size=(60, 5))
    y = rng.integers(0, 4, 200)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    turned = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    found = neighbours(side(x, y), asked.astype(np.float32), [1, 7], LabelSpec("c", "class", 4))
    for k, own in found.items():
        model = KNeighborsClassifier(k).fit(unit, y)
        votes = np.sort(model.predict_proba(turned), axis=1)
        is_clear = votes[:, -1] > votes[:, -2] + 1e-9  # tied votes may fall to either class
        assert is_clear.sum() > 30
        assert np.array_equal(own[is_clear], model.predict(turned)[is_clear])


def test_frames_are_averaged_on_the_circle() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]])
    found = neighbours(side(x, np.array([299, 1, 150])), x[:1].astype(np.float32), [2], MOVIE)[2]
    assert found.tolist() == [0.0]
    right = is_right(MOVIE, np.array([0, 0, 0]), np.array([270.0, 30.0, 31.0]))
    assert right.tolist() == [True, True, False]


def test_attainable_bits_equal_a_numerical_integral() -> None:
    # In three dimensions the cosine of a uniform direction is uniform on [-1, 1].
    for scale in (0.5, 1.0, 10.0):
        cosine = np.linspace(-1, 1, 200_001)
        mean = np.trapezoid(np.exp(scale * cosine), cosine) / 2
        assert attainable_bits(3, scale) == pytest.approx(
            (scale - np.log(mean)) / np.log(2), abs=1e-6
        )
    # Values measured for the published objective at temperature 1 and 0.5.
    assert attainable_bits(32, 1.0) == pytest.approx(1.420, abs=5e-4)
    assert attainable_bits(32, 2.0) == pytest.approx(2.795, abs=5e-4)


@pytest.mark.parametrize("scale", [0.5, 10.0, 50.0])
def test_the_partition_is_logsumexp(scale: float) -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(n, 4).double(), dim=-1) for n in (6, 9))
    a.requires_grad_(True), b.requires_grad_(True)
    found, plain = log_partition(a, b, scale), torch.logsumexp(scale * a @ b.T, -1)
    assert torch.allclose(found, plain, atol=1e-12)
    weight = torch.randn(6).double()
    for one, two in zip(
        torch.autograd.grad((found * weight).sum(), (a, b)),
        torch.autograd.grad((plain * weight).sum(), (a, b)), strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, two, atol=1e-10)


def test_rotated_copies_are_consistent_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    phase = 2 * np.pi * np.arange(300) / 300
    table = np.stack([np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)], 1)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    tables = [table.astype(np.float32), (table @ turn).astype(np.float32)]
    held_out, in_sample = consistency(tables)
    assert held_out == pytest.approx(1, abs=1e-3)
    assert in_sample >= held_out - 1e-3
    noise = [rng.normal(size=(300, 4)).astype(np.float32) for _ in range(2)]
    assert consistency(noise)[0] < 0.05
    assert np.isnan(consistency(tables[:1])[0])


def test_means_by_value() -> None:
    x = np.array([[1.0], [3.0], [5.0]], dtype=np.float32)
    found = by_value(x, np.array([1, 1, -1]), 3)
    assert found[1, 0] == 2.0
    assert np.isnan(found[[0, 2]]).all()


def session(**labels: np.ndarray) -> Session:
    n = len(next(iter(labels.values())))
    traces = np.zeros((n, 1), dtype=np.float32)
    return Session("s", traces, 30.0, 0.0, {}, labels, ("0",), "array", "none")


def test_stimuli_unite_and_other_labels_combine() -> None:
    movie, direction = np.array([0, 1, -1, -1]), np.array([-1, -1, 2, -1])
    specs = [MOVIE, LabelSpec("direction", "class", 8)]
    key, value = classes_and_values(session(movie_one=movie, direction=direction), specs)
    assert key.tolist() == [0, 0, 3, -1]
    assert value[:, 0].tolist() == [0, 1, 0, 0]
    place, lap = np.array([0.5, np.nan, 0.7, 0.1]), np.array([1, 0, 1, -1])
    specs = [LabelSpec("place", "number"), LabelSpec("lap", "class", 2)]
    key, value = classes_and_values(session(place=place, lap=lap), specs)
    assert key.tolist() == [1, -1, 1, -1]
    assert value[[0, 2], 0].tolist() == [0.5, 0.7]


def test_a_shuffle_is_the_same_in_all_presentations() -> None:
    frame = np.tile(np.arange(300), 3).astype(np.int32)
    found = with_null(session(movie_one=frame), [MOVIE], "shuffle", 0).labels["movie_one"]
    assert np.array_equal(found[:300], found[300:600])
    assert sorted(found[:300]) == list(range(300))
    assert np.abs(np.corrcoef(found[:300], np.arange(300))[0, 1]) < 0.2


def test_the_jacobian_is_autograds_and_finds_the_neurons_that_matter() -> None:
    torch.manual_seed(0)
    model = SessionEncoders([7], encoder="offset5", hidden=8, outputs=3).double().eval()
    windows = torch.randn(4, 5, 7, dtype=torch.float64)
    expected = torch.stack([torch.autograd.functional.jacobian(lambda w: model(w[None])[0], w)
                            for w in windows])  # fmt: skip
    assert torch.allclose(jacobian(model, windows), expected, atol=1e-10)
    with torch.no_grad():
        model.inputs[0].weight[:, 3:] = 0  # type: ignore[index]
    found = attribute(model, windows)
    assert found.jacobian[:3].min() > 1e-6
    assert found.jacobian[3:].max() == 0


def test_r2() -> None:
    target = np.array([[0.0], [1.0], [2.0]])
    assert r2_of(np.concatenate([target, target], 1)) == 1.0
    assert r2_of(np.concatenate([target, np.ones_like(target)], 1)) == 0.0
