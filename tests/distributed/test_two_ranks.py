"""Two ranks, under every engine, do what one process does with the same global batch.

The reference is always one process in this test's own process. SGD is used where weights are
compared: Adam divides the rounding of gradients that should be zero (a bias before batch
statistics) by their own size.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.parallel.shard_files import load_newest, load_shards
from neurocli.core.engine.parallel.team import joined
from neurocli.core.errors import InputError

HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
SGD = {"epochs": 2, "optimizer": "sgd", "momentum": 0.9, "lr": 0.003}
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {"parallel": "ddp"},
    "fsdp": {"parallel": "fsdp"},
    **{f"zero{n}": {"parallel": "deepspeed", "train": {"zero_stage": n}} for n in range(4)},
}
NEEDS_DEEPSPEED = pytest.mark.skipif(
    not HAS_DEEPSPEED, reason="deepspeed is not installed: DS_BUILD_OPS=0 pip install deepspeed"
)
HERE = [name for name in ENGINES if HAS_DEEPSPEED or not name.startswith("zero")]
ALL = [pytest.param(n, marks=[] if n in HERE else NEEDS_DEEPSPEED) for n in ENGINES]
# 22 samples in batches of 4: the last batch holds 2, one for each rank.
TRAINING: dict[str, dict[str, Any]] = {
    "plain": {"train": SGD},
    "adamw, accumulated, averaged": {
        "train": {"epochs": 2, "accumulate": 4, "ema": 0.9},
        "linear": True,
    },
}
RELAY = ["none", *HERE, "none"]  # each goes on from what the one before it saved
DROPPING = {"dropout": 0.3, "train": {"epochs": 2, "ema": 0.9}}  # random draws on every rank


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    job: dict[str, Any] = {}
    for part in parts:
        train = {**job.get("train", {}), **part.get("train", {})}
        job = {**job, **part, "train": train}
    return job


@pytest.fixture(scope="module")
def alone(ranks_program: ModuleType) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that does a job in this process."""
    toy = ranks_program.load_toy()

    def run(job: dict[str, Any]) -> dict[str, Any]:
        Path(job["run"]).mkdir(parents=True, exist_ok=True)
        with joined() as team:
            ended: dict[str, Any] = ranks_program.train(team, toy, job)
        return ended

    return run


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
    made_once: Callable[..., dict[str, Any]],
    run_ranks: Callable[..., list[Any]],
    alone: Callable[[dict[str, Any]], dict[str, Any]],
    ranks_program: ModuleType,
) -> dict[str, Any]:
    """Do everything in one process group, and the references in this process."""
    out = tmp_path_factory.mktemp("engines")
    ended = made_once("two-ranks", lambda: do_all(out, run_ranks, alone, ranks_program))
    return {**ended, "out": Path(ended["out"])}


