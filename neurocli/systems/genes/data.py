"""Opening latents and genes for a run: who is paired, who is in which part, and batches.

Families are never divided between parts. Without a folder the built-in cohort stands in, and the
result says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurocli.core.config.run import RunConfig
from neurocli.core.data.output import PEOPLE_FILE
from neurocli.core.engine.task import Part, RunData, SampleSet
from neurocli.core.errors import InputError, UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.names import choices_text
from neurocli.systems.genes.built_in import (
    built_in_cohort,
    cohort_spec,
    read_truth,
)
from neurocli.systems.genes.cohort import PairedCohort, choose_genes, pair_people
from neurocli.systems.genes.config import (
    SOLUTION,
    GenesDataBlock,
    GenesTaskBlock,
    LatentsOptions,
)
from neurocli.systems.genes.covariates import columns_of, strata_of
from neurocli.systems.genes.divide import assign_people, fill_absent, set_families, take_out
from neurocli.systems.genes.pack import Block, absent_block, is_pack, open_pack
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.prepare import packed_gene, packed_latents
from neurocli.systems.genes.sources import gene_files

OBJECTIVE = "align"


def open_data(
    config: RunConfig,
    listener: Listener = ignore,
    *,
    split: Mapping[str, list[str]] | None = None,
    like: Mapping[str, Any] | None = None,
) -> RunData:
    """Open the pairs of a run, or the built-in cohort when no folder is named.

    Args:
        config: The run's configuration; its blocks are those of this room.
        listener: Hears about packing.
        split: Participants by part, as a checkpoint holds them.
        like: `RunData.info` of the data a model was trained on; its genes are taken, by name.

    Raises:
        UsageError: Ids, genes or the split do not fit together.
        NeuroError: Nothing usable was found, or relatives are in different parts.
    """
    data = cast(GenesDataBlock, config.data)
    folder, built_in = _folder(data, listener)
    blocks = _blocks(data, folder, listener)
    latents = blocks.pop(None)
    single, truth, chosen = config.model.name == "gene_pair", read_truth(folder), list[str]()
    if like is not None:
        data, names = _as_trained(data, like, list(blocks), latents)
    else:
        if single and data.gene is None and truth is not None and len(blocks) > 1:
            data = data.model_copy(update={"gene": next(iter(truth.rhos))})
            chosen.append(f"no gene was named: {data.gene}, which is true of the built-in cohort")
        names = choose_genes([str(name) for name in blocks], data, single=single)
    opened = _opened(names, blocks, like)
    if like is not None:
        _check_width(opened, int(like["gene_input_dim"]))
    cohort = pair_people(latents(), opened, data, _excluded(data))
    chosen += _absent_note(names, blocks)
    table = Path(data.table) if data.table else folder / PEOPLE_FILE
    notes = set_families(cohort, data, table)
    assigned = assign_people(config, cohort, folder, split)
    cells, more = take_out(cohort, data, table, assigned)
    fill_absent(cohort, data, assigned)
    classes, strata = cohort.classes(), _strata(config, cohort, table)
    parts: dict[Part, SampleSet] = {}
    for part, people in assigned.parts.items():
        if people:
            rows = cohort.rows_of(people)
            parts[cast(Part, part)] = PairSet(
                cohort,
                rows,
                classes,
                truth=truth,
                seed=config.run.seed,
                covariates=cells,
                strata=strata,
            )
    if built_in:
        notes.append("built-in synthetic cohort: figures say nothing about real brains")
    n_distinct = len(np.unique(classes))
    if n_distinct < len(classes):
        notes.append(f"{len(classes)} people have {n_distinct} distinct gene vectors: ties count")
    return RunData(
        objective=OBJECTIVE,
        parts=parts,
        info=_info(cohort),
        split=assigned.parts,
        split_sha256=assigned.sha256,
        fingerprint=_fingerprint(cohort, classes),
        built_in_data=built_in,
        left_out=cohort.left_out,
        notes=[*chosen, *cohort.notes, *notes, *more, *assigned.notes],
    )


def _folder(data: GenesDataBlock, listener: Listener) -> tuple[Path, bool]:
    if data.path is None:
        if data.genes is not None:
            raise UsageError(
                "gene tables were named and no latents", where=data.genes, hint="add --latents DIR"
            )
        spec = cohort_spec(LatentsOptions(cohort=data.cohort))
        return built_in_cohort(spec, listener), True
    folder = Path(data.path)
    if not folder.is_dir():
        raise InputError(
            folder, "is no folder of latents", "give the folder with {IID}_latent.npz files"
        )
    inner = folder / "cohort"  # what `neuro preprocess latents` makes without a source
    if is_pack(inner):
        return inner, True
    return folder, read_truth(folder) is not None


def _blocks(data: GenesDataBlock, folder: Path, listener: Listener) -> dict[str | None, Any]:
    """Return functions that open blocks, by gene name; the latents' under None."""
    options = LatentsOptions.model_validate(data.model_dump(include=set(_READ)))
    found: dict[str | None, Any] = {}
    if is_pack(folder):
        pack = open_pack(folder)
        if pack.latents is None:
            raise InputError(folder, "is a pack without latents", "pack the latents, too")
        latents = pack.latents
        found = {None: lambda: latents, **{n: _given(b) for n, b in pack.genes.items()}}
    else:
        found[None] = lambda: packed_latents(folder, options, listener)
    if data.genes is not None:
        source = Path(data.genes)
        if source.is_dir() and is_pack(source):
            found |= {n: _given(b) for n, b in open_pack(source).genes.items()}
        else:
            # The file's own name says which gene it holds, unless the user does.
            files = gene_files(source, data.gene)
            found = {
                None: found[None],
                **{n: _packer(n, p, options, listener) for n, p in files.items()},
            }
    if len(found) == 1:
        raise UsageError(
            "no gene table was named", where=str(folder), hint="add --genes FILE or FOLDER"
        )
    return found


