"""People with a brain latent and gene vectors: who is paired with what, and their rows.

Letters: S people, P numbers of a latent, G genes, d numbers of a gene's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import InputError, UsageError
from neurocli.core.metrics.retrieval import equal_rows
from neurocli.core.names import choices_text, lookup, matching
from neurocli.systems.genes.config import GenesDataBlock
from neurocli.systems.genes.covariates import Explained
from neurocli.systems.genes.ids import (
    canonical,
    guessed_reason,
    is_withdrawn,
    match_ids,
    shown,
    without_session,
)
from neurocli.systems.genes.pack import Block

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass
class PairedCohort:
    """Hold paired people, sorted by id, and where their rows lie.

    Args:
        people: Ids.
        latents: The brain's block.
        brain_rows: (S,) row of each person.
        genes: Names, sorted.
        blocks: One per gene.
        gene_rows: (G, S) row of each person in each gene's block, -1 where there is none.
        families: Family of each person.
        notes: Sentences the user should read.
        left_out: (id, reason).
        brain_explained: What covariates explain of the brain; None without covariates.
        genes_explained: The same for each gene.
        filled: (G, d) means for absent vectors; None hides them.
    """

    people: list[str]
    latents: Block
    brain_rows: Rows
    genes: list[str]
    blocks: list[Block]
    gene_rows: npt.NDArray[np.intp]
    families: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    brain_explained: Explained | None = None
    genes_explained: list[Explained] | None = None
    filled: Float32 | None = None

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Return (G, S) who has which gene."""
        return self.gene_rows >= 0

    @property
    def gene_dim(self) -> int:
        """Return d."""
        return self.blocks[0].n_features

    def rows_of(self, people: Sequence[str]) -> Rows:
        """Return the places of people among all."""
        place = {person: i for i, person in enumerate(self.people)}
        return np.array([place[person] for person in people], dtype=np.intp)

    def brain(self, rows: Rows) -> Float32:
        """Return latents (n, P) of people by their places."""
        values = self.raw_brain(rows)
        return (
            values if self.brain_explained is None else self.brain_explained.take_out(values, rows)
        )

    def raw_brain(self, rows: Rows) -> Float32:
        """Return latents as stored."""
        return np.asarray(self.latents.values[self.brain_rows[rows]])

    def gene(self, index: int, rows: Rows) -> Float32:
        """Return one gene's vectors (n, d); absent ones are the filling, or 0."""
        values = self.raw_gene(index, rows)
        if self.genes_explained is not None:
            values = self.genes_explained[index].take_out(values, rows)
        absent = ~self.present[index, rows]
        if absent.any():
            values[absent] = 0 if self.filled is None else self.filled[index]
        return values

    def raw_gene(self, index: int, rows: Rows) -> Float32:
        """Return one gene's vectors as stored; rows of absent ones mean nothing."""
        return np.asarray(self.blocks[index].values[np.maximum(self.gene_rows[index, rows], 0)])

    def sequence(self, rows: Rows) -> Float32:
        """Return all genes' vectors (n, G, d)."""
        return np.stack([self.gene(index, rows) for index in range(len(self.genes))], axis=1)

    def classes(self) -> npt.NDArray[np.int64]:
        """Return (S,) numbers that are equal where all gene vectors are, as stored."""
        total = np.zeros(len(self.people), dtype=np.uint64)
        rows = np.arange(len(self.people))
        for index in range(len(self.genes)):
            own = equal_rows(self.raw_gene(index, rows))
            own[~self.present[index]] = 0
            total += own * np.uint64(2 * index + 1)
        _, found = np.unique(total, return_inverse=True)
        return np.asarray(found.reshape(-1), dtype=np.int64)


def choose_genes(known: Sequence[str], data: GenesDataBlock, *, single: bool) -> list[str]:
    """Return the genes a model sees, sorted.

    Args:
        known: Genes that are there.
        data: The data block.
        single: Whether the model takes one gene.

    Raises:
        UsageError: A gene is unknown, or one must be named.
    """
    if single:
        if data.gene is not None:
            return [lookup("gene", data.gene, dict.fromkeys(known, data.gene))]
        if len(known) == 1:
            return list(known)
        raise UsageError(
            f"gene_pair takes one gene and {len(known)} are here",
            where="data.gene",
            hint=f"name one with --gene: {choices_text(known)}",
        )
    if not data.gene_subset:
        return sorted(known)
    found: set[str] = set()
    for pattern in data.gene_subset:
        fitting = matching(pattern, known)
        if not fitting:
            lookup("gene", pattern, dict.fromkeys(known, pattern))
        found |= set(fitting)
    return sorted(found)


