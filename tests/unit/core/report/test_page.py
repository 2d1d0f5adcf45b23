"""The page holds what it must, nothing that runs, nothing from elsewhere, the same every time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocli.core.report.collect import collect_run, collect_runs
from neurocli.core.report.page import page_text
from neurocli.core.report.scatter import script

WriteRun = Callable[..., Path]

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>1",
    "{{ 7 * 7 }}",
    "=1+1",
    "$x_{$",
    "javascript:alert(1)",
    "\u202etxt.\x00\x1b[31m",
    "\ud800",
]
# The tags and attributes of our own template: anything else came from data.
OWN_TAGS = """
    html head meta title style body header h1 h2 h3 h4 p strong nav ul li a main section div table
    caption thead tbody tr th td details summary figure picture source img figcaption span code pre
    br footer script button
"""
OWN_ATTRIBUTES = """
    lang charset name content http-equiv class id href aria-label scope media srcset src alt
    data-space data-x data-y data-z data-key data-told tabindex role type aria-live
"""


class _Page(HTMLParser):
    """Collect tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def _poison(folder: Path, word: str) -> None:
    """Put a hostile word into every text that a run folder holds."""
    for path in [*folder.glob("*.json"), folder / "evaluations" / "test" / "metrics.json"]:
        record = json.loads(path.read_text())
        for key, value in list(record.items()):
            if isinstance(value, str):
                record[key] = word
            elif isinstance(value, dict) and key != "parts":
                record[key] = {**value, word: 0.5}
        record |= {"left_out": [[word, word]], "notes": [word], "baselines": {word: {word: 0.5}}}
        record["metrics"] = {word: 0.5, "accuracy": 0.5}
        path.write_text(json.dumps(record))
    cell = '"' + word.replace('"', '""') + '"'
    (folder / "evaluations" / "test" / "per_subject.csv").write_text(
        f"participant,target\n{cell},{cell}\n", encoding="utf-8", errors="replace"
    )
    log = [
        {"event": "eval", "step": step, "part": word, "metrics": {word: step}} for step in (1, 2, 3)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(write_run: WriteRun, word: str) -> None:
    folder = write_run()
    _poison(folder, word)
    runs = [collect_run(folder, name=word), collect_run(write_run("plain"))]
    text = page_text(runs).encode("utf-8", "backslashreplace").decode()
    page = _Page(text)
    assert set(page.tags) <= set(OWN_TAGS.split())
    assert {name for name, _ in page.attributes} <= set(OWN_ATTRIBUTES.split())
    assert "\x00" not in text
    assert "\u202e" not in text
    if word.isprintable():
        assert word in page.text
    # The page's one script is our own, and no data is part of it.
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert scripts in ([], [str(script())])


def test_nothing_is_asked_of_the_network(write_run: WriteRun) -> None:
    page = _Page(page_text(collect_runs([write_run("a"), write_run("b")])))
    addresses = [value for name, value in page.attributes if name in ("href", "src", "srcset")]
    assert len(addresses) > 10
    assert all(value.startswith(("#", "data:image/svg+xml;base64,")) for value in addresses)
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in page.attributes
    assert "script" not in page.tags
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_same_runs_give_the_same_page_wherever_they_lie(
    write_run: WriteRun, tmp_path: Path
) -> None:
    first = page_text(collect_runs([write_run("here/run")]))
    second = page_text(collect_runs([write_run("elsewhere/deeper/run")]))
    assert first == second
    assert str(tmp_path) not in first


def test_absolute_folders_do_not_leave_the_machine(write_run: WriteRun) -> None:
    folder = write_run(
        data="/home/zebedee/secret/h5", left_out=[["sub-1", "/home/zebedee/x.nii: short"]]
    )
    text = page_text([collect_run(folder)])
    assert "zebedee" not in _Page(text).text


def test_the_page_says_what_was_run_and_where_each_number_is(write_run: WriteRun) -> None:
    text = _Page(page_text([collect_run(write_run())])).text
    for said in (
        "fmamba_mlp config.yaml",
        "139,008 result.json",
        "33 participants, 165 samples data.json",
        "accuracy 0.71 on val result.json",
        "test, n = 4 participants; evaluations/test/metrics.json",
        "accuracy [share] 0.75 [0.6, 1] better than majority (0.5)",
        "AUROC [share of pairs] 0.875 [0.4, 1] not distinguishable from majority (0.5)",
        "sub-03 M F 0.6 0.4",
        "All rows: evaluations/test/per_subject.csv",
        "train.lr 0.002 --lr",
        "packages.torch 2.13.0",
        "neuro train fmamba_mlp --config first/config.yaml",
        "seed 1234",
        "Confusion matrix, test",
    ):
        assert said in text
    assert "synthetic" not in text
    assert "Training data." not in text


def test_banners_for_synthetic_and_for_training_data(write_run: WriteRun) -> None:
    judged = {"part": "train", "n": 33, "metrics": {"accuracy": 0.99}, "in_sample": True}
    judged["baselines"] = {"majority": {"accuracy": 0.5}}
    judged["ci95"] = {"accuracy": [0.9, 1.0]}
    text = _Page(page_text([collect_run(write_run(built_in=True, judged=judged))])).text
    assert "Built-in synthetic data." in text
    assert "Training data." in text
    assert "no claim (training data) against majority (0.5)" in text
    assert "better than" not in text


def test_an_interrupted_run_is_shown_as_far_as_it_came(write_run: WriteRun) -> None:
    folder = write_run()
    for name in ("result.json", "environment.json", "config.sources.json"):
        (folder / name).unlink()
    for path in sorted((folder / "evaluations").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with (folder / "log.jsonl").open("a") as handle:
        handle.write('{"event": "st')
    text = _Page(page_text([collect_run(folder)])).text
    assert "the run has not ended, or was killed" in text
    assert "log.jsonl: the last line is cut off, dropped" in text
    assert "Not judged yet" in text
    assert "Training loss" in text
    assert "neuro train fmamba_mlp --config first/config.yaml" in text


def test_an_unknown_model_costs_only_its_pictures(write_run: WriteRun) -> None:
    text = _Page(page_text([collect_run(write_run(model="of_a_later_version"))])).text
    assert "no pictures of the room: unknown model 'of_a_later_version'" in text
    assert "accuracy [share] 0.75" in text


def test_many_left_out_items_are_cut_and_counted(write_run: WriteRun) -> None:
    left_out = [[f"sub-{i}", "too short"] for i in range(500)]
    text = _Page(page_text([collect_run(write_run(left_out=left_out))])).text
    assert "Left out: 500 200 shown; data.json" in text
    assert "sub-199 too short" in text
    assert "sub-200 too short" not in text


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(word=st.text(min_size=1, max_size=40))
def test_any_text_stays_text(tmp_path: Path, word: str) -> None:
    """No picture is drawn here, so that many texts can be tried."""
    record = {
        "metrics": {word: 0.5},
        "baselines": {word: {word: 0.25}},
        "notes": [word],
        "part": word,
    }
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    (tmp_path / "data.json").write_text(
        json.dumps({"objective": word, "left_out": [[word, word]], "parts": {word: {}}})
    )
    run = collect_run(tmp_path, name=word)
    page = _Page(page_text([run]).encode("utf-8", "backslashreplace").decode())
    assert set(page.tags) <= set(OWN_TAGS.split())
    assert {name for name, _ in page.attributes} <= set(OWN_ATTRIBUTES.split())