def do_all(
    out: Path,
    run_ranks: Callable[..., list[Any]],
    alone: Callable[[dict[str, Any]], dict[str, Any]],
    ranks_program: ModuleType,
) -> dict[str, Any]:
    ended: dict[str, Any] = {"out": str(out)}
    jobs: list[dict[str, Any]] = []

    def add(name: str, *parts: dict[str, Any]) -> None:
        jobs.append({**merged(*parts), "run": str(out / name)})

    for training, options in TRAINING.items():
        ended[f"one/{training}"] = alone({**options, "run": str(out / "one" / training)})
        for engine in HERE:
            add(f"{engine}/{training}", options, ENGINES[engine])
    plan = merged(TRAINING["plain"], {"train": {"epochs": len(RELAY), "ema": 0.9}})
    ended["relay whole"] = alone({**plan, "run": str(out / "relay whole")})
    alone({**plan, "run": str(out / "relay"), "signal_at": 4})
    for number, engine in enumerate(RELAY[1:-1], start=1):
        stop = {"signal_at": 4 + 5 * number, "name": engine}
        add("relay", plan, ENGINES[engine], stop)
    for engine in ("ddp", "fsdp"):
        add(f"{engine}/whole", DROPPING, ENGINES[engine])
        add(f"{engine}/resumed", DROPPING, ENGINES[engine], {"signal_at": 5, "name": "stopped"})
        add(f"{engine}/resumed", DROPPING, ENGINES[engine])
    saving = {"train": {"sharded_saves": True}, "run_block": {"checkpoint_every_steps": 2}}
    add("shards", DROPPING, ENGINES["fsdp"], saving, {"raise_at": 9, "name": "killed"})
    one_left = {"linear": True, "data": {"n_train": 21}}
    ended["one/one left"] = alone(
        {**merged(one_left, {"train": SGD}), "run": str(out / "one" / "one left")}
    )
    for engine in ("ddp", "fsdp"):
        add(f"{engine}/one left", one_left, {"train": SGD}, ENGINES[engine])
    add("batch statistics of one", one_left, {"linear": False}, ENGINES["ddp"])
    add("batch of one", {"block": {"batch_size": 1}}, ENGINES["ddp"])
    add("early", {"train": {"epochs": 9, "early_stop": 1, "lr": 1e-9}}, ENGINES["fsdp"])
    add(
        "full disk",
        {"train": SGD, "full_at": 7, "run_block": {"checkpoint_every_steps": 1}},
        ENGINES["fsdp"],
    )
    add(
        "bad",
        {"train": {**SGD, "max_bad_steps": 9}, "data": {"bad": [3]}, "linear": True},
        ENGINES["fsdp"],
    )
    ranks_program.rooms.run(out / "rooms of one", out / "rooms of one")
    add("rooms", {"rooms": str(out / "rooms of one")})
    for job, result in zip(jobs, run_ranks(jobs), strict=True):
        name = str(Path(job["run"]).relative_to(out))
        ended[f"{name} {job['name']}" if "name" in job else name] = result
    ended["relay end"] = alone({**plan, "run": str(out / "relay")})
    return ended


def steps(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "step"]


