"""Small tables of made-up people, what is asked of them, and a reader of pages."""

from __future__ import annotations

import csv
import random
from html.parser import HTMLParser
from pathlib import Path


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


ASKED = {"stratify": "sex,age", "group": "family", "seed": 5}


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


MATCH = {"sample": "psm", "treatment": "case", "covariates": "age,sex", "group": "family"}


def patients(n: int = 400) -> list[dict[str, str]]:
    chance = random.Random(3)
    rows = []
    for i in range(n):
        case = int(chance.random() < 0.3)
        rows.append(
            {
                "eid": str(1_000_000 + i),
                "case": str(case),
                "age": f"{chance.gauss(50 + 4 * case, 8):.2f}",
                "sex": chance.choice("FM"),
                "family": str(i // 2),
            }
        )
    return rows
