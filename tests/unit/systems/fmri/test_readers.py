"""One reader over every kind of stored run: equal clips, in any number of processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cohort_files import SHAPE, values_of
from run_files import write_foreign
from torch.utils.data import DataLoader

from neurocli.core.data.frames import write_frames
from neurocli.core.data.hdf5 import has_zstd
from neurocli.systems.fmri.clips import ClipPlan, ClipReader, ClipSet, Run
from neurocli.systems.fmri.convert import convert_hdf5
from neurocli.systems.fmri.store import find_stores

N_FRAMES = 14
FORMS = {
    "packed": {"layout": "packed"},
    "packed-int16": {"layout": "packed", "dtype": "int16"},
    "packed-lzf": {"layout": "packed", "compression": "lzf"},
    "dense": {"layout": "dense"},
    "dense-gzip": {"layout": "dense", "compression": "gzip"},
    "patch": {"patch": (2, 2, 2), "scaling": "none"},
    **({"packed-zstd": {"layout": "packed", "compression": "zstd"}} if has_zstd() else {}),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one run of whole numbers below 2048 in every form that can be read."""
    root = tmp_path_factory.mktemp("stores")
    values, mask = values_of(0, N_FRAMES)
    dense = np.zeros((*SHAPE, N_FRAMES), np.float32)
    dense[mask] = np.rint(values.T)
    (root / "older").mkdir()
    older = dense.astype(np.float16)
    found = {
        "gzip": write_foreign(root / "older" / "gzip.h5", older, compression="gzip"),
        "nogzip": write_foreign(root / "older" / "nogzip.h5", older, chunks=(*SHAPE, 1)),
        "contiguous": write_foreign(root / "older" / "contiguous.h5", older),
        "five": write_foreign(root / "older" / "five.h5", older, chunks=(*SHAPE, 5)),
    }
    (root / "frames").mkdir()
    write_frames(root / "frames", np.moveaxis(dense, 3, 0))
    found["frames"] = root / "frames"
    for name, form in FORMS.items():
        convert_hdf5(found["nogzip"], root / name, **form)
        ((_, _, found[name]),) = find_stores(root / name)
    return found


def clips_of(stores: dict[str, Path], *, scaling: str = "voxel-z") -> ClipSet:
    """Return two windows of every store."""
    runs = [Run(name, name, path) for name, path in stores.items()]
    reader = ClipReader(runs, ClipPlan((6, 4, 4), 4, 2, scaling, "none"))
    return ClipSet(reader, [(run, start) for run in range(len(runs)) for start in (1, 6)])


@pytest.mark.parametrize("scaling", ["none", "voxel-z", "minmax"])
def test_all_kinds_give_equal_clips(stores: dict[str, Path], scaling: str) -> None:
    clips = clips_of(stores, scaling=scaling)
    assert len(clips) == 2 * (5 + len(FORMS))
    for index in range(len(clips)):
        ours, reference = clips.sample(index, 0), clips.sample(index % 2, 0)
        np.testing.assert_array_equal(ours["brain"], reference["brain"], ours["subject"])
        np.testing.assert_array_equal(ours["clip"], reference["clip"], ours["subject"])


class Samples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Give clips to torch's loader, through files that this process has opened already."""

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.clips.sample(index, 0)["clip"])


@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (2, "fork"), (2, "spawn")])
def test_any_number_of_workers_reads_the_same(
    stores: dict[str, Path], workers: int, start: str | None
) -> None:
    clips = clips_of(stores)
    wanted = [np.array(clips.sample(index, 0)["clip"]) for index in range(len(clips))]
    loader = DataLoader(
        Samples(clips), batch_size=None, num_workers=workers, multiprocessing_context=start
    )
    for ours, reference in zip(loader, wanted, strict=True):
        np.testing.assert_array_equal(ours, reference)
    # The handles of this process are as good as before.
    np.testing.assert_array_equal(clips.sample(3, 0)["clip"], wanted[3])


def test_a_handle_is_never_shared_with_a_child(stores: dict[str, Path]) -> None:
    import os

    clips = clips_of({"packed": stores["packed"]})
    clips.sample(0, 0)
    store = clips.reader._store(0)
    before = store.file.id.id  # type: ignore[attr-defined]
    child = os.fork()
    if child == 0:
        same = store.file.id.id == before  # type: ignore[attr-defined]
        store.close()
        os._exit(int(same))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.file.id.id == before  # type: ignore[attr-defined]
    clips.sample(1, 0)


def test_a_truncated_file_ends_in_an_error_in_a_worker(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copy(stores["packed"], tmp_path / "x.h5")
    with h5py.File(path) as file:
        offset = file["bold"].id.get_offset()
    Path(path).write_bytes(Path(path).read_bytes()[: offset + 10])
    loader = DataLoader(Samples(clips_of({"x": Path(path)})), batch_size=None, num_workers=1)
    with pytest.raises(Exception, match=r"x\.h5: is a damaged HDF5 file"):
        next(iter(loader))