_READ = ("latent_pattern", "npz_key", "iid_column", "gene_dim", "nonfinite", "duplicates")


def _given(block: Block) -> Any:
    return lambda: block


def _packer(name: str, path: Path, options: LatentsOptions, listener: Listener) -> Any:
    return lambda: packed_gene(name, path, options, listener)


def _as_trained(
    data: GenesDataBlock, like: Mapping[str, Any], known: Sequence[str | None], latents: Any
) -> tuple[GenesDataBlock, list[str]]:
    """Return the genes a model was trained on, in its order, however the data order theirs."""
    names = [str(name) for name in like["gene_names"]]
    if len(names) == 1 and data.gene not in (None, *names):
        raise UsageError(
            f"the model was trained on {names[0]}, not on {data.gene}",
            where="data.gene",
            hint="judge it on its own gene",
        )
    missing = [name for name in names if name not in known]
    # A solution scores each gene by itself, and goes without those that are not here.
    if missing and (SOLUTION not in like or len(missing) == len(names)):
        raise UsageError(
            f"the model knows {len(names)} genes and {len(missing)} of them are not in this data: "
            f"{choices_text(missing)}",
            where="gene_names",
            hint=f"the data hold {choices_text(str(name) for name in known)}",
        )
    block = latents()
    if block.n_features != like["neuro_input_dim"]:
        raise UsageError(
            f"latents have {block.n_features} numbers, the model takes {like['neuro_input_dim']}",
            where=str(data.path),
            hint="give latents of the autoencoder it was trained with",
        )
    return data, names


def _opened(
    names: Sequence[str], blocks: Mapping[str | None, Any], like: Mapping[str, Any] | None
) -> list[Block]:
    """Return the block of every gene; of one that is not here the block that nobody is in."""
    width = 0 if like is None else int(like["gene_input_dim"])
    return [blocks[name]() if name in blocks else absent_block(name, width) for name in names]


def _absent_note(names: Sequence[str], blocks: Mapping[str | None, Any]) -> list[str]:
    absent = [name for name in names if name not in blocks]
    told = f"{len(absent)} of the model's {len(names)} genes are not in this data and go unscored"
    return [f"{told}: {choices_text(absent)}"] if absent else []


def _check_width(blocks: Sequence[Block], wanted: int) -> None:
    for block in blocks:
        if block.n_features != wanted:
            raise UsageError(
                f"vectors of {block.name} have {block.n_features} numbers, "
                f"the model takes {wanted}",
                where=str(block.folder),
                hint="give gene tables of the embedding it was trained with",
            )


def _excluded(data: GenesDataBlock) -> list[str]:
    if data.exclude is None:
        return []
    from neurocli.core.data.source import open_regular

    with open_regular(Path(data.exclude), max_bytes=1 << 26) as handle:
        text = handle.read().decode("utf-8-sig", "replace")
    return [line.split(",")[0].strip() for line in text.splitlines() if line.strip()]


def _strata(config: RunConfig, cohort: PairedCohort, table: Path) -> npt.NDArray[np.int64] | None:
    names = cast(GenesTaskBlock, config.task).hard_gallery
    if not names:
        return None
    cells, _ = columns_of(table, cohort.people, names)
    return strata_of(cells)


def _info(cohort: PairedCohort) -> dict[str, Any]:
    n_latent, n_genes = cohort.latents.n_features, len(cohort.genes)
    return {
        "objective": OBJECTIVE,
        "neuro_input_dim": n_latent,
        "latent_shape": list(cohort.latents.shape),
        "gene_input_dim": cohort.gene_dim,
        "num_genes": n_genes,
        "gene_names": list(cohort.genes),
        "img_size": [n_latent + n_genes * cohort.gene_dim],
    }


def _fingerprint(cohort: PairedCohort, classes: npt.NDArray[np.int64]) -> str:
    digest = hashlib.sha256("\n".join([*cohort.people, *cohort.genes]).encode())
    digest.update(classes.tobytes())
    digest.update(np.ascontiguousarray(cohort.latents.values[cohort.brain_rows, ::997]).tobytes())
    return digest.hexdigest()
