"""Rows about models and keys; parameter counts are those of the rooms' formulas."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest

from neurocli.core.catalog import models
from neurocli.core.errors import UsageError
from neurocli.core.listing import accepted, config_keys, count_default_parameters, list_models


def test_rows_follow_the_catalog() -> None:
    rows = list_models()
    assert [row["name"] for row in rows] == list(models())
    for row in rows:
        room, card = models()[row["name"]]
        assert (row["room"], row["summary"]) == (room.name, card.summary)


def test_patterns_and_rooms_narrow() -> None:
    assert [row["name"] for row in list_models("fmamba")] == ["fmamba"]
    assert list_models("nothing*") == []
    assert list_models(room="fmri") == [row for row in list_models() if row["room"] == "fmri"]
    with pytest.raises(UsageError, match="unknown room 'fmro'; did you mean fmri"):
        list_models(room="fmro")


def test_parameters_equal_those_of_the_built_model() -> None:
    # Oracle: the torch model itself; the tumour room's are held in tests/contracts.
    from neurocli.core.cost.target import find_target

    for name, (room, _) in models().items():
        if room.name == "brats" or room.cost is None:
            continue
        small = (24, 24, 24, 2) if room.name == "fmri" else None
        target = find_target(name, input_shape=small)
        built = sum(weight.numel() for weight in target.build().parameters())
        assert target.count_parameters() == built
    assert count_default_parameters("fmamba") == list_models("fmamba")[0]["params"]


def test_a_room_without_a_formula_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from neurocli.core import listing

    room, card = models()["fmamba"]
    monkeypatch.setattr(listing, "find_model", lambda _: (replace(room, cost=None), card))
    assert count_default_parameters("fmamba") is None


def test_every_key_of_a_run_is_listed_once() -> None:
    from neurocli.core.config.load import load_config

    for name in models():
        keys = config_keys(name)
        assert len({key.key for key in keys}) == len(keys)
        plain = load_config(model=name).model_dump(mode="json")
        flat = {f"{block}.{key}" for block, values in plain.items() for key in values}
        assert {key.key for key in keys} == flat


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (bool, "true | false"),
        (str | None, "text | null"),
        (Literal["a", 1], "a | 1"),
        (tuple[int, ...], "[int, ...]"),
        (Annotated[tuple[float, float], "x"], "[float, float]"),
    ],
)
def test_types_as_a_reader_writes_them(annotation: object, text: str) -> None:
    assert accepted(annotation) == text
