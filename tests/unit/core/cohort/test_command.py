"""`make_split` on files: what it writes, refuses to overwrite, and reports."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from split_tables import ASKED, Tags, write_table

from neurocli import make_split
from neurocli.core.cohort.files import read_split, split_sha256
from neurocli.core.errors import ExitCode, InputError, NeuroError, UsageError


def test_it_writes_the_split_and_both_reports(table: Path, tmp_path: Path) -> None:
    result = make_split(table, tmp_path / "new" / "s.json", **ASKED)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "s.json",
        "s.json.report.html",
        "s.json.report.json",
    ]
    assert result.counts == {"train": 56, "val": 12, "test": 12}
    assert (result.n_groups_divided, result.n_folds, result.is_written) == (0, 0, True)
    assert read_split(result.out) == result.split
    report = json.loads(result.report_json.read_text())
    assert report["schema"] == "neuro/split-report/1"
    assert report["counts"] == result.counts
    assert report["groups"] == {"columns": ["family"], "n": 40, "largest": 2, "split": 0}
    assert report["split_sha256"] == split_sha256(result.split.parts)
    assert report["notes"] == result.notes
    assert report["largest_smd"] == max(abs(row["smd"]) for row in result.split.balance)


def test_options_import_nothing_heavy() -> None:
    # Help pages read the names of formats and policies from there.
    script = (
        "import sys, neurocli.core.cohort.options; "
        "assert not {'numpy', 'pandas', 'torch', 'jinja2'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_another_split_is_kept_unless_forced(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    make_split(table, out, **ASKED)
    before = out.read_bytes()
    assert not make_split(table, out, **ASKED).is_written
    with pytest.raises(UsageError, match="holds something else already") as caught:
        make_split(table, out, seed=6)
    assert "--force" in str(caught.value.hint)
    assert out.read_bytes() == before
    assert make_split(table, out, seed=6, force=True).is_written
    assert read_split(out).seed == 6


def test_the_table_is_never_overwritten(table: Path) -> None:
    before = table.read_bytes()
    with pytest.raises(UsageError, match="is the table itself"):
        make_split(table, table, force=True)
    assert table.read_bytes() == before


def test_a_folder_as_target_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        make_split(table, tmp_path)


def test_a_dry_run_writes_nothing(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "s.json"
    result = make_split(table, out, dry_run=True, **ASKED)
    assert result.counts["train"] == 56
    assert not result.is_written
    assert not out.parent.exists()
    make_split(table, out, **ASKED)
    again = make_split(table, out, seed=9, dry_run=True)
    assert "needs --force" in " ".join(again.notes)


def test_nothing_is_written_when_the_format_cannot_hold_it(table: Path, tmp_path: Path) -> None:
    for format in ("swift", "csv"):
        with pytest.raises(UsageError, match="no place for folds"):
            make_split(table, tmp_path / "o" / "s.txt", format=format, folds=3)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("format", ["json", "swift", "csv"])
def test_formats_hold_the_same_people(table: Path, tmp_path: Path, format: str) -> None:
    result = make_split(table, tmp_path / f"s.{format}", format=format, seed=5)
    assert read_split(result.out).parts == make_split(table, tmp_path / "j", seed=5).split.parts


def test_folds_are_written_and_read(table: Path, tmp_path: Path) -> None:
    result = make_split(table, tmp_path / "s.json", folds=4, group="family")
    assert result.n_folds == 4
    assert list(read_split(result.out).folds) == list(result.split.folds)


def test_an_imbalance_ends_in_its_own_code_after_writing(tmp_path: Path) -> None:
    rows = [{"id": f"p{i}", "rare": "x" if i == 0 else "y"} for i in range(40)]
    source = write_table(tmp_path / "t.csv", rows)
    with pytest.raises(NeuroError, match="out of balance in rare") as caught:
        make_split(source, tmp_path / "s.json", stratify="rare", fail_on_imbalance=True)
    assert caught.value.code == ExitCode.PARTIAL
    assert (tmp_path / "s.json").is_file()


def test_the_page_is_sound_offline_and_escapes_what_people_wrote(tmp_path: Path) -> None:
    rows = [
        {"id": f"p{i}", "<script>alert(1)</script>": "<b>x" if i % 2 else "y&z", "age": str(i)}
        for i in range(40)
    ]
    source = write_table(tmp_path / "t.csv", rows)
    page = make_split(source, tmp_path / "s.json").report_html.read_text()
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert "script" not in parser.seen
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;x" in page
    assert "0 groups divided" in page


def test_no_output_holds_a_path_of_this_machine(table: Path, tmp_path: Path) -> None:
    result = make_split(table, tmp_path / "s.json", **ASKED)
    for path in (result.out, result.report_json, result.report_html):
        assert str(tmp_path) not in path.read_text()


def test_global_state_is_left_alone(table: Path, tmp_path: Path, capsys) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), os.getcwd()
    make_split(table, tmp_path / "s.json", **ASKED)
    assert (random.getstate(), np.random.get_state()[1].tolist(), os.getcwd()) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,age\na,1\nb,2\na,3\n", "ids in column 'id' repeat: 'a' on lines 2 and 4"),
        ("", "empty"),
        ("<html></html>", "web page"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    source = tmp_path / "t.csv"
    source.write_text(text)
    with pytest.raises(InputError, match=words):
        make_split(source, tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("a/b", "slash or a control"), ('"a\nb"', "slash or a control"), ("..", "slash or a control")],
)
def test_ids_that_name_no_person_are_refused(tmp_path: Path, name: str, words: str) -> None:
    source = tmp_path / "t.csv"
    source.write_text(f"id,age\n{name},3\nc,4\n")
    with pytest.raises(UsageError, match=words):
        make_split(source, tmp_path / "s.json")
