"""Who is paired with what: every rule on a handful of people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.errors import InputError, UsageError
from neurocli.systems.genes.cohort import PairedCohort, choose_genes, pair_people
from neurocli.systems.genes.config import GenesDataBlock
from neurocli.systems.genes.pack import Block, read_block, write_values


def block(folder: Path, name: str, ids: Sequence[str], *, width: int = 3, start: int = 0) -> Block:
    """Write a block whose rows count up, so that a row tells whose it is."""
    values = np.arange(len(ids), dtype=np.float32)[:, None] + start + np.zeros((1, width))
    kind = "latents" if name == "latents" else "gene"
    write_values(folder / name, ids, values.astype(np.float32), kind=kind, name=name)  # type: ignore[arg-type]
    return read_block(folder / name)


def paired(
    folder: Path,
    latents: Sequence[str],
    *genes: Sequence[str],
    excluded: Sequence[str] = (),
    **data: object,
) -> PairedCohort:
    blocks = [block(folder, f"G{i}", ids, start=100 * (i + 1)) for i, ids in enumerate(genes)]
    own = block(folder, "latents", latents)
    return pair_people(own, blocks, GenesDataBlock(**data), excluded)  # type: ignore[arg-type]


def test_rows_follow_people(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["3", "1", "2"], ["1", "2", "3"])
    assert cohort.people == ["1", "2", "3"]
    everyone = np.arange(3)
    assert cohort.brain(everyone)[:, 0].tolist() == [1, 2, 0]
    assert cohort.gene(0, everyone)[:, 0].tolist() == [100, 101, 102]
    assert cohort.rows_of(["3", "1"]).tolist() == [2, 0]


def test_only_people_of_both_sides_are_paired(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2", "3"], ["2", "3", "4"])
    assert cohort.people == ["2", "3"]
    assert "1 of latents have no partner: 1" in cohort.notes[0]
    assert "1 of G0 have no partner: 4" in cohort.notes[0]


def test_ids_of_other_programs_are_paired(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["sub-11", "0012", "13"], ["11", "12", "13.0"])
    assert len(cohort.people) == 3
    assert "1 exact, 1 cleaned" not in cohort.notes[0]


def test_exact_pairs_texts_alone(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["sub-11", "12"], ["11", "12"], iid_match="exact")
    assert cohort.people == ["12"]


def test_repeat_scans_give_one_person(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["11_2", "11_3", "12_2"], ["11", "12"])
    assert cohort.people == ["11", "12"]
    assert cohort.brain(np.arange(2))[:, 0].tolist() == [0, 2]
    assert cohort.notes[-1] == "latents left out: 1 repeat scans"


def test_sessions_that_both_sides_name_stay(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["11_2", "11_3"], ["11_2", "11_3"])
    assert cohort.people == ["11_2", "11_3"]


def test_withdrawn_and_excluded_people_go(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2", "-3"], ["1", "2", "-3"], excluded=["2"])
    assert cohort.people == ["1"]
    assert cohort.notes[-1] == "latents left out: 1 excluded, 1 withdrew (negative ids)"


def test_absent_genes_are_hidden(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2"], ["1", "2"], ["2"], min_gene_coverage=0.5)
    assert cohort.people == ["1", "2"]
    assert cohort.present.tolist() == [[True, True], [False, True]]
    assert cohort.sequence(np.arange(2))[:, :, 0].tolist() == [[100, 0], [101, 200]]


def test_people_with_too_few_genes_go(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2"], ["1", "2"], ["2"])
    assert cohort.people == ["2"]
    assert cohort.notes[-1] == "1 people lack too many genes: 1"


def test_people_without_any_gene_always_go(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2", "3"], ["1"], ["2"], min_gene_coverage=0.0)
    assert cohort.people == ["1", "2"]


def test_drop_keeps_complete_people(tmp_path: Path) -> None:
    data = {"missing_genes": "drop", "min_gene_coverage": 0.1}
    cohort = paired(tmp_path, ["1", "2"], ["1", "2"], ["2"], **data)
    assert cohort.people == ["2"]


def test_absent_genes_can_be_filled(tmp_path: Path) -> None:
    cohort = paired(tmp_path, ["1", "2"], ["1", "2"], ["2"], min_gene_coverage=0.5)
    cohort.filled = np.full((2, 3), 7.0, dtype=np.float32)
    assert cohort.gene(1, np.arange(2))[:, 0].tolist() == [7, 200]


def test_nobody_in_common_is_told_with_both_sides(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        paired(tmp_path, ["a1", "a2", "a3", "a4", "a5", "a6"], ["b1", "b2"])
    assert "a1, a2, a3, a4, a5, ..." in caught.value.message
    assert "(b1, b2)" in caught.value.message
    assert "likely reason" in str(caught.value.hint)


def test_nobody_with_enough_genes_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody has 90% of 2 genes; the best has 1"):
        paired(tmp_path, ["1", "2"], ["1"], ["2"])


def test_genes_of_different_width_are_refused(tmp_path: Path) -> None:
    latents = block(tmp_path, "latents", ["1"])
    blocks = [block(tmp_path, "A", ["1"]), block(tmp_path, "B", ["1"], width=4)]
    blocks.append(block(tmp_path, "C", ["1"]))
    with pytest.raises(InputError, match="B has 4"):
        pair_people(latents, blocks, GenesDataBlock())


def test_equal_gene_vectors_have_one_class(tmp_path: Path) -> None:
    ids = ["1", "2", "3", "4"]
    values = np.array([[0.0], [1.0], [0.0], [1.0]], dtype=np.float32)
    for name in ("A", "B"):
        write_values(tmp_path / name, ids, values, kind="gene", name=name)
    blocks = [read_block(tmp_path / name) for name in "AB"]
    cohort = pair_people(block(tmp_path, "latents", ids), blocks, GenesDataBlock())
    classes = cohort.classes()
    assert classes[0] == classes[2] != classes[1] == classes[3]


def test_people_who_differ_in_one_gene_differ(tmp_path: Path) -> None:
    ids = ["1", "2"]
    write_values(tmp_path / "A", ids, np.zeros((2, 1), np.float32), kind="gene", name="A")
    own = np.array([[0.0], [1.0]], dtype=np.float32)
    write_values(tmp_path / "B", ids, own, kind="gene", name="B")
    blocks = [read_block(tmp_path / name) for name in "AB"]
    cohort = pair_people(block(tmp_path, "latents", ids), blocks, GenesDataBlock())
    assert len(set(cohort.classes().tolist())) == 2


def test_one_gene_is_taken_without_a_name() -> None:
    assert choose_genes(["APOE"], GenesDataBlock(), single=True) == ["APOE"]


def test_one_of_many_must_be_named() -> None:
    with pytest.raises(UsageError, match="one gene and 2 are here") as caught:
        choose_genes(["APOE", "BDNF"], GenesDataBlock(), single=True)
    assert "APOE, BDNF" in str(caught.value.hint)


def test_an_unknown_gene_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown gene 'APEO'; did you mean APOE"):
        choose_genes(["APOE", "BDNF"], GenesDataBlock(gene="APEO"), single=True)


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ((), ["APOE", "APP", "BDNF"]),
        (("AP*",), ["APOE", "APP"]),
        (("BDNF", "APP"), ["APP", "BDNF"]),
    ],
)
def test_subsets_are_sorted(subset: tuple[str, ...], expected: list[str]) -> None:
    known = ["BDNF", "APP", "APOE"]
    assert choose_genes(known, GenesDataBlock(gene_subset=subset), single=False) == expected


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown gene 'X\\*'"):
        choose_genes(["APOE"], GenesDataBlock(gene_subset=("X*",)), single=False)
