"""Bad cases are named by patient and file, and the rest goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from trees import SMALL, rewrite, small_tree

from neurocli.core.data.preprocess import preprocess
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.brats.prepare import normalise
from neurocli.systems.brats.synthetic import paint_case

BAD = "BraTS2021_00001"


def swap(folder: Path, a: str, b: str) -> None:
    one, two = folder / f"{BAD}_{a}.nii", folder / f"{BAD}_{b}.nii"
    aside = folder / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


def of(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder / f"{BAD}_{kind}.nii", change)


def put(value: float, dtype: type = np.int16) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(dtype)
        values[tuple(np.argwhere(values > 0)[0])] = value
        return values

    return change


def shifted(folder: Path) -> None:
    path = folder / f"{BAD}_t2.nii"
    affine = nib.load(path).affine.copy()
    affine[0, 3] += 5
    rewrite(path, lambda values: values, affine)


def truncate(folder: Path) -> None:
    path = folder / f"{BAD}_flair.nii"
    path.write_bytes(path.read_bytes()[:-1000])


def saturate(values: np.ndarray) -> np.ndarray:
    scaled = values.astype(np.float64) * (3 * 32767 / values.max())
    return np.minimum(scaled, 32767).astype(np.int16)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda f: (f / f"{BAD}_t1ce.nii").unlink(), "no t1ce", ""),
    "swapped": (lambda f: swap(f, "seg", "t2"), "only labels", "t2"),
    "label image": (
        lambda f: shutil.copy(f / f"{BAD}_t1.nii", f / f"{BAD}_seg.nii"), "values, an image", "seg",
    ),
    "label 3": (of("seg", put(3, np.uint8)), "holds label 3", "seg"),
    "NaN": (of("t1", put(np.nan, np.float32)), "NaN or Inf", "t1"),
    "shape": (of("t2", lambda v: v[:-1]), "another grid", "t2"),
    "affine": (shifted, "moved by 5 mm or turned", "t2"),
    "truncated": (truncate, "cut short", "flair"),
    "cut off": (of("t1", saturate), "cut off", "t1"),
    "negative": (of("flair", lambda v: v - 1), "background must be 0", "flair"),
    "elsewhere": (
        of("seg", lambda v: np.roll(v, (12, 11, 9), (0, 1, 2))), "outside the brain", "seg",
    ),
    "empty": (of("t1", np.zeros_like), "no voxel above 0", "t1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_is_named_and_the_rest_goes_on(tmp_path: Path, fault: str) -> None:
    tree = small_tree(tmp_path / "raw")
    spoil, said, kind = FAULTS[fault]
    spoil(tree / "BraTS2021_Training_Data" / BAD)
    done = preprocess("brats2021", tree, out=tmp_path / "out")
    assert done.done == 2
    assert [name for name, _ in done.failures] == [BAD]
    reason = done.failures[0][1]
    assert said in reason
    assert (f"{BAD}_{kind}.nii" if kind else BAD) in reason


def test_a_patient_who_is_there_twice(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw")
    folder = tree / "BraTS2021_Training_Data" / BAD
    shutil.copytree(folder, tree / "again" / BAD)
    twin = tree / "BraTS2021_Training_Data" / "BraTS2021_00777"
    twin.mkdir()
    for path in folder.iterdir():
        shutil.copy(path, twin / path.name.replace("00001", "00777"))
    done = preprocess("brats2021", tree, out=tmp_path / "out")
    assert done.done == 3
    reasons = dict(done.failures)
    assert "is also in" in reasons[f"{BAD} (2)"]
    assert "one patient twice" in reasons["BraTS2021_00777"]
    assert f"{BAD}_flair.nii" in reasons["BraTS2021_00777"]


def test_what_is_strange_but_usable_is_told(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw")
    folder = tree / "BraTS2021_Training_Data" / BAD
    stretch = 32767 / np.asarray(nib.load(folder / f"{BAD}_t1.nii").dataobj).max()
    rewrite(folder / f"{BAD}_t1.nii", lambda v: np.rint(v * stretch).astype(np.int16))
    rewrite(folder / f"{BAD}_seg.nii", lambda v: np.where(v == 4, 1, v).astype(np.uint8))
    done = preprocess("brats2021", tree, out=tmp_path / "out")
    assert done.failed == 0
    assert f"no enhancing tumour ({BAD})" in done.notes
    assert any("t1 reaches 32767" in note and BAD in note for note in done.notes)


def test_scaling_changes_nothing() -> None:
    volume = paint_case(0, SMALL)[0]["t1"]
    np.testing.assert_allclose(normalise(volume)[0], normalise(volume * 8)[0], atol=1e-6)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no case"):
        preprocess("brats2021", tmp_path, out=tmp_path.parent / "out")
    tree = small_tree(tmp_path / "raw", n_cases=1)
    next(tree.rglob("*_t1.nii")).unlink()
    with pytest.raises(NeuroError, match="no t1"):
        preprocess("brats2021", tree, out=tmp_path / "out")
