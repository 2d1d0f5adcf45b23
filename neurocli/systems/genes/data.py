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
import torch

from neurocli.core.cohort.assign import Assignment, assign_parts
from neurocli.core.cohort.groups import connected_groups, divided_groups
from neurocli.core.cohort.splits import random_split
from neurocli.core.config.run import RunConfig
from neurocli.core.data.output import PEOPLE_FILE
from neurocli.core.data.tables import read_table
from neurocli.core.engine.task import Part, RunData, SampleSet
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.names import choices_text
from neurocli.systems.genes.built_in import (
    SPLIT,
    Truth,
    built_in_cohort,
    cohort_spec,
    read_truth,
)
from neurocli.systems.genes.cohort import PairedCohort, choose_genes, pair_people
from neurocli.systems.genes.config import GenesDataBlock, LatentsOptions
from neurocli.systems.genes.covariates import columns_of, design_matrix, explain
from neurocli.systems.genes.pack import Block, is_pack, open_pack
from neurocli.systems.genes.prepare import packed_gene, packed_latents
from neurocli.systems.genes.sources import gene_files

_FAMILY = "family"
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
OBJECTIVE = "align"


class PairSet:
    """Hold the pairs of one part.

    Args:
        cohort: All people.
        rows: Places of this part's people.
        classes: (S,) equal numbers for equal gene vectors, over all people.
        truth: What is true of the built-in cohort; None for real data.
        seed: Of dropout.
        covariates: Column -> cells over all people.
    """

    def __init__(
        self,
        cohort: PairedCohort,
        rows: npt.NDArray[np.intp],
        classes: npt.NDArray[np.int64],
        *,
        truth: Truth | None = None,
        seed: int = 0,
        covariates: Mapping[str, list[str | None]] | None = None,
    ) -> None:
        self.cohort, self.rows, self.classes = cohort, rows, classes
        self.truth, self.seed, self.covariates = truth, seed, covariates or {}

    def __len__(self) -> int:
        """Return how many people there are."""
        return len(self.rows)

    @property
    def participants(self) -> list[str]:
        """Return their ids."""
        return [self.cohort.people[row] for row in self.rows]

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return who a sample is; vectors are read for a whole batch at once."""
        return {"row": int(self.rows[index]), "draw": draw_of(self.seed, epoch, index)}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch: `neuro_embedding` (B, P), `gene_sequence` (B, G, d), `present` (B, G)."""
        rows = np.array([sample["row"] for sample in samples], dtype=np.intp)
        people = [self.cohort.people[row] for row in rows]
        batch: dict[str, Any] = {
            "neuro_embedding": torch.from_numpy(self.cohort.brain(rows)),
            "gene_sequence": torch.from_numpy(self.cohort.sequence(rows)),
            "gene_class": torch.from_numpy(self.classes[rows]),
            "draw": torch.tensor([sample["draw"] for sample in samples], dtype=torch.int64),
            "participant": people,
            "subject": people,
            "iid": people,
            "family": [self.cohort.families[row] for row in rows],
            "start": [0] * len(people),
        }
        present = self.cohort.present[:, rows]
        if not present.all() and self.cohort.filled is None:
            batch["present"] = torch.from_numpy(present.T.copy())
        return batch


