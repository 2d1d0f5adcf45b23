"""Config blocks: what they take, what they refuse, and that they need no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from neurocli.core.config.load import load_config
from neurocli.core.errors import ConfigError, UsageError
from neurocli.systems.brats.blocks import (
    LABEL_VALUES,
    MODALITIES,
    BratsDataBlock,
    BratsTaskBlock,
    PreprocessOptions,
)


def test_defaults_are_those_of_the_described_protocol() -> None:
    data, task, raw = BratsDataBlock(), BratsTaskBlock(), PreprocessOptions()
    assert data.patch == (128, 128, 128)
    assert data.samples_per_case == 16
    assert data.foreground == pytest.approx(1 / 3)
    assert (task.overlap, task.loss, task.empty) == (0.1, "dice7_ce3", "brats")
    assert (raw.clip_low, raw.clip_high) == (0.5, 99.5)
    assert data.eval_batch_size == 1


@pytest.mark.parametrize("given", ["flair,t1", ["flair", "t1"], ("t1", "flair")])
def test_contrasts_are_put_in_the_order_of_their_channels(given: Any) -> None:
    assert BratsDataBlock(modalities=given).modalities == ("t1", "flair")


@pytest.mark.parametrize("given", ["", "flair,flair", []])
def test_contrasts_that_are_none_or_twice(given: Any) -> None:
    with pytest.raises((UsageError, ValueError), match="empty or repeats"):
        BratsDataBlock(modalities=given)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.patch=0,8,8", "below 1"),
        ("data.patch=8,8", "data.patch"),
        ("task.roi=8,-1,8", "below 1"),
        ("task.overlap=1.0", "task.overlap"),
        ("task.loss=dice", "dice7_ce3"),
        ("task.empty=one", "brats"),
        ("data.foreground=1.5", "data.foreground"),
        ("data.modalities=pet", "data.modalities"),
        ("task.hd=max", "hd95"),
    ],
)
def test_settings_that_are_wrong_are_named(setting: str, said: str) -> None:
    with pytest.raises((ConfigError, UsageError)) as caught:
        load_config(model="unet3d_xs", set=[setting])
    assert said in f"{caught.value} {caught.value.hint}"


def test_shell_lists() -> None:
    config = load_config(model="unet3d_xs", set=["task.roi=96,96,64", "data.modalities=t2,t1ce"])
    values = config.model_dump()
    assert values["task"]["roi"] == (96, 96, 64)
    assert values["data"]["modalities"] == ("t1ce", "t2")


def test_labels_name_four_classes() -> None:
    assert all(len(values) == 4 and values[0] == 0 for values in LABEL_VALUES.values())
    assert len(MODALITIES) == 4


def test_no_torch_is_loaded() -> None:
    code = "import sys, neurocli.systems.brats.blocks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
