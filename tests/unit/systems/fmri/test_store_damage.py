"""Damaged, cut and foreign files are refused by name, never read as zeros."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from store_files import N, write

from neurocli.core.errors import InputError
from neurocli.systems.fmri.store import open_store


def damage(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        if how == "incomplete":
            file.attrs["complete"] = False
        elif how == "no mark":
            del file.attrs["complete"]
        elif how == "frames":
            file.attrs["n_frames"] = N + 1
        elif how == "newer":
            file.attrs["schema"] = np.bytes_("neuro/fmri-run/2")
        elif how == "subject":
            del file.attrs["subject"]
        elif how == "affine":
            file.attrs["affine"] = np.zeros((4, 4))
        elif how == "tr":
            file.attrs["tr_s"] = np.nan
        elif how == "stats":
            file.attrs["global_std"] = np.nan
        elif how == "mask":
            file["mask"][0, 0, 0] = 1
        elif how == "nan":
            values = file["bold"][:]
            values[4, 1] = np.nan
            del file["bold"]
            file["bold"] = values
        elif how == "no data":
            del file["bold"]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("incomplete", "not marked complete"),
        ("no mark", "not marked complete"),
        ("frames", "holds 9 frames and claims 10"),
        ("newer", "schema 'neuro/fmri-run/2'"),
        ("subject", "lacks the attribute subject"),
        ("affine", "affine is singular"),
        ("tr", "tr_s is nan"),
        ("stats", "global_std"),
        ("mask", "mask holds"),
        ("nan", "1 values are NaN or Inf, the first in frame 4"),
        ("no data", "no such dataset"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, how: str, problem: str) -> None:
    path = write(tmp_path / "x.h5", "packed", "float32")
    damage(path, how)
    with pytest.raises(InputError, match=problem) as caught, open_store(path) as store:
        _ = store.info, store.stats, store.mask, store.read_packed(slice(None))
    assert "x.h5" in str(caught.value)


@pytest.mark.parametrize("layout", ["packed", "dense"])
def test_flipped_bits_in_values_are_noticed(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "x.h5", layout, "float32")
    with h5py.File(path) as file:
        if layout == "packed":
            offset, size = file["bold"].id.get_offset(), file["bold"].id.get_storage_size()
        else:
            info = file["fmri_data"].id.get_chunk_info(2)
            offset, size = info.byte_offset, info.size
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 8
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"), open_store(path) as store:
        store.read_packed(slice(None))


def test_packed_files_of_chunks_without_sums_are_read(tmp_path: Path) -> None:
    # As versions before the sums wrote them.
    path = write(tmp_path / "x.h5", "packed", "float32")
    with open_store(path) as store:
        wanted = store.read_packed(slice(None))
    with h5py.File(path, "r+") as file:
        values = file["bold"][:]
        del file["bold"], file["frame_sums"]
        file.create_dataset("bold", data=values, chunks=(1, values.shape[1]), fletcher32=True)
    with open_store(path) as store:
        np.testing.assert_array_equal(store.read_packed(slice(None)), wanted)
    with h5py.File(path, "r+") as file:
        file["bold"][4, 2] = np.nan
    with open_store(path) as store, pytest.raises(InputError, match="the first in frame 4"):
        store.read_packed(slice(None))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_cut_files_are_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "x.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError), open_store(path) as store:
        store.read_packed(slice(None))


def test_other_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights"] = [1.0]
    with pytest.raises(InputError, match=r"holds no run .found: weights"):
        open_store(tmp_path / "x.h5")
    (tmp_path / "y.h5").write_text("hello")
    with pytest.raises(InputError, match=r"y\.h5"):
        open_store(tmp_path / "y.h5")
