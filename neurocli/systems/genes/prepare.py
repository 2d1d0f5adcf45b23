"""From raw latents and gene tables to packed blocks: on request, or on first use into the cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocli.core.data.cached import made_once
from neurocli.core.data.items import Item
from neurocli.core.events import Listener, ignore
from neurocli.core.paths import cache_dir
from neurocli.systems.genes.built_in import cohort_spec, write_cohort
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.known_truth import Cohort
from neurocli.systems.genes.latent_names import latent_names
from neurocli.systems.genes.pack import (
    INDEX,
    VALUES,
    Block,
    read_block,
    write_block,
    write_values,
)
from neurocli.systems.genes.raw_files import write_raw_files
from neurocli.systems.genes.sources import LatentReader, read_gene

FORMAT_VERSION = "gene-pack/1"
"""Changes whenever the content of a block does."""

_READING = ("latent_pattern", "npz_key", "latent_shape", "nonfinite")
_TABLE = ("iid_column", "gene_dim", "nonfinite", "duplicates")


def process_block(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Pack one source into a folder.

    Args:
        item: From `find_latents`: all latents, one gene's table, or the built-in cohort.
        folder: Private and empty; gets `values.npy` and `index.json`.
        options: Values of `LatentsOptions`.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: The source is damaged or holds what is refused.
        UsageError: A person has different rows in a gene table.
    """
    settings = LatentsOptions.model_validate(dict(options))
    kind = item.details["kind"]
    if kind == "latents":
        files = {name: Path(path) for name, path in item.details["files"].items()}
        pack_latents(folder, files, settings, item.details["notes"])
    elif kind == "gene":
        pack_gene(folder, item.subject, item.sources[0], settings)
    else:
        return _built_in(item, folder, settings)
    block = read_block(folder)
    return {
        "files": [VALUES, INDEX],
        "shape": [len(block.ids), *block.shape],
        "dtype": "float32",
        "affine": None,
        "tr_s": None,
        "stats": {"n_people": len(block.ids)},
        "notes": block.notes,
    }


def _built_in(item: Item, folder: Path, settings: LatentsOptions) -> dict[str, Any]:
    spec = cohort_spec(settings)
    write_cohort(folder, spec)
    if settings.raw_files:
        write_raw_files(folder / "raw", Cohort(spec))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {
        "files": files,
        "shape": [spec.n_people, spec.n_latent],
        "dtype": "float32",
        "affine": None,
        "tr_s": None,
        "stats": {"n_people": spec.n_people, "n_genes": spec.n_genes},
        "notes": [],
    }


def pack_latents(
    folder: Path, files: dict[str, Path], options: LatentsOptions, notes: list[str]
) -> None:
    """Pack latents into a block, row by row; unreadable ones are listed in its index.

    Raises:
        InputError: Nothing can be read, or NaN is met and refused.
    """
    reader = LatentReader(options, [], [], [])
    about = {"shape": reader.shape, "left_out": reader.left_out, "notes": notes}
    write_block(folder, reader.rows(files), kind="latents", name="latents", about=about)


def pack_gene(folder: Path, name: str, path: Path, options: LatentsOptions) -> None:
    """Pack a gene table into a block.

    Raises:
        InputError: It cannot be read.
        UsageError: A person has different rows.
    """
    ids, values, notes = read_gene(path, options)
    write_values(folder, ids, values, kind="gene", name=name, notes=notes)


def packed_latents(folder: Path, options: LatentsOptions, listener: Listener = ignore) -> Block:
    """Return the block of a folder of raw latents, packed into the cache on first use.

    Args:
        folder: Of latents.
        options: How they are read.
        listener: Told when they are packed.

    Raises:
        InputError: The folder holds none, or they cannot be read.
        NeuroError: The cache cannot be written.
    """
    names, notes = latent_names(folder, options.latent_pattern)
    reading = options.model_dump(include=set(_READING))
    target = _place("latents", folder, list(names.values()), reading)

    def make(draft: Path) -> None:
        pack_latents(draft, {who: folder / name for who, name in names.items()}, options, notes)

    what = f"a pack of {len(names)} latents"
    return read_block(made_once(target, make, what=what, listener=listener))


def packed_gene(
    name: str, path: Path, options: LatentsOptions, listener: Listener = ignore
) -> Block:
    """Return the block of a raw gene table, packed into the cache on first use.

    Args:
        name: The gene.
        path: Its table.
        options: How it is read.
        listener: Told when it is packed.

    Raises:
        InputError: The table cannot be read.
        UsageError: A person has different rows.
        NeuroError: The cache cannot be written.
    """
    reading = options.model_dump(include=set(_TABLE))
    target = _place(f"gene {name}", path.parent, [path.name], reading)
    return read_block(
        made_once(
            target,
            lambda draft: pack_gene(draft, name, path, options),
            what=f"a pack of {path.name}",
            listener=listener,
        )
    )


def _place(what: str, folder: Path, names: list[str], options: dict[str, Any]) -> Path:
    """Return where a pack of a folder's files in their present state lies."""
    opened = os.open(folder, os.O_RDONLY)  # so that the way to it is gone only once
    try:
        found = [(name, os.stat(name, dir_fd=opened)) for name in names]
    finally:
        os.close(opened)
    states = [(name, state.st_size, state.st_mtime_ns) for name, state in found]
    where = str(folder.resolve())
    text = json.dumps([FORMAT_VERSION, what, where, states, options], sort_keys=True, default=str)
    return cache_dir() / f"genes-pack-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