def assert_same_run(one: Path, other: Path, *, weights: float = 1e-5) -> None:
    """Compare losses, norms and metrics of every step (1e-5), and the last checkpoints."""
    for ours, theirs in zip(steps(one), steps(other), strict=True):
        assert set(ours) == set(theirs)
        for key, value in ours.items() - {("event", "step")}:
            assert theirs[key] == pytest.approx(value, rel=1e-5), f"{key} of step {ours['step']}"
    first, second = (load_checkpoint(run / "checkpoints" / "last.pth") for run in (one, other))
    assert first["progress"] == pytest.approx(second["progress"], rel=1e-5)
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], value, rtol=weights, atol=weights)
    assert list(first["optimizer"]["state"]) == list(second["optimizer"]["state"])
    for number, state in first["optimizer"]["state"].items():
        for key, value in state.items():
            torch.testing.assert_close(
                second["optimizer"]["state"][number][key], value, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("engine", ALL)
def test_two_ranks_train_as_one_process(done: dict[str, Any], engine: str, training: str) -> None:
    ended = done[f"{engine}/{training}"]
    assert ended[0] == ended[1]  # the same best value and reason on both
    assert ended[0]["best"] == pytest.approx(done[f"one/{training}"]["best"], rel=1e-5)
    assert_same_run(done["out"] / "one" / training, done["out"] / engine / training)


def test_a_run_goes_on_under_every_engine_in_turn(done: dict[str, Any]) -> None:
    for engine in RELAY[1:-1]:
        assert [end["code"] for end in done[f"relay {engine}"]] == [75, 75]
    assert done["relay end"]["steps"] == done["relay whole"]["steps"]
    assert_same_run(done["out"] / "relay whole", done["out"] / "relay", weights=1e-4)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_resumed_under_two_ranks_to_the_same_bytes(done: dict[str, Any], engine: str) -> None:
    assert [end["code"] for end in done[f"{engine}/resumed stopped"]] == [75, 75]
    whole, resumed = (done["out"] / engine / name for name in ("whole", "resumed"))
    for name in ("last.pth", "best.pth"):
        assert (whole / "checkpoints" / name).read_bytes() == (
            resumed / "checkpoints" / name
        ).read_bytes()
    assert (whole / "metrics.csv").read_bytes() == (resumed / "metrics.csv").read_bytes()
    assert steps(whole) == steps(resumed)


def test_saves_in_shards_are_read_by_one_process(done: dict[str, Any]) -> None:
    folder = done["out"] / "shards" / "checkpoints"
    assert [end["error"] for end in done["shards killed"]] == ["as if it had been killed"] * 2
    names = sorted(path.name for path in (folder / "last.shards").iterdir())
    assert names[0] == "head.pth"
    assert len(names) == 3  # and a file of each rank
    found = load_newest(folder)
    assert found is not None
    path, payload, _ = found
    assert (path.name, payload["progress"]["step"]) == ("last.shards", 8)
    # The run without a kill passed step 8 with the same bytes; its log knows the loss there.
    assert list(payload["optimizer"]["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
    shapes = {name: tuple(value.shape) for name, value in payload["state_dict"].items()}
    last = load_checkpoint(folder / "last.pth")
    assert shapes == {name: tuple(value.shape) for name, value in last["state_dict"].items()}
    assert steps(done["out"] / "shards") == steps(done["out"] / "fsdp" / "whole")[:9]


def test_a_missing_shard_is_named(done: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(done["out"] / "shards" / "checkpoints" / "last.shards", tmp_path / "s")
    sorted((tmp_path / "s").glob("*.safetensors"))[-1].unlink()
    with pytest.raises(InputError, match="a shard is damaged or missing"):
        load_shards(tmp_path / "s")


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_a_rank_without_a_sample_counts_for_nothing(done: dict[str, Any], engine: str) -> None:
    assert_same_run(done["out"] / "one" / "one left", done["out"] / engine / "one left")


def test_what_cannot_be_divided_is_refused_on_every_rank(done: dict[str, Any]) -> None:
    for name, text in (
        ("batch statistics of one", "the last batch of an epoch has 1 samples for 2 processes"),
        ("batch of one", "a batch of 1 cannot be divided among 2 processes"),
    ):
        assert [end["code"] for end in done[name]] == [2, 2]
        assert all(text in end["error"] for end in done[name])


def test_every_rank_stops_early_at_the_same_epoch(done: dict[str, Any]) -> None:
    first, second = done["early"]
    assert first == second
    assert first["reason"] == "early_stop"


def test_a_full_disk_ends_all_ranks_and_keeps_the_checkpoint(done: dict[str, Any]) -> None:
    for end in done["full disk"]:
        assert "No space left on device" in end["error"]
    kept = load_checkpoint(done["out"] / "full disk" / "checkpoints" / "last.pth")
    assert kept["progress"]["step"] == 6


def test_a_bad_sample_of_one_rank_skips_the_step_on_all(done: dict[str, Any]) -> None:
    assert done["bad"][0] == done["bad"][1]
    skipped = [line for line in steps(done["out"] / "bad") if "skipped" in line]
    assert len(skipped) == 2  # once in each epoch
    kept = load_checkpoint(done["out"] / "bad" / "checkpoints" / "last.pth")
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize("room", ["ar", "contrastive", "calcium", "genes", "brats"])
def test_every_room_trains_as_in_one_process(done: dict[str, Any], room: str) -> None:
    one, two = (steps(done["out"] / name / room) for name in ("rooms of one", "rooms"))
    assert len(one) == 2
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("room", ["ar", "genes"])
def test_two_ranks_judge_as_one_process(done: dict[str, Any], room: str) -> None:
    one, two = (done["out"] / name / f"{room}-judged" for name in ("rooms of one", "rooms"))
    files = [path.relative_to(one) for path in sorted(one.rglob("*")) if path.is_file()]
    assert len(files) >= 3
    for name in files:
        if name.name != "metrics.json":
            assert (one / name).read_bytes() == (two / name).read_bytes(), str(name)
    first, second = (json.loads((each / "metrics.json").read_text()) for each in (one, two))
    assert {**first, "out": ""} == {**second, "out": ""}
