"""Names, presets and patterns become targets; what is built fits the formula."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurocli.core.cost.target import find_target
from neurocli.core.errors import ConfigError, NeuroError, UsageError


def test_a_target_builds_what_its_formula_counts() -> None:
    target = find_target("fmamba_mlp", preset="fmri/tiny", input_shape=(12, 12, 12, 4))
    model, example = target.build(), target.example()
    assert not model.training
    assert example.shape == (1, 1, 12, 12, 12, 4)
    assert sum(part.numel() for part in model.parameters()) == target.formula()["params"]
    with torch.no_grad():
        assert model(example)["logits"].shape == (1, 2)


def test_the_example_is_the_same_every_time_and_has_no_background() -> None:
    target = find_target("fmamba", preset="fmri/tiny", input_shape=(12, 12, 12, 4))
    first = target.example()
    assert torch.equal(first, target.example())
    assert bool((first != 0).all())


def test_settings_reach_the_configuration() -> None:
    target = find_target("fmamba", settings=["model.depth=3"])
    assert target.config.model.depth == 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="did you mean depth"):
        find_target("fmamba", settings=["model.dept=3"])


def test_the_patch_must_divide_the_shape() -> None:
    target = find_target("fmamba", input_shape=(25, 24, 24, 4))
    with pytest.raises(UsageError, match="along H"):
        target.formula()


def test_a_room_without_a_formula_says_so() -> None:
    target = find_target("fmamba")
    other = replace(target, room=replace(target.room, cost=None))
    with pytest.raises(NeuroError, match="does not tell what its models cost"):
        other.formula()
