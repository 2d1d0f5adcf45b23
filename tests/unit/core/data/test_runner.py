"""Preparation of many items: what is done, skipped, refused, and what the folder says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from runner_work import FLAT, SPEC, records, run, tree, write_items

from neurocli.core.data.items import Found, Item, OutputSpec
from neurocli.core.data.runner import format_version, plan_items, prepare, refuse_own_source
from neurocli.core.errors import ExitCode, InputError, NeuroError, UsageError
from neurocli.core.events import ItemDone, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import folder_lock

TEXTS = {"b": "hello world", "a": "good morning", "c": "hi"}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return write_items(tmp_path / "in", TEXTS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_done_items_are_whole_and_listed_in_order(items: list[Item], out: Path) -> None:
    events: list[object] = []
    result = run(items, out, events=events)
    assert (result.done, result.failed, result.skipped) == (3, 0, 0)
    assert (out / "a" / "text.txt").read_text() == "GOOD MORNING"
    assert list(records(out)) == ["a", "b", "c"]
    record = records(out)["a"]
    assert record["files"] == ["a/text.txt", "a/text.txt.size"]
    assert record["source"] == ["a.in"]
    assert record["error"] is None
    assert isinstance(events[0], WorkStarted)
    assert events[0].total == 3
    assert sum(isinstance(event, ItemDone) for event in events) == 3
    assert isinstance(events[-1], WorkFinished)
    assert not list(out.glob("*.part-*"))
    assert not (out / ".lock").exists()


def test_the_main_file_is_hashed(items: list[Item], out: Path) -> None:
    import hashlib

    run(items, out)
    wanted = hashlib.sha256(b"GOOD MORNING").hexdigest()
    assert records(out)["a"]["sha256"] == wanted


def test_dataset_json_says_what_it_is(items: list[Item], out: Path) -> None:
    run(Found(items, built_in_data=True), out)
    found = json.loads((out / "dataset.json").read_text())
    assert found == {
        "schema": "neuro/dataset/1",
        "room": "room",
        "kind": "preprocessed",
        "dataset": "kind",
        "options": {"flat": False},
        "n_done": 3,
        "n_failed": 0,
        "built_in_data": True,
        "complete": True,
    }


def test_flat_output(items: list[Item], out: Path) -> None:
    run(items, out, spec=FLAT)
    assert (out / "a.txt").read_text() == "GOOD MORNING"
    assert records(out)["a"]["files"] == ["a.txt", "a.txt.size"]
    assert not [p for p in out.iterdir() if p.is_dir()]


@pytest.mark.parametrize("spec", [SPEC, FLAT])
def test_same_bytes_for_any_number_of_jobs(
    items: list[Item], tmp_path: Path, spec: OutputSpec
) -> None:
    for jobs in (1, 2):
        run(items, tmp_path / f"jobs{jobs}", spec=spec, jobs=jobs)
    assert tree(tmp_path / "jobs1") == tree(tmp_path / "jobs2")


def test_a_rerun_skips_what_is_unchanged(items: list[Item], out: Path) -> None:
    run(items, out)
    before = tree(out)
    os.utime(items[0].sources[0], (1, 1))  # content decides, not time
    result = run(items, out)
    assert (result.done, result.skipped) == (0, 3)
    assert tree(out) == before


@pytest.mark.parametrize("change", ["source", "output", "version", "participant"])
def test_a_rerun_redoes_what_is_stale(items: list[Item], out: Path, change: str) -> None:
    run(items, out)
    spec = SPEC
    if change == "source":
        items[0].sources[0].write_text("another text")
    if change == "output":
        (out / "b" / "text.txt.size").unlink()
    if change == "version":
        spec = OutputSpec("room", "preprocessed", "kind", "work/2")
    if change == "participant":
        items[0] = Item("b", "someone", items[0].sources)
    result = run(items, out, spec=spec)
    assert result.done == (3 if change == "version" else 1)
    assert result.done + result.skipped == 3
    assert (out / "b" / "text.txt.size").is_file()
    assert records(out)["b"]["participant"] == ("someone" if change == "participant" else "b")


def test_failures_do_not_stop_the_rest(tmp_path: Path, out: Path) -> None:
    texts = {**TEXTS, "bad": "refuse me", "big": "memory please"}
    items = write_items(tmp_path / "in", texts)
    found = Found(items, failures=[("worse", "is no text")])
    result = run(found, out)
    assert (result.done, result.failed) == (3, 3)
    assert dict(result.failures) == {
        "bad": "bad.in: is refused; write another text",
        "big": "not enough memory; use fewer --jobs or a machine with more",
        "worse": "is no text",
    }
    assert records(out)["bad"]["status"] == "failed"
    assert records(out)["worse"]["error"] == "is no text"
    assert not (out / "bad").exists()
    assert json.loads((out / "dataset.json").read_text())["n_failed"] == 3


def test_a_missing_source_fails_its_item(items: list[Item], out: Path) -> None:
    items[0].sources[0].unlink()
    result = run(items, out)
    assert result.failures == [("b", "b.in: does not exist; check the name and the current folder")]


def test_a_bug_is_no_failure_of_an_item(tmp_path: Path, out: Path) -> None:
    items = write_items(tmp_path / "in", {"a": "bug here"})
    with pytest.raises(ZeroDivisionError):
        run(items, out)
    assert not list(out.glob("*.part-*"))


def test_a_failed_item_loses_its_older_output_and_recovers(items: list[Item], out: Path) -> None:
    run(items, out)
    items[0].sources[0].write_text("refuse now")
    assert run(items, out).failures[0][0] == "b"
    assert not (out / "b").exists()
    items[0].sources[0].write_text(TEXTS["b"])
    assert run(items, out).done == 1
    assert (out / "b" / "text.txt").is_file()


def test_nothing_done_is_an_error_that_keeps_the_manifest(tmp_path: Path, out: Path) -> None:
    items = write_items(tmp_path / "in", {"a": "refuse", "b": "refuse"})
    with pytest.raises(NeuroError, match=r"all 2 inputs failed: a\.in: is refused") as caught:
        run(items, out)
    assert caught.value.code == ExitCode.FAILED
    assert records(out)["b"]["status"] == "failed"


def test_repeated_ids_are_refused_before_any_work(items: list[Item], out: Path) -> None:
    with pytest.raises(UsageError, match="2 inputs have the id 'a'"):
        run([*items, items[1]], out)
    with pytest.raises(UsageError, match="2 inputs have the id 'c'"):
        run(Found(items, failures=[("c", "broken")]), out)
    assert not out.exists()


def test_no_jobs_cannot_work(items: list[Item], out: Path) -> None:
    with pytest.raises(UsageError, match="0 jobs"):
        run(items, out, jobs=0)


def test_notes_are_said_once(tmp_path: Path, out: Path) -> None:
    texts = dict.fromkeys("abcde", "short")
    result = run(Found(write_items(tmp_path / "in", texts), notes=["look"]), out)
    assert result.notes == ["look", "it is short (a, b, c and 2 more)"]


def test_folders_of_others_are_refused(items: list[Item], out: Path) -> None:
    out.mkdir()
    (out / "thesis.doc").write_text("years of work")
    with pytest.raises(UsageError, match=r"not empty .it holds thesis\.doc"):
        run(items, out)
    assert run(items, out, force=True).done == 3
    assert (out / "thesis.doc").read_text() == "years of work"


def test_other_options_are_refused_and_forced(items: list[Item], out: Path) -> None:
    run(items, out, options={"flat": False, "mask": "auto"})
    with pytest.raises(UsageError, match="mask is auto there and none here"):
        run(items, out, options={"flat": False, "mask": "none"})
    with pytest.raises(UsageError, match="kind is preprocessed there and hdf5 here"):
        run(items, out, spec=FLAT)
    result = run(items[:1], out, options={"flat": False, "mask": "none"}, force=True)
    assert result.done == 1
    assert list(records(out)) == ["b"]
    assert not (out / "a").exists()


def test_runs_add_up_in_one_folder(items: list[Item], out: Path) -> None:
    people = {"b": {"age": "3"}, "a": {"age": None}}
    run(Found(items[:1], participants={"b": people["b"]}), out)
    run(Found(items[1:2], participants={"a": people["a"]}), out)
    assert list(records(out)) == ["a", "b"]
    table = (out / "participants.tsv").read_text()
    assert table == "participant_id\tage\na\tn/a\nb\t3\n"
    assert json.loads((out / "dataset.json").read_text())["n_done"] == 2


def test_a_folder_in_use_is_refused(items: list[Item], out: Path) -> None:
    with folder_lock(out), pytest.raises(UsageError, match="another process is writing here"):
        run(items, out)


def test_leftovers_of_killed_runs_go(items: list[Item], out: Path) -> None:
    stale = out / "a.part-999999"
    stale.mkdir(parents=True)
    (stale / "text.txt").write_text("half")
    (out / "manifest.jsonl.part-999999").write_text("half")
    assert run(items, out).done == 3
    assert not list(out.glob("*.part-*"))


def test_a_cut_manifest_line_is_done_again(items: list[Item], out: Path) -> None:
    run(items, out)
    path = out / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    events: list[object] = []
    result = run(items, out, events=events)
    assert (result.done, result.skipped) == (1, 2)
    assert any("manifest.jsonl" in str(event) for event in events)


def test_paths_do_not_enter_the_output(items: list[Item], out: Path, tmp_path: Path) -> None:
    options = {"flat": False, "mask": str(tmp_path / "secret" / "mask.nii")}
    run(items, out, options=options)
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in written
    assert b'"mask": "mask.nii"' in written


def test_strange_names_stay_inside(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "x.in"
    source.write_text("hello there")
    run([Item("../evil id", "p", (source,))], out)
    assert (out / "%2E.%2Fevil%20id" / "text.txt").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.in"]


def test_a_plan_writes_nothing(items: list[Item], out: Path) -> None:
    result = plan_items(Found(items), out, spec=SPEC, options={}, force=False)
    assert result.plan is not None
    assert result.plan["items"] == ["b", "a", "c"]
    assert result.plan["source_bytes"] == sum(len(text) for text in TEXTS.values())
    assert not out.exists()
    run(items[:1], out, options={})
    again = plan_items(Found(items), out, spec=SPEC, options={}, force=False)
    assert again.plan is not None
    assert again.plan["items"] == ["a", "c"]
    assert again.skipped == 1


def test_the_source_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the output folder is the source"):
        refuse_own_source([tmp_path / "x" / ".."], tmp_path)


def test_format_versions_are_part_of_the_contract() -> None:
    assert format_version("runner_work:copy") == "work/1"
    with pytest.raises(NeuroError, match="FORMAT_VERSION"):
        format_version("json:dumps")


def test_prepare_resolves_a_card(tmp_path: Path, out: Path) -> None:
    from neurocli.core.catalog import find_dataset

    _, card = find_dataset("nifti")
    with pytest.raises(InputError, match="does not exist"):
        prepare(
            card,
            [tmp_path / "no.nii"],
            out,
            options={"mask": "auto"},
            jobs=1,
            force=False,
            dry_run=False,
            listener=ignore,
        )
    assert not out.exists()
