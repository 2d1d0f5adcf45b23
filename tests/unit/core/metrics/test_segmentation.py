"""Tumour measures against MONAI, scikit-learn, and distances computed pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.metrics.lesions import RULES, LesionRules, lesion_scores
from neurocli.core.metrics.paired import holm, paired_tests
from neurocli.core.metrics.segmentation import (
    REGIONS,
    WORST_MM,
    dice,
    hd95,
    label_confusion,
    precision_recall,
    region_counts,
    region_dice,
    region_mask,
)


def pair(seed: int, shape: tuple[int, int, int] = (12, 11, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Return two label maps that agree in part; some lack a class."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, shape).astype(np.uint8)
    predicted = np.where(random.random(shape) < 0.6, truth, random.integers(0, 4, shape))
    if seed % 4 == 1:
        truth[truth == 3] = 2
    if seed % 4 == 2:
        predicted[predicted == 3] = 0
    return truth, predicted.astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_scikit_learn(seed: int) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, predicted = pair(seed)
    found = label_confusion(truth, predicted)
    assert np.array_equal(
        found, confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(4))
    )
    precision, recall, _, _ = precision_recall_fscore_support(
        truth.ravel(), predicted.ravel(), labels=range(4), zero_division=np.nan
    )
    for index in range(4):
        expected = (precision[index], recall[index])
        assert precision_recall(found, index) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
def test_dice_equals_monai(seed: int) -> None:
    import torch
    from monai.metrics import compute_dice

    truth, predicted = pair(seed)
    ours = region_dice(label_confusion(truth, predicted), "nan")
    for name in REGIONS:
        masks = [torch.from_numpy(region_mask(x, name))[None, None] for x in (predicted, truth)]
        assert ours[name] == pytest.approx(float(compute_dice(*masks)), nan_ok=True)


def blobs(seed: int, shape: tuple[int, int, int] = (24, 22, 20)) -> np.ndarray:
    from scipy import ndimage

    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, 2.5) > 0.05


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.0, 2.5)])
def test_hd95_equals_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    import torch
    from monai.metrics import compute_hausdorff_distance

    truth, predicted = blobs(seed), blobs(seed + 100)
    masks = [torch.from_numpy(x)[None, None] for x in (predicted, truth)]
    # MONAI draws surfaces at sub-voxel places once it is told a spacing, and counts voxels then.
    if spacing == (1.0, 1.0, 1.0):
        theirs = float(compute_hausdorff_distance(*masks, percentile=95, include_background=True))
        assert hd95(truth, predicted, spacing) == pytest.approx(theirs, abs=1e-5)
    for definition in ("max", "pooled"):
        expected = slow_hd95(truth, predicted, spacing, definition)
        assert hd95(truth, predicted, spacing, definition=definition) == pytest.approx(expected)


def slow_hd95(truth: np.ndarray, predicted: np.ndarray, spacing: tuple, definition: str) -> float:
    """Measure every surface voxel against every other one."""
    from scipy.spatial.distance import cdist

    places = [np.argwhere(surface(mask)) * np.asarray(spacing) for mask in (truth, predicted)]
    distances = cdist(*places)
    there, back = distances.min(0), distances.min(1)
    if definition == "pooled":
        return float(np.percentile(np.concatenate([there, back]), 95))
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface(mask: np.ndarray) -> np.ndarray:
    """Return voxels with a face towards the outside, the edge of the array included."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inner


def test_the_two_definitions_differ_on_shifted_boxes() -> None:
    truth, predicted = np.zeros((2, 30, 30, 30), dtype=bool)
    truth[5:15, 5:15, 5:15] = True
    predicted[5:15, 5:15, 5:19] = True  # longer by 4 voxels at one face
    assert hd95(truth, predicted, (1, 1, 1)) == 4.0
    assert hd95(truth, predicted, (1, 1, 1), definition="pooled") <= 4.0
    assert hd95(truth, truth, (1, 1, 1)) == 0.0


def test_the_empty_rules() -> None:
    nothing, something = np.zeros((8, 8, 8), dtype=bool), np.ones((8, 8, 8), dtype=bool)
    assert pytest.approx(373.1287, abs=1e-4) == WORST_MM  # the challenge's own number
    table = {  # rule: (both empty, false prediction) as (Dice, HD95)
        "brats": ((1.0, 0.0), (0.0, WORST_MM)),
        "nan": ((math.nan, math.nan), (math.nan, math.nan)),
        "zero": ((0.0, WORST_MM), (0.0, WORST_MM)),
    }
    for rule, (both, false) in table.items():
        for predicted, counts, expected in (
            (nothing, (0, 0, 0), both),
            (something, (0, 512, 0), false),
        ):
            found = dice(counts, rule), hd95(nothing, predicted, (1, 1, 1), empty=rule)
            assert found == pytest.approx(expected, nan_ok=True)
        # A miss is never undefined, or misses would raise a mean.
        assert dice((0, 0, 512), rule) == 0.0
        assert hd95(something, nothing, (1, 1, 1), empty=rule) == WORST_MM
    with pytest.raises(UsageError, match="unknown rule"):
        dice((0, 0, 0), "none")


