"""Names are found exactly or refused with the nearest one; cards resolve."""

from __future__ import annotations

import pytest

from neurocli.core import catalog
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import lookup, matching, nearest
from neurocli.systems import ROOMS


def test_every_model_is_found_with_its_room() -> None:
    for name, (room, card) in catalog.models().items():
        assert catalog.find_model(name) == (room, card)
        assert card.tasks
        for task in card.tasks:
            assert catalog.find_task(room, task).name == task


def test_every_room_is_open() -> None:
    assert len(catalog.rooms()) == len(ROOMS) == 4


def test_a_prefix_is_no_name() -> None:
    with pytest.raises(UsageError, match="unknown model 'fmam'"):
        catalog.find_model("fmam")
    with pytest.raises(UsageError, match="did you mean bids"):
        catalog.find_dataset("bid")


def test_resolve_says_what_is_wrong() -> None:
    assert catalog.resolve("math:pi") > 3
    with pytest.raises(NeuroError, match="cannot resolve"):
        catalog.resolve("math:no_such")
    with pytest.raises(NeuroError, match="cannot resolve"):
        catalog.resolve("no_such_module:x")


def test_names() -> None:
    assert nearest("Batch-Sise", ["batch_size", "epochs"]) == "batch_size"
    assert nearest("zzz", ["batch_size"]) is None
    assert matching("fm*", ["fmamba", "x", "fmamba_mlp"]) == ["fmamba", "fmamba_mlp"]
    assert lookup("thing", "a", {"a": 1}) == 1
    with pytest.raises(UsageError) as caught:
        lookup("thing", "x", {str(i): i for i in range(40)})
    assert "40 in all" in str(caught.value.hint)
