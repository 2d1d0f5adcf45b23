"""Batches of a part against rows that are fetched one by one, and draws of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurocli.systems.genes.pair_set import PairSet, draw_of

AT = [5, 0, 3]


def some(part: PairSet, **changes: object) -> PairSet:
    """Return the part with a changed cohort."""
    return PairSet(replace(part.cohort, **changes), part.rows, part.classes)  # type: ignore[arg-type]


def test_a_batch_is_its_people_one_by_one(test_part: PairSet) -> None:
    batch = test_part.collate([test_part.sample(i, 2) for i in AT])
    cohort = test_part.cohort
    for place, index in enumerate(AT):
        row = int(test_part.rows[index])
        person = cohort.people[row]
        assert batch["participant"][place] == batch["iid"][place] == person
        stored = cohort.latents.values[cohort.latents.ids.index(person)]
        assert np.array_equal(batch["neuro_embedding"][place].numpy(), stored)
        for gene, block in enumerate(cohort.blocks):
            own = block.values[block.ids.index(person)]
            assert np.array_equal(batch["gene_sequence"][place, gene].numpy(), own)
        assert int(batch["gene_class"][place]) == test_part.classes[row]
        assert int(batch["draw"][place]) == draw_of(test_part.seed, 2, index)
    assert "present" not in batch  # nobody lacks a gene here
    assert "stratum" not in batch


def test_batches_can_be_cut_anywhere(test_part: PairSet) -> None:
    samples = [test_part.sample(i, 0) for i in range(8)]
    whole = test_part.collate(samples)
    parts = [test_part.collate(samples[:3]), test_part.collate(samples[3:])]
    for name in ("neuro_embedding", "gene_sequence", "draw", "gene_class"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert whole["family"] == parts[0]["family"] + parts[1]["family"]


def test_absent_genes_are_zero_and_marked(test_part: PairSet) -> None:
    gene_rows = test_part.cohort.gene_rows.copy()
    gene_rows[2, test_part.rows[1]] = -1
    part = some(test_part, gene_rows=gene_rows)
    batch = part.collate([part.sample(i, 0) for i in range(3)])
    expected = torch.ones(3, 6, dtype=torch.bool)
    expected[1, 2] = False
    assert torch.equal(batch["present"], expected)
    assert float(batch["gene_sequence"][1, 2].abs().max()) == 0
    # Without the one who lacks it, a batch needs no mask.
    assert "present" not in part.collate([part.sample(0, 0), part.sample(2, 0)])


def test_filled_genes_need_no_mask(test_part: PairSet) -> None:
    gene_rows = test_part.cohort.gene_rows.copy()
    gene_rows[2, test_part.rows[1]] = -1
    filled = np.full((6, 12), 0.25, dtype=np.float32)
    part = some(test_part, gene_rows=gene_rows, filled=filled)
    batch = part.collate([part.sample(1, 0)])
    assert "present" not in batch
    assert torch.equal(batch["gene_sequence"][0, 2], torch.full((12,), 0.25))


def test_strata_travel_with_people(test_part: PairSet) -> None:
    strata = np.arange(len(test_part.cohort.people)) % 7
    part = PairSet(test_part.cohort, test_part.rows, test_part.classes, strata=strata)
    batch = part.collate([part.sample(i, 0) for i in AT])
    assert batch["stratum"].tolist() == [int(part.rows[i]) % 7 for i in AT]


@pytest.mark.parametrize("place", range(3))
def test_draws_are_62_bits_and_never_collide_in_a_run(place: int) -> None:
    found = set()
    for i in range(2000):
        parts = [1, 2, 3]
        parts[place] = i
        found.add(draw_of(*parts))
    assert len(found) == 2000
    assert all(0 <= word < 1 << 62 for word in found)
    # Half of the bits are set: 31 of 62, with a standard error of 3.94 / sqrt(2000) = 0.09.
    assert np.mean([word.bit_count() for word in found]) == pytest.approx(31, abs=0.5)


def test_draws_of_seed_epoch_and_person_are_not_interchangeable() -> None:
    assert len({draw_of(1, 2, 3), draw_of(2, 1, 3), draw_of(3, 2, 1), draw_of(1, 3, 2)}) == 4
