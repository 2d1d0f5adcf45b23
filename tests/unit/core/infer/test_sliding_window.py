"""Sliding windows against MONAI's inferer and against the slow obvious sum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.infer.sliding_window import (
    brain_box,
    labels_from_logits,
    sliding_window_labels,
    sliding_window_logits,
)
from neurocli.core.infer.windows import BLENDS, axis_weights, grid_starts, window_weights

CASES = [
    ((40, 36, 31), (16, 16, 16), 0.1),
    ((40, 36, 31), (16, 16, 16), 0.5),
    ((20, 36, 31), (32, 16, 24), 0.25),  # an axis shorter than its window
    ((33, 17, 50), (17, 17, 17), 0.7),  # an axis as long as its window, much overlap
    ((10, 9, 8), (16, 16, 16), 0.5),  # everything shorter
]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv3d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 4, 3, padding=1)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def volume(shape: tuple[int, ...], n: int = 1) -> Tensor:
    return torch.randn(n, 2, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
@pytest.mark.parametrize(("shape", "roi", "overlap"), CASES)
def test_equals_monai(
    net: nn.Module,
    shape: tuple[int, int, int],
    roi: tuple[int, int, int],
    overlap: float,
    blend: str,
) -> None:
    from monai.inferers import sliding_window_inference

    x = volume(shape, n=2)
    theirs = sliding_window_inference(x, roi, 1, net, overlap=overlap, mode=blend)
    ours = sliding_window_logits(x, net, roi, overlap, blend)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    labels = sliding_window_labels(x, net, roi, overlap, blend)
    assert labels.dtype == torch.uint8
    assert int((labels != theirs.argmax(1)).sum()) == 0


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(("shape", "roi", "overlap"), CASES[:3])
def test_equals_the_weighted_sum_written_out(
    net: nn.Module,
    shape: tuple[int, int, int],
    roi: tuple[int, int, int],
    overlap: float,
    blend: str,
) -> None:
    x = volume(shape)
    before = [max(0, want - have) // 2 for want, have in zip(roi, shape, strict=True)]
    lacks = [max(0, want - have) for want, have in zip(roi, shape, strict=True)]
    pads = [p for b, n in zip(reversed(before), reversed(lacks), strict=True) for p in (b, n - b)]
    padded = nn.functional.pad(x, pads)
    starts = [grid_starts(n, r, overlap) for n, r in zip(padded.shape[2:], roi, strict=True)]
    weight = window_weights(roi, blend).double()
    total = torch.zeros(1, 4, *padded.shape[2:], dtype=torch.float64)
    count = torch.zeros(padded.shape[2:], dtype=torch.float64)
    for a in starts[0]:
        for b in starts[1]:
            for c in starts[2]:
                box = (slice(a, a + roi[0]), slice(b, b + roi[1]), slice(c, c + roi[2]))
                total[(..., *box)] += net(padded[(..., *box)]).double() * weight
                count[box] += weight
    inner = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    expected = (total / count)[(..., *inner)]
    ours = sliding_window_logits(x, net, roi, overlap, blend)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    labels = sliding_window_labels(x, net, roi, overlap, blend)
    assert torch.equal(labels.long(), expected.argmax(1))


def test_the_cosine_is_a_whole_symmetric_period() -> None:
    weights = axis_weights(128, "cosine")
    assert torch.equal(weights, weights.flip(0))
    # sin^2(pi/256) and sin^2(63.5 pi/128) by hand.
    assert float(weights[0]) == pytest.approx(1.506e-4, rel=1e-3)
    assert float(weights[63]) == pytest.approx(0.99985, rel=1e-4)


def test_starts_of_a_challenge_volume() -> None:
    # 240 and 155 voxels with windows of 128: 8 windows at overlap 0.1, 18 at 0.5.
    assert [len(grid_starts(n, 128, 0.1)) for n in (240, 240, 155)] == [2, 2, 2]
    assert [grid_starts(240, 128, 0.5), grid_starts(155, 128, 0.5)] == [[0, 64, 112], [0, 27]]


def test_labels_equal_argmax_with_ties_and_any_number_of_classes() -> None:
    torch.manual_seed(0)
    for n_classes in (1, 2, 4, 7):
        logits = torch.randint(0, 3, (2, n_classes, 5, 50, 40)).float()
        assert torch.equal(labels_from_logits(logits).long(), _first_largest(logits))


def _first_largest(logits: Tensor) -> Tensor:
    best = logits.amax(1, keepdim=True)
    order = torch.arange(logits.shape[1]).view(1, -1, 1, 1, 1)
    return torch.where(logits == best, order, 99).amin(1)


def test_mirroring_equals_brute_force(net: nn.Module) -> None:
    x = volume((12, 11, 10))
    axes = [[a for a in (2, 3, 4) if mask >> (a - 2) & 1] for mask in range(8)]
    expected = sum(net(x.flip(a)).flip(a) if a else net(x) for a in axes) / 8
    ours = sliding_window_logits(x, net, (12, 11, 10), mirror=True)
    torch.testing.assert_close(ours, expected)
    labels = sliding_window_labels(x, net, (12, 11, 10), mirror=True)
    assert torch.equal(labels.long(), expected.argmax(1))


def test_an_ensemble_is_the_mean_of_its_models(net: nn.Module) -> None:
    torch.manual_seed(5)
    other = nn.Conv3d(2, 4, 3, padding=1).eval().requires_grad_(False)
    x = volume((20, 20, 20))
    one, two = (sliding_window_logits(x, m, (16, 16, 16), 0.5) for m in (net, other))
    both = sliding_window_logits(x, [net, other], (16, 16, 16), 0.5)
    torch.testing.assert_close(both, (one + two) / 2)
    labels = sliding_window_labels(x, [net, other], (16, 16, 16), 0.5)
    assert torch.equal(labels.long(), both.argmax(1))


def test_empty_windows_are_computed_once_with_the_same_result(net: nn.Module) -> None:
    calls = []

    def counted(patch: Tensor) -> Tensor:
        calls.append(1)
        return net(patch)

    x = torch.zeros(1, 2, 64, 16, 16)
    x[:, :, :16] = volume((16, 16, 16))
    kwargs = {"overlap": 0.0, "blend": "constant"}
    skipped = sliding_window_logits(x, counted, (16, 16, 16), **kwargs)
    assert len(calls) == 2
    full = sliding_window_logits(x, counted, (16, 16, 16), skip_empty=False, **kwargs)
    assert len(calls) == 2 + 4
    assert torch.equal(skipped, full)


@pytest.mark.parametrize("extent", ["brain", "whole"])
def test_extents_compute_the_box_of_the_brain(net: nn.Module, extent: str) -> None:
    x = torch.zeros(1, 2, 50, 28, 60)
    x[:, :, 17:31, 6:19, 33:45] = volume((14, 13, 12))
    assert brain_box(x[0]) == (slice(17, 31), slice(6, 19), slice(33, 45))
    box = (..., slice(16, 32), slice(0, 28), slice(32, 48))  # multiples of 16, or the edge
    labels = sliding_window_labels(x, net, (8, 8, 8), 0.5, extent=extent)
    if extent == "whole":
        expected = net(x[box]).argmax(1)
    else:
        expected = sliding_window_logits(x[box], net, (8, 8, 8), 0.5).argmax(1)
    assert torch.equal(labels[box].long(), expected)
    outside = labels.clone()
    outside[box] = 0
    assert not outside.any()
    logits = sliding_window_logits(x, net, (8, 8, 8), 0.5, extent=extent)
    assert torch.equal(logits.argmax(1), labels.long())


def test_a_list_of_resolutions_is_read_from_its_finest(net: nn.Module) -> None:
    x = volume((9, 9, 9))
    ours = sliding_window_logits(x, lambda p: [net(p), net(p[..., ::2])], (9, 9, 9))
    assert torch.equal(ours, net(x))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overlap": 1.0}, "outside 0"),
        ({"roi": (0, 4, 4)}, "no window"),
        ({"blend": "cubic"}, "constant, gaussian, cosine"),
        ({"extent": "head"}, "grid, brain, whole"),
    ],
)
def test_refuses_what_makes_no_windows(net: nn.Module, change: dict, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        sliding_window_labels(volume((8, 8, 8)), net, **{"roi": (4, 4, 4), **change})
    assert said in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_values_that_are_not_finite(value: float) -> None:
    def broken(patch: Tensor) -> Tensor:
        out = torch.zeros(1, 4, *patch.shape[2:])
        out[0, 2, 1, 1, 1] = value
        return out

    with pytest.raises(NeuroError, match="not finite"):
        sliding_window_labels(volume((8, 8, 8)), broken, (8, 8, 8))


def test_refuses_another_size() -> None:
    with pytest.raises(NeuroError, match="gives"):
        sliding_window_labels(volume((8, 8, 8)), lambda p: p[..., 1:], (8, 8, 8))