def draw_of(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one sample in one epoch, 62 bits, the same on any machine.

    >>> draw_of(0, 1, 2) == draw_of(0, 1, 2) != draw_of(0, 2, 1)
    True
    """
    word = 0
    for part in (seed, epoch, index):
        word = ((word ^ part) + _GOLDEN) & 0xFFFFFFFFFFFFFFFF
        word = ((word ^ (word >> 30)) * _MIX) & 0xFFFFFFFFFFFFFFFF
        word ^= word >> 27
    return word >> 2


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
    opened = [block() for name in names if (block := blocks[name])]
    cohort = pair_people(latents(), opened, data, _excluded(data))
    table = Path(data.table) if data.table else folder / PEOPLE_FILE
    notes = _set_families(cohort, data, table)
    assigned = _assign(config, cohort, folder, split)
    cells, more = _take_out(cohort, data, table, assigned)
    _fill(cohort, data, assigned)
    classes = cohort.classes()
    parts: dict[Part, SampleSet] = {}
    for part, people in assigned.parts.items():
        if people:
            rows = cohort.rows_of(people)
            parts[cast(Part, part)] = PairSet(
                cohort, rows, classes, truth=truth, seed=config.run.seed, covariates=cells
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
            found = {None: found[None], **{n: _packer(n, p, options, listener) for n, p in files.items()}}
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
    if missing:
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


def _excluded(data: GenesDataBlock) -> list[str]:
    if data.exclude is None:
        return []
    from neurocli.core.data.source import open_regular

    with open_regular(Path(data.exclude), max_bytes=1 << 26) as handle:
        text = handle.read().decode("utf-8-sig", "replace")
    return [line.split(",")[0].strip() for line in text.splitlines() if line.strip()]


def _set_families(cohort: PairedCohort, data: GenesDataBlock, table: Path) -> list[str]:
    """Tie relatives by a group table, or by the column `family` of the people's table."""
    if data.group is not None:
        path = Path(data.group)
        known = read_table(path)
        names = list(known.columns)
    elif table.is_file() and _FAMILY in read_table(table).columns:
        path, names = table, [_FAMILY]
    else:
        return ["no --group: relatives may land in different parts and flatter the result"]
    columns, notes = columns_of(path, cohort.people, names)
    tied = connected_groups(cohort.people, columns)
    cohort.families = [tied[person] for person in cohort.people]
    return notes


def _assign(
    config: RunConfig, cohort: PairedCohort, folder: Path, split: Mapping[str, list[str]] | None
) -> Assignment:
    people, families = cohort.people, cohort.families
    path = config.data.split
    if split is None and path is None and (folder / SPLIT).is_file():
        path = str(folder / SPLIT)
    if split is None and path is None:
        data = cast(GenesDataBlock, config.data)
        train = 1 - data.val_share - data.test_share
        parts = random_split(
            people,
            train=train,
            val=data.val_share,
            seed=config.run.seed,
            groups={_FAMILY: families},
        )
        assigned = assign_parts(people, parts=parts)
        shares = "/".join(f"{100 * s:.0f}" for s in (train, data.val_share, data.test_share))
        note = f"no --split: people are divided {shares} by a hash of seed and id"
        assigned = Assignment(assigned.parts, assigned.sha256, [note, *assigned.notes])
    else:
        assigned = assign_parts(people, parts=split, split_path=path)
    tied = dict(zip(people, families, strict=True))
    divided = divided_groups({p: n for p, n in assigned.parts.items() if p != "rest"}, tied)
    if divided:
        family, parts_of = next(iter(divided.items()))
        members = [person for person in people if tied[person] == family]
        raise NeuroError(
            f"{len(divided)} families are in several parts, such as {choices_text(members[:4])} in "
            f"{' and '.join(parts_of)}: a relative's genes give the answer away",
            where=path or "split",
            hint="divide with `neuro split --group`, or leave --split out",
        )
    return assigned


def _take_out(
    cohort: PairedCohort, data: GenesDataBlock, table: Path, assigned: Assignment
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Fit covariates on the training part and take them out of brains and genes."""
    if not data.covariates:
        return {}, []
    cells, notes = columns_of(table, cohort.people, data.covariates)
    train = cohort.rows_of(assigned.parts["train"])
    if not len(train):
        raise UsageError(
            "covariates are fitted on training people, and none are here",
            where="data.covariates",
            hint="give the data that the model was trained on as well",
        )
    design = design_matrix(cells, train)
    cohort.brain_explained = explain(design, train, cohort.raw_brain)
    explained = []
    for index in range(len(cohort.genes)):
        own = train[cohort.present[index, train]]
        explained.append(explain(design, own, lambda rows, i=index: cohort.raw_gene(i, rows)))  # type: ignore[misc]
    cohort.genes_explained = explained
    notes.append(f"taken out of brains and genes, fitted on {len(train)} training people: "
                 f"{choices_text(data.covariates)}")
    return cells, notes


def _fill(cohort: PairedCohort, data: GenesDataBlock, assigned: Assignment) -> None:
    if data.missing_genes != "mean" or cohort.present.all():
        return
    train = cohort.rows_of(assigned.parts["train"])
    means = [
        cohort.gene(index, train[cohort.present[index, train]]).mean(0)
        for index in range(len(cohort.genes))
    ]
    cohort.filled = np.stack(means).astype(np.float32)


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
