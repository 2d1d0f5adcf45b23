"""`neuro split` through the shell's door: codes, one document, files, and the words of errors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(0)
    lines = ["id,case,age,sex,site"]
    for i in range(200):
        case = int(chance.random() < 0.3)
        age = chance.gauss(50 + 3 * case, 8)
        lines.append(f"p{i:03},{case},{age:.1f},{chance.choice('FM')},{chance.choice('abc')}")
    Path("t.csv").write_text("\n".join(lines) + "\n")
    return Path("t.csv")


MATCH = ("--sample", "psm", "--treatment", "case", "--covariates", "age,sex")


def test_a_matching_is_one_document_and_three_files(neuro: Any, table: Path) -> None:
    answer = neuro("split", table, "-o", "m.json", *MATCH, "--exact", "site", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["schema"] == "neuro/split/1"
    assert answer.json["groups"] == {"split": 0}
    assert answer.json["sampling"]["treatment"]["treated"] == "1"
    written = json.loads(Path("m.json").read_text())
    assert answer.json["n_pairs"] == len(written["pairs"]) > 20
    assert Path("m.json.report.html").is_file()
    again = neuro("split", table, "-o", "m.json", *MATCH, "--exact", "site", "-q")
    assert (again.code, again.out) == (0, "m.json\n")


def test_flags_reach_the_matching(neuro: Any, table: Path) -> None:
    flags = ("--match", "nearest", "--order", "closest", "--ratio", "2", "--replace", "--discard",
             "both", "--caliper", "0.3,age=4", "--limit", "60")  # fmt: skip
    assert neuro("split", table, "-o", "m.json", *MATCH, *flags, "-q").code == 0
    shown = json.loads(Path("m.json").read_text())["options"]["sampling"]
    assert (shown["match"], shown["order"], shown["ratio"]) == ("nearest", "closest", 2)
    assert (shown["replace"], shown["discard"], shown["limit"]) == (True, "both", "60")
    assert (shown["caliper"], shown["calipers"]) == (0.3, {"age": 4.0})


def test_several_seeds_are_listed(neuro: Any, table: Path) -> None:
    answer = neuro("split", table, "-o", "s.txt", "--format", "swift", "--seeds", "1-3", "--json")
    assert [run["out"] for run in answer.json["splits"]] == ["s_1.txt", "s_2.txt", "s_3.txt"]
    assert 0 <= answer.json["test_overlap"] < 1
    assert all(Path(run["out"]).is_file() for run in answer.json["splits"])


def test_relatives_and_sites_by_flags(neuro: Any, table: Path) -> None:
    Path("kin.txt").write_text(
        "ID1 ID2\n" + "".join(f"p{i:03} p{i + 1:03}\n" for i in range(0, 200, 4))
    )
    answer = neuro("split", table, "-o", "k.json", "--kinship", "kin.txt", "--stratify", "age,sex",
                   "--site-policy", "stratify", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    written = json.loads(Path("k.json").read_text())
    assert written["groups"] == {"columns": ["kinship"], "largest": 2, "n": 150, "split": 0}
    held = neuro("split", table, "-o", "h.json", "--site-policy", "hold-out", "--json")
    assert held.code == 0, held.err
    parts = json.loads(Path("h.json").read_text())["parts"]
    site = {line.split(",")[0]: line.split(",")[4] for line in table.read_text().split()[1:]}
    homes = [{site[name] for name in names} for names in parts.values()]
    assert sum(len(home) for home in homes) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--sample", "psm", "--treatment", "site", "--covariates", "age"), 2, "3 classes"),
        (("--sample", "psm", "--treatment", "case", "--covariates", "aged"), 2, "did you mean age"),
        (("--sample", "psm", "--treatment", "case"), 2, "needs columns to compare"),
        (("--ratio", "2", "--sample", "random", "--limit", "9"), 2, "belongs to matching"),
        (("--kinship", "none.txt"), 1, "does not exist"),
        (("--seeds", "1-x"), 2, "no whole number"),
    ],
)
def test_errors_name_what_is_wrong(
    neuro: Any, table: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    answer = neuro("split", table, "-o", "e.json", *words)
    assert answer.code == code, answer.err
    assert said in answer.err
    assert "hint: " in answer.err
    assert not Path("e.json").exists()


def test_an_imbalance_ends_in_code_three_and_names_the_covariate(neuro: Any, table: Path) -> None:
    rows = table.read_text().split()
    rows = [rows[0] + ",dose"] + [
        f"{row},{int(row.split(',')[1] == '1' or i % 9 == 0)}" for i, row in enumerate(rows[1:])
    ]
    table.write_text("\n".join(rows) + "\n")
    answer = neuro("split", table, "-o", "d.json", "--sample", "psm", "--treatment", "case",
                   "--covariates", "dose", "--caliper", "none", "--fail-on-imbalance")  # fmt: skip
    assert answer.code == 3
    assert "out of balance in dose" in answer.err
    assert Path("d.json").is_file()
