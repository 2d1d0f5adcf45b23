"""`make_split` on files: bytes, overwriting, reports, real tables, and what a kill leaves."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from neurocli import make_split
from neurocli.core.cohort.files import read_split, split_sha256
from neurocli.core.errors import ExitCode, InputError, NeuroError, UsageError


def write_table(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def cohort(n: int = 80) -> list[dict[str, str]]:
    chance = random.Random(1)
    return [
        {
            "participant_id": f"{i:04}",
            "age": f"{chance.gauss(30, 5):.2f}" if i % 11 else "n/a",
            "sex": chance.choice("MF"),
            "family": str(i // 2),
        }
        for i in range(n)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "people.csv", cohort())


ASKED = {"stratify": "sex,age", "group": "family", "seed": 5}


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


def test_the_same_bytes_for_any_order_of_rows_and_any_kind_of_table(
    table: Path, tmp_path: Path
) -> None:
    rows = cohort()
    random.Random(2).shuffle(rows)
    shuffled = write_table(tmp_path / "shuffled.tsv", rows, delimiter="\t")
    spelt = [{**row, "age": row["age"] + "00" if row["age"] != "n/a" else ""} for row in rows]
    other = write_table(tmp_path / "spelt.csv", spelt, delimiter=";")
    other.write_bytes(b"\xef\xbb\xbf" + other.read_bytes())
    made = [
        make_split(source, tmp_path / f"out{i}" / "s.json", **ASKED)
        for i, source in enumerate([table, shuffled, other])
    ]
    for name in ("out", "report_json", "report_html"):
        assert len({getattr(result, name).read_bytes() for result in made}) == 1


def test_the_bytes_are_pinned_across_machines(tmp_path: Path) -> None:
    # Expected value: recorded once; the order behind it is checked against hashlib elsewhere.
    rows = [{"id": f"p{i}", "sex": "MF"[i % 2]} for i in range(30)]
    result = make_split(write_table(tmp_path / "t.csv", rows), tmp_path / "s", stratify="sex")
    pinned = "92909aef7b9548db8adb2c35fe6e6a72e534bba62a24a2837b4c10276e5c1cfe"
    assert split_sha256(result.split.parts) == pinned


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_python_hash_seeds_do_not_matter(table: Path, tmp_path: Path, hash_seed: str) -> None:
    out = tmp_path / "s.json"
    script = (
        "import sys; from neurocli import make_split; "
        "make_split(sys.argv[1], sys.argv[2], stratify='sex,age', group='family', seed=5)"
    )
    root = Path(__file__).resolve().parents[4]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", script, table, out], check=True, env=environment)
    here = make_split(table, tmp_path / "here.json", **ASKED)
    assert out.read_bytes() == here.out.read_bytes()


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
    for named in ({"format": "swift", "folds": 3}, {"format": "nnunet"}):
        with pytest.raises(NeuroError):
            make_split(table, tmp_path / "o" / "s.txt", **named)
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


class Tags(HTMLParser):
    """Collect start tags and links; complain about tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


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


def test_a_kill_never_leaves_a_split_without_its_report(table: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from neurocli import make_split\n"
        "for seed in range(10**6):\n"
        "    make_split(sys.argv[1], f'{sys.argv[2]}/{seed}.json', seed=seed)\n"
    )
    root = Path(__file__).resolve().parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for trial in range(3):
        out = tmp_path / f"kill{trial}"
        process = subprocess.Popen([sys.executable, "-c", script, table, out], env=environment)
        deadline = time.monotonic() + 30
        while not list(out.glob("3.json")) and time.monotonic() < deadline:
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = [path for path in out.iterdir() if path.name.split(".", 1)[1] == "json"]
        assert len(finished) >= 3
        for path in finished:
            assert read_split(path).seed == int(path.stem)
            report = json.loads(path.with_name(f"{path.name}.report.json").read_text())
            assert report["split_sha256"] == split_sha256(read_split(path).parts)


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
