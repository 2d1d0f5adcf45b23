"""The plain method: its thresholds are the best of their steps, and are applied as said."""

from __future__ import annotations

import numpy as np
import pytest
from trees import SMALL, small_tree

from neurocli.core.data.preprocess import preprocess
from neurocli.core.metrics.segmentation import dice, label_confusion, region_counts, region_dice
from neurocli.systems.brats.store import Case, case_folders, open_case
from neurocli.systems.brats.thresholds import _EDGES, Thresholds, fit_thresholds


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder = tmp_path_factory.mktemp("thresholds")
    preprocess("brats2021", small_tree(folder / "raw", n_cases=4), out=folder / "out")
    return [open_case(path) for _, path in case_folders(folder / "out")]


def slow_dice(case: Case, thresholds: Thresholds, region: tuple[int, ...]) -> float:
    _, truth = case.whole([])
    confusion = label_confusion(truth, thresholds.whole(case))
    return dice(region_counts(confusion, region), "nan")


def test_whole_tumour_is_cut_where_its_mean_dice_is_best(cases: list[Case]) -> None:
    found = fit_thresholds(cases)
    scores = [
        np.mean([slow_dice(c, Thresholds(edge, 9, -9), (1, 2, 3)) for c in cases])
        for edge in _EDGES[60:200]
    ]
    assert found.flair == pytest.approx(_EDGES[60:200][int(np.argmax(scores))])


def test_enhancing_tumour_is_cut_where_its_mean_dice_is_best(cases: list[Case]) -> None:
    found = fit_thresholds(cases)
    scores = [
        np.nanmean([slow_dice(c, Thresholds(found.flair, edge, -9), (3,)) for c in cases])
        for edge in _EDGES[60:240]
    ]
    alone = Thresholds(found.flair, found.t1ce_high, -9)
    assert np.nanmean([slow_dice(c, alone, (3,)) for c in cases]) == pytest.approx(np.max(scores))


def test_the_core_gains_by_its_dark_part(cases: list[Case]) -> None:
    found = fit_thresholds(cases)
    without = Thresholds(found.flair, found.t1ce_high, -9)
    gain = [slow_dice(c, found, (1, 3)) - slow_dice(c, without, (1, 3)) for c in cases]
    assert np.nanmean(gain) >= 0
    assert found.t1ce_low <= found.t1ce_high


def test_application_by_hand() -> None:
    image = np.zeros((4, 1, 1, 4), dtype=np.float32)
    image[3, 0, 0] = [0.0, 2.0, 2.0, 2.0]  # flair
    image[1, 0, 0] = [5.0, 5.0, 0.0, -3.0]  # t1ce
    found = Thresholds(1.0, 2.0, -2.0).apply(image)
    assert found.ravel().tolist() == [0, 3, 2, 1]


def test_no_enhancing_tumour_anywhere_finds_none(cases: list[Case]) -> None:
    import dataclasses

    bare = [
        dataclasses.replace(c, label=np.where(c.label == 3, 2, c.label).astype(np.uint8))
        for c in cases
    ]
    found = fit_thresholds(bare)
    assert not (found.whole(bare[0]) == 3).any()


def test_whole_volumes_have_their_own_size(cases: list[Case]) -> None:
    found = fit_thresholds(cases)
    for case in cases:
        label = found.whole(case)
        assert label.shape == case.shape == SMALL.shape
        # The box holds everything; outside it there is nothing.
        inside = tuple(
            slice(a, a + n) for a, n in zip(case.start, case.image.shape[1:], strict=True)
        )
        assert label.sum() == label[inside].sum()
    scores = [region_dice(label_confusion(c.whole([])[1], found.whole(c))) for c in cases]
    assert np.mean([s["wt"] for s in scores]) > 0.3