def pair_people(
    latents: Block, blocks: Sequence[Block], data: GenesDataBlock, excluded: Sequence[str] = ()
) -> PairedCohort:
    """Pair latents with gene vectors.

    Args:
        latents: The brain's block.
        blocks: One per gene, sorted by name.
        data: How ids agree and what an absent gene means.
        excluded: Ids to leave out.

    Raises:
        UsageError: Nobody is paired; both sides' first ids and the likeliest reason are told.
        InputError: Genes have vectors of different length.
    """
    widths = {block.name: block.n_features for block in blocks}
    if len(set(widths.values())) > 1:
        odd = min(widths, key=lambda name: list(widths.values()).count(widths[name]))
        raise InputError(
            blocks[0].folder,
            f"genes have vectors of different length: {odd} has {widths[odd]}",
            "give tables of one width",
        )
    people, rows, notes = _scanned_people(latents, blocks, data, excluded)
    gene_rows = np.full((len(blocks), len(people)), -1, dtype=np.intp)
    told, known = "", {}
    for index, block in enumerate(blocks):
        # Tables of one study list the same people, who are then matched once.
        ids = tuple(block.ids)
        if ids not in known:
            known[ids] = match_ids(people, block.ids, data.iid_match)
        pairs = np.array(known[ids].pairs, dtype=np.intp).reshape(-1, 2)
        gene_rows[index, pairs[:, 0]] = pairs[:, 1]
        told = told or known[ids].told("latents", block.name)
    present = gene_rows[[bool(block.ids) for block in blocks]] >= 0  # of genes that exist here
    wanted = 1.0 if len(blocks) == 1 or data.missing_genes == "drop" else data.min_gene_coverage
    enough = present.mean(0) >= max(wanted, 1 / len(present)) - 1e-9
    if not enough.any():
        raise _nobody(people, blocks, present, wanted)
    lacking = [person for person, fits in zip(people, enough, strict=True) if not fits]
    if lacking and len(blocks) > 1:
        notes.append(f"{len(lacking)} people lack too many genes: {shown(lacking)}")
    keep = np.flatnonzero(enough)
    return PairedCohort(
        people=[people[i] for i in keep],
        latents=latents,
        brain_rows=rows[keep],
        genes=[block.name for block in blocks],
        blocks=list(blocks),
        gene_rows=gene_rows[:, keep],
        families=[people[i] for i in keep],
        notes=[*latents.notes, *(note for b in blocks for note in b.notes), told, *notes],
        left_out=list(latents.left_out),
    )


def _nobody(
    people: Sequence[str], blocks: Sequence[Block], present: npt.NDArray[np.bool_], wanted: float
) -> UsageError:
    if present.any():
        return UsageError(
            f"nobody has {wanted:.0%} of {len(blocks)} genes; the best has "
            f"{int(present.sum(0).max())}",
            where="data.min_gene_coverage",
            hint="lower it, or choose fewer genes with data.gene_subset",
        )
    other = blocks[0].ids
    return UsageError(
        f"no id of the latents ({shown(people)}) is an id of {blocks[0].name} ({shown(other)})",
        where="iid_match",
        hint=f"likely reason: {guessed_reason(people, other)}",
    )


def _scanned_people(
    latents: Block, blocks: Sequence[Block], data: GenesDataBlock, excluded: Sequence[str]
) -> tuple[list[str], Rows, list[str]]:
    """Return one scan per person: ids sorted, their rows, and notes."""
    known = {owner for block in blocks for owner in block.ids}
    known |= {canonical(owner) for owner in known}
    gone = {canonical(owner) for owner in excluded}
    found: dict[str, int] = {}
    counts = {"excluded": 0, "withdrew (negative ids)": 0, "repeat scans": 0}
    is_exact = data.iid_match == "exact"
    for row, owner in sorted(enumerate(latents.ids), key=lambda item: item[1]):
        person = owner if is_exact else canonical(owner)
        whose = None if is_exact or {owner, person} & known else without_session(owner)
        if whose is not None and whose in known:
            person = whose
        if person in gone or is_withdrawn(person):
            counts["excluded" if person in gone else "withdrew (negative ids)"] += 1
        elif person in found:
            counts["repeat scans"] += 1
        else:
            found[person] = row
    people = sorted(found)
    told = [f"{count} {reason}" for reason, count in counts.items() if count]
    notes = [f"latents left out: {', '.join(told)}"] if told else []
    rows = np.array([found[person] for person in people], dtype=np.intp)
    return people, rows, notes
