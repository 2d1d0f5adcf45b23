"""The template brains and the people made of them."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.systems.fmri.phantom import (
    AFFINE,
    GRID,
    N_ANATOMY,
    SPACING_MM,
    brain_kind,
    make_anatomy,
    template,
)

KINDS = ["mni152", "head"]


@pytest.fixture(scope="module", autouse=True)
def _nilearn() -> None:
    pytest.importorskip("nilearn")


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_itself(kind: str) -> None:
    anatomy = make_anatomy(np.zeros(N_ANATOMY), kind)
    litres = anatomy.mask_XYZ.sum() * SPACING_MM**3 / 1e6
    assert 1.5 < litres < 2.3  # an adult brain with its fluid, as the MNI152 mask has
    assert anatomy.mean_XYZ[anatomy.mask_XYZ].min() > 300
    assert (anatomy.mean_XYZ[~anatomy.mask_XYZ] == 0).all()
    # The brain is whole: it does not touch the faces of the grid.
    for axis in range(3):
        assert not anatomy.mask_XYZ.take(0, axis=axis).any()
        assert not anatomy.mask_XYZ.take(-1, axis=axis).any()


def test_the_mni_brain_lies_where_nilearn_says() -> None:
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_img

    theirs = resample_img(
        load_mni152_brain_mask(resolution=2), AFFINE, GRID, interpolation="nearest"
    ).get_fdata()
    ours = make_anatomy(np.zeros(N_ANATOMY), "mni152").mask_XYZ
    both = 2 * (ours & (theirs > 0)).sum() / (ours.sum() + (theirs > 0).sum())
    assert both > 0.93


@pytest.mark.parametrize("kind", KINDS)
def test_people_differ_and_stay_brains(kind: str) -> None:
    random = np.random.default_rng(0)
    people = [make_anatomy(random.standard_normal(N_ANATOMY), kind) for _ in range(6)]
    again = make_anatomy(np.random.default_rng(0).standard_normal(N_ANATOMY), kind)
    np.testing.assert_array_equal(people[0].mean_XYZ, again.mean_XYZ)
    sizes = [int(person.mask_XYZ.sum()) for person in people]
    assert len(set(sizes)) == 6
    assert min(sizes) > 2500
    masks = np.array([person.mask_XYZ for person in people])
    assert masks.all(axis=0).sum() > 0.55 * max(sizes)


def test_positions_are_template_millimetres() -> None:
    position = make_anatomy(np.zeros(N_ANATOMY), "head").position_V3.reshape(*GRID, 3)
    np.testing.assert_allclose(position[0, 0, 0], AFFINE[:3, 3])
    np.testing.assert_allclose(position[1, 0, 0] - position[0, 0, 0], [SPACING_MM, 0, 0])


def test_templates_are_made_once() -> None:
    assert template("head") is template("head")
    assert template("head").tissue_XYZ.max() <= 1


def test_the_head_stands_in_without_nilearn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert brain_kind() == "mni152"
    monkeypatch.setattr("neurocli.systems.fmri.phantom.find_spec", lambda name: None)
    assert brain_kind() == "head"
