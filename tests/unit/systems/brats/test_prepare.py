"""Preparation: the described formula, any orientation, any naming, and back to the input's grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from trees import SMALL, rewrite, small_tree

from neurocli.core.data.preprocess import preprocess
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.discover import find_cases
from neurocli.systems.brats.prepare import foreground, normalise, process_case, to_source
from neurocli.systems.brats.store import case_folders, open_case
from neurocli.systems.brats.synthetic import LAYOUTS, paint_case
from neurocli.systems.brats.volumes import stored_values


def slow_normalised(volume: np.ndarray) -> np.ndarray:
    """Follow the description word by word in float64."""
    brain = volume > 0
    values = np.sort(volume[brain].astype(np.float64))
    cuts = []
    for share in (0.005, 0.995):
        place = share * (len(values) - 1)
        low = int(np.floor(place))
        high = min(low + 1, len(values) - 1)
        cuts.append(values[low] + (place - low) * (values[high] - values[low]))
    clipped = np.clip(volume.astype(np.float64), *cuts)
    mean = clipped[brain].sum() / brain.sum()
    std = np.sqrt(((clipped[brain] - mean) ** 2).sum() / brain.sum())
    return np.where(brain, (clipped - mean) / std, 0.0)


def test_normalisation_is_as_described() -> None:
    images, _ = paint_case(0, SMALL)
    for volume in images.values():
        found, stats = normalise(volume)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, slow_normalised(volume), rtol=0, atol=1e-6)
        assert not found[volume == 0].any()
        assert stats["low"] < stats["mean"] < stats["high"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_cache(tmp_path: Path, layout: str) -> None:
    tree = small_tree(tmp_path / "raw", layout)
    done = preprocess(layout, tree, out=tmp_path / "out")
    assert (done.done, done.failed) == (3, 0)
    cases = [open_case(folder) for _, folder in case_folders(tmp_path / "out")]
    assert len(cases) == 3
    images, label = paint_case(0, SMALL)
    whole, truth = cases[0].whole(range(4))
    assert np.array_equal(truth, label)
    for channel, name in enumerate(MODALITIES):
        np.testing.assert_allclose(whole[channel], slow_normalised(images[name]), atol=1e-6)
    assert cases[0].about["labels"] == ("et3" if layout == "brats2023" else "et4")


def test_grades_and_people_of_2018(tmp_path: Path) -> None:
    tree = small_tree(tmp_path, "brats2018", n_cases=5)
    found = find_cases([tree], {})
    assert found.participants is not None
    assert found.participants["Brats18_TCIA02_104"] == {"grade": "LGG", "site": "TCIA02"}
    assert {item.participant for item in found.items} == set(found.participants)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR"])
def test_any_orientation_is_stored_alike_and_exported_on_its_own_grid(
    tmp_path: Path, codes: str
) -> None:
    tree = small_tree(tmp_path / "raw", n_cases=1)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(codes)
    )
    for path in tree.rglob("*.nii"):
        image = nib.load(path).as_reoriented(turn)
        nib.Nifti1Image(np.array(image.dataobj), image.affine).to_filename(path)
    item = find_cases([tree], {}).items[0]
    (tmp_path / "case").mkdir()
    process_case(item, tmp_path / "case", {})
    case = open_case(tmp_path / "case")
    images, label = paint_case(0, SMALL)
    whole, truth = case.whole([0])
    assert np.array_equal(truth, label)
    np.testing.assert_allclose(whole[0], slow_normalised(images["t1"]), atol=1e-6)
    back, affine = to_source(stored_values(truth, "et4"), case.about["source"])
    seg = nib.load(next(tree.rglob("*_seg.nii")))
    assert np.array_equal(back, np.asarray(seg.dataobj))
    assert np.array_equal(affine, seg.affine)
    assert set(np.unique(back)) == {0, 1, 2, 4}


def test_without_labels(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw", with_labels=False)
    done = preprocess("brats2021", tree, out=tmp_path / "out")
    assert done.done == 3
    assert "no labels" in done.notes[0]
    case = open_case(case_folders(tmp_path / "out")[0][1])
    assert case.label is None
    assert len(case.centres) == 0


def test_a_label_file_with_a_name_of_its_own_is_known(tmp_path: Path) -> None:
    tree = small_tree(tmp_path, n_cases=1)
    seg = next(tree.rglob("*_seg.nii"))
    seg.rename(seg.with_name("W39_1998.09.19_Segm.nii"))
    assert "seg" in find_cases([tree], {}).items[0].details["files"]


def test_centres_are_a_fixed_sample_of_each_class() -> None:
    label = np.zeros((40, 40, 40), dtype=np.uint8)
    label[:30] = 2
    label[35, 3, 4] = 3
    found = foreground(label, seed=7)
    assert np.array_equal(found, foreground(label, seed=7))
    assert not np.array_equal(found, foreground(label, seed=8))
    assert np.bincount(found[:, 0]).tolist() == [0, 0, 10_000, 1]
    assert found[-1].tolist() == [3, 35, 3, 4]
    assert (label[tuple(found[:, 1:].T)] == found[:, 0]).all()
    assert len(np.unique(found, axis=0)) == len(found)


def test_real_cases(real: Path, tmp_path: Path) -> None:
    source = real / "brats" / "brats_2mm" / "Brats18_TCIA01_201_1"
    if not source.is_dir():
        pytest.skip("no real cases here")
    item = find_cases([source], {}).items[0]
    process_case(item, tmp_path, {})
    case = open_case(tmp_path)
    assert case.shape == (120, 120, 77)
    raw = nib.load(source / f"{source.name}_flair.nii.gz")
    seg = nib.load(source / f"{source.name}_seg.nii.gz")
    whole, truth = case.whole([MODALITIES.index("flair")])
    np.testing.assert_allclose(whole[0], slow_normalised(np.asarray(raw.dataobj)), atol=2e-6)
    stored = np.asarray(seg.dataobj)
    assert np.array_equal(stored_values(truth, "et4"), stored)


def test_a_rerun_does_only_what_changed(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw")
    preprocess("brats2021", tree, out=tmp_path / "out")
    assert preprocess("brats2021", tree, out=tmp_path / "out").skipped == 3
    rewrite(next(tree.rglob("*00001_t2.nii")), lambda values: values * 2)
    again = preprocess("brats2021", tree, out=tmp_path / "out")
    assert (again.done, again.skipped) == (1, 2)