def test_refuses_other_labels() -> None:
    with pytest.raises(NeuroError, match="outside"):
        label_confusion(np.array([0, 4]), np.array([0, 1]))
    with pytest.raises(NeuroError, match="cannot be compared"):
        label_confusion(np.zeros(3, dtype=int), np.zeros(4, dtype=int))


def test_regions_by_hand() -> None:
    confusion = np.array([[10, 1, 0, 2], [0, 3, 1, 1], [4, 0, 5, 0], [0, 2, 0, 6]])
    # Core: classes 1 and 3. Hits 3+1+2+6, extra 1+2, missed 1.
    assert region_counts(confusion, (1, 3)) == (12, 3, 1)


def ball(centre: tuple[int, int, int], radius: float, shape: tuple[int, int, int]) -> np.ndarray:
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return ((place - centre) ** 2).sum(-1) <= radius**2


def slow_lesions(
    truth: np.ndarray, predicted: np.ndarray, spacing: tuple, rules: LesionRules
) -> tuple[float, float, int, int, int]:
    """Follow the published rules word by word over the whole volume, component by component."""
    from scipy import ndimage

    full, cross = np.ones((3, 3, 3)), ndimage.generate_binary_structure(3, 2)
    parts, n_parts = ndimage.label(predicted, full)
    own, n_own = ndimage.label(truth, full)
    merged, n_merged = ndimage.label(
        ndimage.binary_dilation(truth, cross, iterations=rules.dilation), full
    )
    lesions = []
    for group in range(1, n_merged + 1):
        inside = [i for i in range(1, n_own + 1) if merged[own == i][0] == group]
        lesions.append(np.isin(own, inside))
    overlaps, distances, touched, found = [], [], set(), 0
    for lesion in lesions:
        around = ndimage.binary_dilation(lesion, cross, iterations=rules.dilation)
        near = {i for i in range(1, n_parts + 1) if (around & (parts == i)).any()}
        touched |= near
        if lesion.sum() * np.prod(spacing) <= rules.smallest_mm3:
            continue
        if not near:
            overlaps.append(0.0)
            distances.append(374.0)
            continue
        found += 1
        union = np.isin(parts, list(near))
        overlaps.append(2 * (union & lesion).sum() / (union.sum() + lesion.sum()))
        distances.append(slow_hd95(lesion, union, spacing, "max"))
    n_false = n_parts - len(touched)
    count = len(overlaps) + n_false
    if count == 0:
        return 1.0, 0.0, 0, 0, 0
    score = sum(overlaps) / count, (sum(distances) + 374.0 * n_false) / count
    return *score, found, len(overlaps) - found, n_false


@pytest.mark.parametrize("rules", ["gli", "met"])
@pytest.mark.parametrize("seed", range(6))
def test_lesion_scores_equal_the_rules_word_by_word(seed: int, rules: str) -> None:
    random = np.random.default_rng(seed)
    shape = (36, 34, 30)
    truth, predicted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for _ in range(int(random.integers(1, 6))):
        centre = tuple(random.integers(3, 27, 3))
        truth |= ball(centre, random.uniform(0.5, 4), shape)
        if random.random() < 0.7:
            moved = tuple(np.asarray(centre) + random.integers(-2, 3, 3))
            predicted |= ball(moved, random.uniform(0.5, 4), shape)
    for _ in range(int(random.integers(0, 3))):
        predicted |= ball(tuple(random.integers(3, 27, 3)), 1.5, shape)
    spacing = (1.0, 1.0, 1.5)
    ours = lesion_scores(truth, predicted, spacing, RULES[rules])
    expected = slow_lesions(truth, predicted, spacing, RULES[rules])
    found = (ours.dice, ours.hd95_mm, ours.n_found, ours.n_missed, ours.n_false)
    assert found == pytest.approx(expected)


def test_lesions_that_are_not_there() -> None:
    nothing = np.zeros((9, 9, 9), dtype=bool)
    assert lesion_scores(nothing, nothing, (1, 1, 1)).dice == 1.0
    false = lesion_scores(nothing, ball((4, 4, 4), 2, (9, 9, 9)), (1, 1, 1))
    assert (false.dice, false.hd95_mm, false.n_false) == (0.0, 374.0, 1)


def test_paired_tests_equal_scipy_and_holm_by_hand() -> None:
    from scipy.stats import wilcoxon

    random = np.random.default_rng(0)
    scores = {"a": random.random(20)}
    scores["b"] = scores["a"] - 0.1 * random.random(20)
    scores["c"] = scores["a"] + 0.01 * random.standard_normal(20)
    scores["c"][3] = np.nan
    found = paired_tests(scores)
    assert [(t.first, t.second, t.n) for t in found] == [
        ("a", "b", 20), ("a", "c", 19), ("b", "c", 19),
    ]  # fmt: skip
    assert found[0].p == pytest.approx(wilcoxon(scores["a"], scores["b"]).pvalue)
    # Step-down by hand: 3 x 0.01, then 2 x 0.03, then 1 x 0.04 raised to the one before.
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    equal = paired_tests({"a": np.ones(5), "b": np.ones(5)})[0]
    assert all(map(math.isnan, (equal.p, equal.p_holm)))
