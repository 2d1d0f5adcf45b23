"""Real runs to a standard folder, as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from prepared_tree import check_whole, records

from neurocli import preprocess
from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.store import find_stores, open_store

CASES: dict[str, tuple[str, list[str], dict[str, Any], dict[str, Any]]] = {
    # name: (kind, sources, options, what must come out of the first item)
    "ds005": ("bids", ["ds005"], {}, {"n": 1, "shape": [50, 50, 34, 16], "tr_s": 2.0}),
    "haxby_25mm": ("nifti", ["haxby_25mm"], {}, {"n": 12, "shape": [6, 10, 10, 121], "tr_s": 2.5}),
    "haxby_1slice": (
        "nifti", ["haxby_1slice"], {}, {"n": 13, "shape": [40, 20, 1, 1452], "tr_s": 2.5},
    ),
    "rtcloud": (
        "nifti", ["rtcloud_faceMatching_11vol.nii.gz"], {},
        {"n": 1, "shape": [64, 64, 27, 11], "tr_s": 1.5},
    ),
    "pcasl": ("nifti", ["pcasl.nii.gz"], {}, {"n": 1, "shape": [52, 68, 20, 10], "tr_s": 2.54}),
    "pyneal": ("nifti", ["pyneal"], {}, {"n": 1, "shape": [64, 64, 30, 3], "tr_s": 1.0}),
    "nitime": ("nifti", ["nitime"], {}, {"n": 2, "shape": [10, 10, 18, 40], "tr_s": 1.35}),
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("case", CASES)
def test_real_runs_are_prepared(real: Path, tmp_path: Path, case: str) -> None:
    kind, sources, options, wanted = CASES[case]
    paths = [real / "fmri" / source for source in sources]
    result = preprocess(kind, *paths, out=tmp_path / "out", options=options)
    assert (result.done, result.failed) == (wanted["n"], 0)
    check_whole(tmp_path / "out", result)
    first = next(iter(records(tmp_path / "out").values()))
    assert first["shape"] == wanted["shape"]
    assert first["tr_s"] == pytest.approx(wanted["tr_s"])
    share = first["stats"]["qc"]["mask_share"]
    assert 0.1 < share < 1


@pytest.mark.real
def test_real_values_come_through_unchanged(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "rtcloud_faceMatching_11vol.nii.gz"
    preprocess("nifti", source, out=tmp_path / "out")
    image = nib.load(source)
    with open_store(find_stores(tmp_path / "out")[0][2]) as store:
        values = image.get_fdata(dtype=np.float32)[store.mask].T
        np.testing.assert_array_equal(store.read_packed(slice(None)), values)
        np.testing.assert_allclose(store.affine, image.affine, atol=1e-5)
        assert store.info.orientation == "".join(nib.aff2axcodes(image.affine))


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "mask", "there", "here"),
    [
        ("pyneal/testSeries.nii.gz", "pyneal/testSeries_mask.nii.gz", "3.75x3.75x4 mm", "1x1x1 mm"),
        (
            "ds005/sub-01/func/sub-01_task-mixedgamblestask_run-01_bold.nii.gz",
            "ds005/derivatives/fmriprep/sub-01/func/"
            "sub-01_task-mixedgamblestask_run-01_bold_space-MNI152NLin2009cAsym_brainmask.nii.gz",
            "49x58x49",
            "50x50x34",
        ),
    ],
)
def test_real_masks_on_other_grids_are_refused(
    real: Path, tmp_path: Path, source: str, mask: str, there: str, here: str
) -> None:
    paths = real / "fmri" / source, real / "fmri" / mask
    with pytest.raises(NeuroError) as caught:
        preprocess("nifti", paths[0], out=tmp_path / "out", options={"mask": str(paths[1])})
    text = str(caught.value)
    assert "mask is on" in text
    assert there in text
    assert here in text
    assert "--mask auto" in text


@pytest.mark.real
def test_real_masks_on_the_same_grid_are_used(real: Path, tmp_path: Path) -> None:
    folder = real / "fmri" / "haxby_25mm"
    mask = folder / "masks" / "brain.nii.gz"
    source = folder / "run001_bold_25mm.nii.gz"
    result = preprocess("nifti", source, out=tmp_path / "out", options={"mask": str(mask)})
    assert result.done == 1
    with open_store(find_stores(tmp_path / "out")[0][2]) as store:
        np.testing.assert_array_equal(store.mask, nib.load(mask).get_fdata() > 0)


@pytest.mark.real
def test_real_single_volumes_are_refused(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "ds005" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    with pytest.raises(NeuroError, match=r"3D .40x64x64. where a 4D series is needed"):
        preprocess("nifti", source, out=tmp_path / "out")


@pytest.mark.real
def test_real_runs_reach_mni_space(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "rtcloud_faceMatching_11vol.nii.gz"
    result = preprocess("nifti", source, out=tmp_path / "out", options={"space": "mni2mm"})
    record = next(iter(records(tmp_path / "out").values()))
    assert record["shape"] == [91, 109, 91, 11]
    assert "no registration was done" in result.notes[0]
