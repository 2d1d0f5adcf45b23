"""`make_split` on real tables: ABIDE and LaLonde."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from neurocli import make_split


def test_abide_matched_on_age_sex_iq_and_site(real: Path, tmp_path: Path) -> None:
    source = real / "tables" / "ABIDE_Phenotypic_V1_0b_preprocessed1.csv"
    result = make_split(
        source,
        tmp_path / "s.json",
        id_column="SUB_ID",
        sample="psm",
        treatment="DX_GROUP=1",
        covariates="AGE_AT_SCAN,SEX,FIQ",
        exact="SITE_ID",
        fail_on_imbalance=True,
    )
    rows = result.sampling["balance"]
    assert {row["column"] for row in rows} == {"distance", "AGE_AT_SCAN", "SEX", "FIQ"}
    assert all(abs(row["after"]["smd"]) < 0.1 for row in rows)
    with source.open(newline="") as handle:
        table = {row["SUB_ID"]: row for row in csv.DictReader(handle)}
    for one, other in result.split.pairs:
        assert (table[one]["DX_GROUP"], table[other]["DX_GROUP"]) == ("1", "2")
        assert table[one]["SITE_ID"] == table[other]["SITE_ID"]
    # The mean age of both classes, from the table itself.
    ages = [
        np.mean([float(table[pair[side]]["AGE_AT_SCAN"]) for pair in result.split.pairs])
        for side in (0, 1)
    ]
    age = next(row for row in rows if row["column"] == "AGE_AT_SCAN")["after"]
    assert [age["mean_treated"], age["mean_control"]] == pytest.approx(ages)


def test_abide_sites_are_held_out(real: Path, tmp_path: Path) -> None:
    source = real / "tables" / "ABIDE_Phenotypic_V1_0b_preprocessed1.csv"
    result = make_split(
        source,
        tmp_path / "s.json",
        id_column="SUB_ID",
        site_policy="hold-out",
        stratify="DX_GROUP,SEX,AGE_AT_SCAN",
    )
    assert result.n_groups_divided == 0
    with source.open(newline="") as handle:
        site = {row["SUB_ID"]: row["SITE_ID"] for row in csv.DictReader(handle)}
    homes = {part: {site[name] for name in ids} for part, ids in result.split.parts.items()}
    assert not homes["train"] & homes["test"]
    assert not homes["train"] & homes["val"]
    assert len(homes["train"] | homes["val"] | homes["test"]) == 20


@pytest.mark.parametrize("match", ["nearest", "optimal"])
def test_lalonde_as_matchit_matches_it(real: Path, tmp_path: Path, match: str) -> None:
    result = make_split(
        real / "tables" / "matchit_lalonde.tab",
        tmp_path / "s.json",
        treatment="treat",
        covariates="age,educ,race,married,nodegree,re74,re75",
        match=match,
        caliper="none",
    )
    rows = {row["column"]: row for row in result.sampling["balance"] if row["level"] != "x"}
    distance = rows["distance"]["after"]
    # R MatchIt 4.7.2, nearest, largest first, without replacement.
    assert len(result.split.pairs) == 185
    assert round(distance["mean_treated"], 4) == 0.5774
    assert round(distance["mean_control"], 4) == 0.3629
    assert round(distance["smd"], 4) == 0.9739
    assert round(rows["age"]["after"]["mean_control"], 4) == 25.3027
    # Nearest sums to 191.756 logits here; the optimum is never worse.
    assert result.sampling["distance"]["total"] <= 191.756


def test_abide_by_diagnosis_sex_and_age(real: Path, tmp_path: Path) -> None:
    source = real / "tables" / "ABIDE_Phenotypic_V1_0b_preprocessed1.csv"
    result = make_split(
        source,
        tmp_path / "s.json",
        id_column="SUB_ID",
        stratify="DX_GROUP,SEX,AGE_AT_SCAN,FIQ",
        seed=1,
    )
    assert result.counts == {"train": 778, "val": 167, "test": 167}  # 1112 x 0.7, 0.15, 0.15
    rows = {row["column"]: row for row in result.split.balance}
    for name in ("DX_GROUP", "SEX", "AGE_AT_SCAN"):
        assert abs(rows[name]["smd"]) < 0.1
    # The table holds 37 codes of -9999 and 35 blanks in FIQ.
    assert "FIQ: 37 missing codes (-9999) count as missing" in result.notes
    assert "FIQ: 72 of 1112 values are missing and form a level of their own" in result.notes
    sites = make_split(source, tmp_path / "g.json", id_column="SUB_ID", group="SITE_ID", seed=1)
    assert sites.n_groups_divided == 0
    assert sites.split.groups["n"] == 20


def test_lalonde_in_the_form_that_r_writes(real: Path, tmp_path: Path) -> None:
    result = make_split(
        real / "tables" / "matchit_lalonde.tab",
        tmp_path / "s.txt",
        stratify="treat,race",
        format="swift",
    )
    assert sum(result.counts.values()) == 614
    rows = {row["column"]: row for row in result.split.balance}
    # 185 of 614 are treated; each part holds its share of them to within a person or two.
    for part, count in result.counts.items():
        assert abs(rows["treat"]["parts"][part]["shares"]["1"] * count - 185 / 614 * count) < 2
