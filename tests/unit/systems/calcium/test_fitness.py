"""Goodness of fit: the most bits a sphere allows, and the loss over fixed pairs."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, hyp0f1

from neurocli.systems.calcium.fitness import attainable_bits, fixed_loss
from neurocli.systems.calcium.sampling import LabelPairs, Pairs, Points, TimePairs


def points(n: int, key: npt.ArrayLike | None = None) -> Points:
    """Return windows of one segment."""
    keys = np.zeros(n, dtype=np.int64) if key is None else np.asarray(key, dtype=np.int64)
    return Points(np.arange(n), np.zeros(n, dtype=np.int64), keys, np.zeros((n, 1)))


def unit(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Return vectors of unit length."""
    x = rng.normal(size=shape)
    found: npt.NDArray[np.float32] = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("f4")
    return found


def slow_bits(n_dims: int, scale: float) -> float:
    """Integrate exp(scale cos) over the density (1 - c^2)^((D - 3) / 2) of a cosine."""
    log_norm = gammaln(n_dims / 2) - gammaln((n_dims - 1) / 2) - math.log(math.pi) / 2

    def at(angle: float) -> float:
        # c = cos(angle) takes away the poles at both ends; the shift by `scale` avoids overflow.
        return math.exp(
            scale * (math.cos(angle) - 1) + log_norm + (n_dims - 2) * math.log(math.sin(angle))
        )

    mean, _ = quad(at, 1e-12, math.pi - 1e-12, epsabs=0, epsrel=1e-10, limit=200)
    return -math.log(mean) / math.log(2)


@pytest.mark.parametrize("n_dims", [2, 3, 5, 8, 64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
def test_bits_equal_an_integral_over_the_sphere(n_dims: int, scale: float) -> None:
    assert attainable_bits(n_dims, scale) == pytest.approx(slow_bits(n_dims, scale), rel=1e-6)


@pytest.mark.parametrize("n_dims", [256, 290, 320, 512, 2048])
def test_many_outputs_have_an_answer_too(n_dims: int) -> None:
    # The Bessel function underflows there. E[exp(k cos)] = 0F1(; D/2; k^2 / 4) by its series.
    series = float(hyp0f1(n_dims / 2, 0.25))
    expected = (1 - math.log(series)) / math.log(2)
    assert attainable_bits(n_dims, 1.0) == pytest.approx(expected, rel=1e-9)


def test_both_branches_meet() -> None:
    # Bits at scale 1 grow smoothly with D: the second differences keep their sign through the
    # widths at which the Bessel function gives way to the series.
    bits = np.array([attainable_bits(d, 1.0) for d in range(260, 340, 4)])
    assert (np.diff(bits) > 0).all()
    assert (np.diff(bits, 2) < 0).all()


def test_bits_grow_with_scale_and_have_their_limits() -> None:
    scales = [0.01, 0.1, 1.0, 5.0, 20.0, 300.0, 3000.0]
    bits = [attainable_bits(16, scale) for scale in scales]
    assert bits == sorted(bits)
    # For tiny scales log E[exp] = s^2 / (2 D), so bits = (s - s^2 / (2 D)) / ln 2.
    assert bits[0] == pytest.approx((0.01 - 1e-4 / 32) / math.log(2), rel=1e-7)
    # In infinitely many dimensions cosines are 0: 1 / ln 2 at scale 1.
    assert attainable_bits(100_000, 1.0) == pytest.approx(1 / math.log(2), rel=1e-5)


def slow_loss(x: npt.NDArray[np.float32], pairs: Pairs, scale: float) -> float:
    total = 0.0
    wide = x.astype(np.float64)
    for ref, pos in zip(pairs.ref[0], pairs.pos[0], strict=True):
        others = sum(math.exp(scale * float(wide[ref] @ wide[n])) for n in pairs.neg[0])
        total += math.log(others) - scale * float(wide[ref] @ wide[pos])
    return total / len(pairs.ref[0])


def test_the_loss_is_the_mean_over_eight_draws_that_are_always_the_same() -> None:
    x = unit(np.random.default_rng(0), 60, 5)
    sampler = TimePairs([points(60)], (3,))
    found, n_negatives = fixed_loss(sampler, [x], 16, 2.0, "cosine")
    # Draw d of eight comes from the generator [20, d].
    slow = [slow_loss(x, sampler.draw(np.random.default_rng([20, d]), 16), 2.0) for d in range(8)]
    assert found == pytest.approx(np.mean(slow), abs=1e-5)
    assert n_negatives == 16
    assert fixed_loss(sampler, [x], 16, 2.0, "cosine")[0] == found


def test_collapsed_embeddings_have_no_bits() -> None:
    # All similarities are equal, so loss = ln N and bits are 0.
    x = np.ones((40, 3), dtype=np.float32) / math.sqrt(3)
    for distance in ("cosine", "euclidean"):
        loss, n = fixed_loss(TimePairs([points(40)], (2,)), [x], 10, 4.0, distance)
        assert loss == pytest.approx(math.log(n), abs=1e-5)


def test_sessions_share_their_negatives_only_when_labels_align_them() -> None:
    rng = np.random.default_rng(1)
    two = [unit(rng, 50, 4), unit(rng, 50, 4)]
    by_time = fixed_loss(TimePairs([points(50)] * 2, (2,)), two, 12, 1.0, "cosine")
    by_label = fixed_loss(LabelPairs([points(50)] * 2, 2), two, 12, 1.0, "cosine")
    assert by_time[1] == 12  # each session tells its own apart
    assert by_label[1] == 24  # references meet the negatives of both
    alone = [fixed_loss(LabelPairs([points(50)], 2), [x], 12, 1.0, "cosine")[1] for x in two]
    assert alone == [12, 12]


def test_random_positives_know_nothing_and_true_ones_reach_the_cap() -> None:
    # Two classes at opposite poles: positives coincide, E[exp(s cos)] = cosh(s) with balanced
    # classes, so bits are (s - ln cosh s) / ln 2; at random a positive has mean cosine 0.
    key = np.arange(2000) % 2
    x = np.where(key[:, None] == 0, 1, -1) * np.array([[1.0, 0.0]])
    sampler = LabelPairs([points(2000, key)], 10)
    scale = 2.0
    loss, n = fixed_loss(sampler, [x.astype(np.float32)], 512, scale, "cosine")
    expected = (scale - math.log(math.cosh(scale))) / math.log(2)
    # Eight draws of 512: the share of a class varies by 0.5 / sqrt(4096) = 0.008.
    assert (math.log(n) - loss) / math.log(2) == pytest.approx(expected, abs=0.05)
    null, _ = fixed_loss(sampler, [x.astype(np.float32)], 512, scale, "cosine", is_null=True)
    assert (math.log(n) - null) / math.log(2) == pytest.approx(
        expected - scale / math.log(2), abs=0.15
    )


def test_a_rotation_of_all_sessions_changes_nothing_and_of_one_does() -> None:
    rng = np.random.default_rng(2)
    key = np.arange(60) % 4
    centre = unit(rng, 4, 6)
    two = [unit(rng, 60, 6) * 0.1 + centre[key] for _ in range(2)]
    two = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in two]
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    sampler = LabelPairs([points(60, key)] * 2, 5)
    plain = fixed_loss(sampler, two, 24, 3.0, "cosine")[0]
    both = fixed_loss(sampler, [x @ turn for x in two], 24, 3.0, "cosine")[0]
    one = fixed_loss(sampler, [two[0], two[1] @ turn], 24, 3.0, "cosine")[0]
    assert both == pytest.approx(plain, abs=1e-5)
    assert one > plain + 0.5
