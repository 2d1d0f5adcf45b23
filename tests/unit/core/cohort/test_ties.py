"""Relatives from a file, sites by name or by their usual names, pairs that stay together."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.ties import read_kinship, site_column, ties
from neurocli.core.data.tables import Table
from neurocli.core.errors import InputError, UsageError

IDS = [str(1000 + i) for i in range(8)]


def people(**columns: list[str | None]) -> Table:
    return Table(IDS, "eid", columns, Path("t.csv"))


def put(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "kin.dat"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "ID1 ID2 HetHet IBS0 Kinship\n1000 1001 0.1 0.01 0.25\n1002 1003 0.1 0.01 0.12\n",
        "ID1,ID2\n1000,1001\n1002,1003\n",
        "FID1\tIID1\tFID2\tIID2\n1\t1000\t1\t1001\n2\t1002\t2\t1003\n",
        "a,b\n1000.0,1001.0\n1002.0,1003.0\n",
        "1000 1001\n1002 1003\n",
    ],
)
def test_lists_of_relatives_as_people_have_them(tmp_path: Path, text: str) -> None:
    pairs, notes = read_kinship(put(tmp_path, text), IDS)
    assert pairs == [("1000", "1001"), ("1002", "1003")]
    assert notes == []


def test_strangers_and_people_who_are_not_here_tie_nobody(tmp_path: Path) -> None:
    text = "ID1 ID2 Kinship\n1000 1001 0.25\n1002 1003 0.01\n1004 9999 0.25\n"
    pairs, notes = read_kinship(put(tmp_path, text), IDS)
    assert pairs == [("1000", "1001")]
    assert "1 pairs of kin.dat have a kinship below 0.0442" in notes[0]
    assert "1 pairs of kin.dat name people who are not here" in notes[1]


def test_a_list_of_others_or_of_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pair of 1 is of this cohort") as caught:
        read_kinship(put(tmp_path, "ID1,ID2\n7,8\n"), IDS)
    assert "1000" in str(caught.value.hint)
    with pytest.raises(UsageError, match="has the columns x, y, z"):
        read_kinship(put(tmp_path, "x,y,z\n7,8,9\n"), IDS)
    with pytest.raises(InputError, match="does not exist"):
        read_kinship(tmp_path / "none", IDS)


def test_ties_of_every_kind(tmp_path: Path) -> None:
    path = put(tmp_path, "ID1,ID2\n1000,1001\n1001,1002\n")
    table = people(
        family=["a", None, None, "a", None, None, None, None], SITE_ID=["s"] * 7 + [None]
    )
    options = SplitOptions(group="family", kinship=path, site_policy="hold-out")
    found, notes = ties(table, options, [("1006", "1007")])
    assert list(found) == ["family", "SITE_ID", "kinship", "pair"]
    kin = found["kinship"]
    assert kin[0] == kin[1] == kin[2] is not None
    assert kin[3:] == [None] * 5
    assert found["pair"][6] == found["pair"][7] is not None
    assert notes == ["SITE_ID: 1 people have no site and count as sites of their own"]


def test_sites_are_found_by_name_or_named() -> None:
    table = people(abcd_site=["1"] * 8, place=["2"] * 8)
    assert site_column(table, SplitOptions()) is None
    assert site_column(table, SplitOptions(site_policy="stratify")) == "abcd_site"
    named = SplitOptions(site_policy="stratify", site_column="place")
    assert site_column(table, named) == "place"
    with pytest.raises(UsageError, match="finds no column of sites") as caught:
        site_column(people(place=["2"] * 8), SplitOptions(site_policy="hold-out"))
    assert "--site-column" in str(caught.value.hint)
    with pytest.raises(UsageError, match="unknown column 'sites'"):
        site_column(table, SplitOptions(site_policy="hold-out", site_column="sites"))
