"""The pack: latents and gene vectors as memory-mapped float32 arrays with an index of ids.

A block is a folder with `values.npy` (S, F) and `index.json`. The rows of a shuffled batch are read
from it some twenty times as fast as files of one person each. Ids stay as the sources wrote them,
so that how they are matched can change without packing again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_json, durable_path

SCHEMA = "neuro/pack/1"
VALUES, INDEX = "values.npy", "index.json"
Kind = Literal["latents", "gene"]
Float32 = npt.NDArray[np.float32]
_N_HEADER = 128
_GROUP = 128


@dataclass(frozen=True)
class Block:
    """Hold one packed array.

    Args:
        kind: What its rows are.
        name: The gene, or "latents".
        ids: Owner of each row as the source wrote it, (S,).
        shape: Shape of one row before it was flattened.
        folder: Where it lies.
        left_out: (name, reason) of what was found and could not be packed.
        notes: Sentences about the source.
    """

    kind: Kind
    name: str
    ids: list[str]
    shape: tuple[int, ...]
    folder: Path
    left_out: list[tuple[str, str]]
    notes: list[str]

    @property
    def n_features(self) -> int:
        """Return F."""
        return prod(self.shape)

    @cached_property
    def values(self) -> Float32:
        """Return the memory-mapped rows (S, F).

        Raises:
            InputError: The file is not of the size that the index tells.
        """
        path = self.folder / VALUES
        n_bytes = 4 * len(self.ids) * self.n_features
        try:
            offset = path.stat().st_size - n_bytes
        except OSError as error:
            raise InputError(path, "is missing from the pack", "pack the sources again") from error
        if offset != _N_HEADER:
            raise InputError(path, f"does not hold {n_bytes} bytes of values", "pack it again")
        return np.memmap(
            path, np.float32, "r", offset=offset, shape=(len(self.ids), self.n_features)
        )


def absent_block(name: str, n_features: int) -> Block:
    """Return the block of a gene that nobody has.

    Args:
        name: The gene.
        n_features: Length of its vectors elsewhere.
    """
    block = Block("gene", name, [], (n_features,), Path(name), [], [])
    block.__dict__["values"] = np.zeros((1, n_features), dtype=np.float32)
    return block


def write_block(
    folder: Path,
    rows: Iterable[tuple[str, Float32]],
    *,
    kind: Kind,
    name: str,
    about: Mapping[str, Any],
) -> int:
    """Write a block row by row; memory is that of a few rows.

    Args:
        folder: Where; made when missing.
        rows: (id, F values), all of one length.
        kind: What the rows are.
        name: The gene, or "latents".
        about: Further keys of the index; lists in it may still grow while rows are read.

    Returns:
        How many rows were written.

    Raises:
        NeuroError: The disk refuses.
    """
    ids: list[str] = []
    n_features = 0
    with durable_path(folder / VALUES) as temporary, temporary.open("wb") as handle:
        handle.write(b"\0" * _N_HEADER)
        for group in _groups(rows):
            ids += [owner for owner, _ in group]
            n_features = len(group[0][1])
            np.stack([row for _, row in group]).tofile(handle)
        _write_header(handle, (len(ids), n_features))
    shape = about.get("shape") or [n_features]
    index = {"schema": SCHEMA, "kind": kind, "name": name, "ids": ids, **about, "shape": shape}
    durable_json(folder / INDEX, index)
    return len(ids)


def write_values(
    folder: Path, ids: Sequence[str], values: Float32, *, kind: Kind, name: str, **about: Any
) -> None:
    """Write a block of values that are in memory, (S, F)."""
    with durable_path(folder / VALUES) as temporary, temporary.open("wb") as handle:
        handle.write(b"\0" * _N_HEADER)
        np.ascontiguousarray(values, dtype=np.float32).tofile(handle)
        _write_header(handle, values.shape)
    shape = list(about.pop("shape", None) or [values.shape[1]])
    index = {"schema": SCHEMA, "kind": kind, "name": name, "ids": list(ids), "shape": shape}
    durable_json(folder / INDEX, {**index, **about})


def _groups(rows: Iterable[tuple[str, Float32]]) -> Iterator[list[tuple[str, Float32]]]:
    group: list[tuple[str, Float32]] = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group


def _write_header(handle: BinaryIO, shape: tuple[int, ...]) -> None:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    n_text = _N_HEADER - 10
    handle.seek(0)
    handle.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", n_text))
    handle.write(text.ljust(n_text - 1).encode("ascii") + b"\n")


def read_block(folder: Path) -> Block:
    """Return the block in a folder.

    Raises:
        InputError: The index is damaged or of another kind.
    """
    path = folder / INDEX
    index = read_json(path)
    ids, shape = index.get("ids"), index.get("shape")
    if index.get("schema") != SCHEMA or not isinstance(ids, list) or not isinstance(shape, list):
        raise InputError(path, f"is no index of schema {SCHEMA}", "pack the sources again")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise InputError(path, f"tells of rows of shape {shape}", "pack the sources again")
    try:
        left_out = [(str(a), str(b)) for a, b in index.get("left_out", [])]
        notes = [str(note) for note in index.get("notes", [])]
    except (TypeError, ValueError) as error:
        raise InputError(path, "is a damaged index", "pack the sources again") from error
    return Block(
        kind="latents" if index.get("kind") == "latents" else "gene",
        name=str(index.get("name")),
        ids=[str(owner) for owner in ids],
        shape=tuple(shape),
        folder=folder,
        left_out=left_out,
        notes=notes,
    )


@dataclass(frozen=True)
class Pack:
    """Hold the blocks of a folder: the latents, if any, and the genes by name, sorted."""

    folder: Path
    latents: Block | None
    genes: dict[str, Block]


def is_pack(folder: Path) -> bool:
    """Return whether a folder holds blocks."""
    return any(folder.glob(f"*/{INDEX}"))


def open_pack(folder: Path) -> Pack:
    """Open a folder of blocks.

    Raises:
        InputError: A block is damaged.
    """
    blocks = [read_block(path.parent) for path in sorted(folder.glob(f"*/{INDEX}"))]
    latents = next((block for block in blocks if block.kind == "latents"), None)
    genes = {block.name: block for block in blocks if block.kind == "gene"}
    return Pack(folder, latents, dict(sorted(genes.items())))
