"""From a sample to a run: arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocli.core.config.load import load_config
from neurocli.core.cost.work import samples_of_run, work_of
from neurocli.core.errors import InputError


def test_steps_that_end_inside_an_epoch() -> None:
    settings = ["train.steps=5", "data.batch_size=2", "train.accumulate=2"]
    config = load_config(model="cebra", set=settings)
    told = work_of(config, {"train": 10, "val": 3}, forward=1, train_step=100)
    # Three steps of four clips make an epoch of ten; five steps are one epoch and two steps, and
    # the validation part is judged after either.
    assert told["run"] == 100 * (10 + 8) + 2 * 3
    assert (told["step"], told["epoch"], told["epochs"]) == (400, 1000, 2)


def test_without_data_only_a_clip_and_a_step_are_told() -> None:
    told = work_of(load_config(model="cebra"), {}, forward=1, train_step=100)
    assert told["clip"] == 100
    assert told["epoch"] is None
    assert told["run"] is None


def test_a_run_tells_its_samples(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.pth"
    assert samples_of_run(checkpoint) == {}
    record = tmp_path / "data.json"
    record.write_text(json.dumps({"parts": {"train": {"participants": 2, "samples": 7}}}))
    assert samples_of_run(checkpoint) == {"train": 7}
    record.write_text("{}")
    with pytest.raises(InputError, match="no record of a run's data"):
        samples_of_run(checkpoint)
