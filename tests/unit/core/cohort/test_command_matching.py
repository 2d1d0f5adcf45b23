"""`make_split` with matched pairs and several seeds: files, pages, balance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from split_tables import MATCH, Tags, patients, write_table

from neurocli import make_split
from neurocli.core.errors import ExitCode, NeuroError


def test_several_seeds_make_several_files(table: Path, tmp_path: Path) -> None:
    result = make_split(table, tmp_path / "fixed.txt", seeds="1-3", format="swift")
    runs = [result, *result.others]
    assert [run.out.name for run in runs] == ["fixed_1.txt", "fixed_2.txt", "fixed_3.txt"]
    assert [run.split.seed for run in runs] == [1, 2, 3]
    alone = make_split(table, tmp_path / "one.txt", seed=2, format="swift")
    assert runs[1].out.read_bytes() == alone.out.read_bytes()
    tests = [set(run.split.parts["test"]) for run in runs]
    shares = [len(a & b) / len(a | b) for i, a in enumerate(tests) for b in tests[:i]]
    assert result.likeness == max(shares)
    assert "Jaccard" in result.notes[-1]


def test_an_imbalance_after_matching_names_the_covariate(tmp_path: Path) -> None:
    rows = patients()
    for row in rows:
        row["dose"] = str(int(row["case"] == "1" or int(row["eid"]) % 9 == 0))
    source = write_table(tmp_path / "t.csv", rows)
    asked = {**MATCH, "covariates": "age,dose", "caliper": "none", "fail_on_imbalance": True}
    with pytest.raises(NeuroError, match="out of balance in age, dose") as caught:
        make_split(source, tmp_path / "s.json", **asked)
    assert caught.value.code == ExitCode.PARTIAL
    report = json.loads((tmp_path / "s.json.report.json").read_text())
    assert report["unmatched_covariates"] == ["age", "dose"]
    assert "Not balanced: age, dose=1" in (tmp_path / "s.json.report.html").read_text()


def test_the_page_shows_what_matching_did(tmp_path: Path) -> None:
    rows = [{**row, "<i>": row["sex"]} for row in patients()]
    source = write_table(tmp_path / "t.csv", rows)
    asked = {**MATCH, "covariates": "age,<i>"}
    page = make_split(source, tmp_path / "s.json", **asked).report_html.read_text()
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    assert {"svg", "circle", "rect"} <= parser.seen
    assert page.count("<svg") == 2
    # Three rows: the score, age, and one of the two levels; a ring and a dot each.
    assert page.count('class="ring"') == 3
    assert "&lt;i&gt;=M" in page
    assert "case=1, upwards" in page


def test_psmpy_runs_on_the_same_people_and_leaves_no_trace(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("psmpy")
    source = write_table(tmp_path / "t.csv", patients())
    before = dict(matplotlib.rcParams)
    theirs = make_split(source, tmp_path / "p.json", match="psmpy", **MATCH)
    assert dict(matplotlib.rcParams) == before
    assert any(note.startswith("psmpy matched") for note in theirs.notes)
    ours = make_split(source, tmp_path / "o.json", match="optimal", caliper="none", **MATCH)
    # Without a caliper both pair every case; ours are never farther apart by our score.
    assert len(ours.split.pairs) >= len(theirs.split.pairs) > 0
    total = [run.sampling["distance"]["total"] for run in (ours, theirs)]
    assert total[0] <= total[1]
