"""Tell by its content which kind of run an HDF5 file holds."""

from __future__ import annotations

from pathlib import Path

from neurocli.core.data.hdf5 import h5_attributes, open_h5
from neurocli.core.errors import InputError
from neurocli.systems.fmri.store_foreign import ForeignStore
from neurocli.systems.fmri.store_hdf5 import (
    DenseStore,
    Hdf5Store,
    PackedStore,
    check_own,
)
from neurocli.systems.fmri.store_patch import PatchStore
from neurocli.systems.fmri.store_write import DENSE_DATA, PACKED_DATA, PATCH_DATA

_OWN: dict[str, type[Hdf5Store]] = {
    PACKED_DATA: PackedStore,
    PATCH_DATA: PatchStore,
    DENSE_DATA: DenseStore,
}


def open_hdf5(path: Path, person: tuple[str, str]) -> Hdf5Store:
    """Open a run in HDF5, ours or an older one.

    Args:
        path: The file.
        person: Subject and participant where the file names none.

    Raises:
        InputError: The file is damaged, incomplete, or holds no run.
    """
    with open_h5(path) as file:
        attributes = h5_attributes(file)
        names = set(file.keys())
    if str(attributes.get("schema", "")).startswith("neuro/"):
        kind = next((kind for name, kind in _OWN.items() if name in names), DenseStore)
        store = kind(path, attributes, person)
        check_own(store)
        return store
    if DENSE_DATA not in names:
        listed = ", ".join(sorted(map(str, names))[:6]) or "nothing"
        raise InputError(
            path, f"holds no run (found: {listed})", f"{DENSE_DATA} or {PACKED_DATA} is needed"
        )
    return ForeignStore(path, attributes, person)
