"""The made-up cohort holds the truths it claims, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.events import Note
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.built_in import built_in_cohort
from neurocli.systems.brats.store import case_folders, open_case
from neurocli.systems.brats.synthetic import LAYOUTS, CohortSpec, case_name, paint_case, write_tree

SPEC = CohortSpec(shape=(40, 40, 30))


@pytest.fixture(scope="module")
def painted() -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    return [paint_case(index, SPEC) for index in range(12)]


def levels(painted: list, contrast: str) -> np.ndarray:
    """Return the mean z value of each class, (cases, 4), NaN where a class is absent."""
    rows = []
    for images, label in painted:
        values = images[contrast].astype(float)
        brain = values > 0
        z = (values - values[brain].mean()) / values[brain].std()
        rows.append(
            [z[brain & (label == k)].mean() if (label == k).any() else np.nan for k in range(4)]
        )
    return np.array(rows)


def test_oedema_shows_in_flair_alone(painted: list) -> None:
    lift = {name: np.nanmean(levels(painted, name), 0) for name in MODALITIES}
    assert lift["flair"][2] - lift["flair"][0] > 1.5
    for name in ("t1", "t1ce", "t2"):
        assert abs(lift[name][2] - lift[name][0]) < 0.5, name


def test_enhancement_and_necrosis_show_in_t1ce_alone(painted: list) -> None:
    lift = {name: np.nanmean(levels(painted, name), 0) for name in MODALITIES}
    assert lift["t1ce"][3] - lift["t1ce"][2] > 1.5
    assert lift["t1ce"][2] - lift["t1ce"][1] > 0.7
    for name in ("t1", "t2", "flair"):
        between = lift[name][[1, 3]] - lift[name][2]
        assert np.abs(between).max() < 0.8, name


def test_something_misleads_in_both(painted: list) -> None:
    for images, label in painted[:4]:
        brain = images["flair"] > 0
        for name in ("flair", "t1ce"):
            outside = images[name][brain & (label == 0)]
            inside = images[name][label == (2 if name == "flair" else 3)] if label.any() else []
            if len(inside):
                assert (outside > np.median(inside)).sum() > 20


def test_who_is_in_the_cohort(painted: list) -> None:
    from scipy import ndimage

    present = [sorted(set(np.unique(label)) - {0}) for _, label in painted]
    assert present[4] == [1, 2]  # no enhancing tumour
    assert all(3 in kinds for number, kinds in enumerate(present) if number != 4)
    assert ndimage.label(painted[7][1] == 3)[1] >= 2  # two tumours
    assert ndimage.label(painted[10][1] == 3)[1] >= 2  # an island


def test_background_is_exactly_zero_and_values_fit(painted: list) -> None:
    for images, label in painted:
        brain = images["t1"] > 0
        for values in images.values():
            assert values.dtype == np.int16
            assert np.array_equal(values > 0, brain)
            assert values.max() < 32767
        assert not label[~brain].any()


def test_a_case_is_a_function_of_seed_and_index() -> None:
    one, again = paint_case(3, SPEC), paint_case(3, CohortSpec(n_cases=99, shape=SPEC.shape))
    assert all(np.array_equal(one[0][name], again[0][name]) for name in MODALITIES)
    assert np.array_equal(one[1], again[1])
    other = paint_case(3, CohortSpec(seed=1, shape=SPEC.shape))
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trees(tmp_path: Path, layout: str) -> None:
    folders = write_tree(tmp_path, layout, CohortSpec(n_cases=2, shape=(16, 16, 12)))
    names = sorted(path.name for path in folders[0].iterdir())
    assert len(names) == 5
    words = {"brats2018": "_t1ce.", "brats2021": "_t1ce.", "brats2023": "-t1c."}
    assert any(words[layout] in name for name in names)
    assert folders[0].name in names[0]


def test_the_built_in_cohort_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, Note):
            said.append(event.message)

    spec = CohortSpec(n_cases=2)
    folder = built_in_cohort(tmp_path, spec, hear)
    assert built_in_cohort(tmp_path, spec, hear) == folder
    assert len([text for text in said if "making" in text]) == 1
    about = json.loads((folder / "dataset.json").read_text())
    assert (about["built_in_data"], about["n_done"]) == (True, 2)
    (name, path), _ = case_folders(folder)
    assert name == case_name(0)
    assert np.array_equal(open_case(path).whole([])[1], paint_case(0, CohortSpec())[1])
    assert list(tmp_path.iterdir()) == [folder]  # no draft is left
