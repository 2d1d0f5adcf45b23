"""Frame files out of preparation and back into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prepared_run import process
from run_files import bold, item_of, write_nifti

from neurocli.core.data.frames import frame_paths, read_frame, read_stats
from neurocli.core.data.items import Item
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.fmri.store import open_store


@pytest.mark.parametrize("scaling", ["none", "znorm_minback"])
def test_frame_files_hold_whole_volumes(source: Path, folder: Path, scaling: str) -> None:
    fields, store = process(item_of(source), folder, frames="pt", scaling=scaling)
    assert fields["files"][:3] == ["bold.h5", "qc.json", "frame_0.pt"]
    assert fields["files"][-1] == "global_stats.pt"
    packed = store.read_packed(slice(None))
    for index, path in enumerate(frame_paths(folder)):
        frame = read_frame(path)
        np.testing.assert_array_equal(frame[store.mask], packed[index].astype(np.float16))
        assert set(frame[~store.mask].tolist()) == {float(np.float16(store.background))}
    assert read_stats(folder) == store.stats


def test_frames_that_overflow_fail(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold() * 100)
    with pytest.raises(InputError, match="float16 ends at 65504"):
        process(item_of(path), folder, frames="pt")


def test_frame_folders_are_prepared_too(source: Path, folder: Path, tmp_path: Path) -> None:
    process(item_of(source), folder, frames="pt")
    raw = open_store(folder / "bold.h5")
    item = Item("s", "s", tuple(frame_paths(folder)), {"kind": "frames"})
    second = tmp_path / "second"
    second.mkdir()
    _, store = process(item, second)
    np.testing.assert_array_equal(store.mask, raw.mask)
    np.testing.assert_array_equal(
        store.read_packed(slice(None)), raw.read_packed(slice(None)).astype(np.float16)
    )
    assert store.stats == raw.stats
    assert store.scaling == "none"


def test_scaled_frames_are_not_scaled_again(source: Path, folder: Path, tmp_path: Path) -> None:
    process(item_of(source), folder, frames="pt", scaling="znorm_zeroback")
    (folder / "global_stats.pt").unlink()
    item = Item("s", "s", tuple(frame_paths(folder)), {"kind": "frames"})
    second = tmp_path / "second"
    second.mkdir()
    with pytest.raises(InputError, match=r"is already scaled .znorm_zeroback.") as caught:
        process(item, second, scaling="voxel-z")
    assert caught.value.hint == "choose --scaling none"
    _, store = process(item, second)
    assert store.scaling == "znorm_zeroback"


def test_unknown_kinds_of_series_are_named(folder: Path) -> None:
    with pytest.raises(NeuroError, match="unknown kind of series 'dicom'"):
        process(Item("s", "s", (), {"kind": "dicom"}), folder)


def test_same_run_same_bytes(source: Path, folder: Path, tmp_path: Path) -> None:
    process(item_of(source), folder, frames="pt")
    second = tmp_path / "second"
    second.mkdir()
    process(item_of(source), second, frames="pt")
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
