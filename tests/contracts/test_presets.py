"""Every preset that ships is short, explained, valid, and builds its model."""

from __future__ import annotations

import pytest

from neurocli.core.catalog import find_task, rooms
from neurocli.core.config.load import load_config
from neurocli.core.config.presets import presets
from neurocli.core.engine.rebuild import build_model

MAX_LINES = 60
INFO = {"img_size": [24, 30, 24, 8], "n_outputs": 2, "classes": ["F", "M"], "scaling": "voxel-z"}


def models_for(room: str) -> list[str]:
    return [model.name for model in rooms()[room].models]


CASES = [(name, model) for name, preset in presets().items() for model in models_for(preset.room)]
# What the smallest data of a room tell a builder, and what makes its models small.
SMALL = {"fmri": ["model.depth=1"]}
TUMOUR_INFO = {"modalities": ["t1", "t1ce", "t2", "flair"], "n_classes": 4, "dims": 3}


@pytest.mark.parametrize("name", sorted(presets()))
def test_is_short_and_explained(name: str) -> None:
    text = presets()[name].text
    head = text.split("\nmodel:")[0]
    assert len(text.splitlines()) <= MAX_LINES
    assert presets()[name].summary
    for word in ("# Data:", "# Expected:", "# Hardware:"):
        assert word in head, f"{name} does not say {word}"
    assert "/home" not in text


@pytest.mark.parametrize(("name", "model"), CASES)
def test_validates_and_builds(name: str, model: str) -> None:
    room = presets()[name].room
    config = load_config(preset=name, model=model, set=SMALL.get(room, []))
    if room == "brats":
        # All networks of this room are built elsewhere; here the preset must fit each of them.
        if model == "unet3d_xs":
            assert build_model(config, TUMOUR_INFO) is not None
        return
    info = dict(INFO) if room != "calcium" else {}  # that room builds at a described size
    if room == "fmri":
        patch = config.model.model_dump()["patch_size"]
        info["img_size"] = [8 * size for size in patch[:3]]
        info["img_size"] += [config.data.model_dump()["sequence_length"]]
    built = build_model(config, info)
    assert sum(weight.numel() for weight in built.parameters()) > 0


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_room_has_a_tiny_preset(room: str) -> None:
    assert f"{room}/tiny" in presets()


@pytest.mark.parametrize("room", sorted(rooms()))
def test_cards_point_at_things_that_exist(room: str) -> None:
    from neurocli.core.catalog import resolve

    card = rooms()[room]
    for model in card.models:
        for reference in (model.build, model.config):
            assert resolve(reference) is not None
        for task in model.tasks:
            assert resolve(find_task(card, task).task) is not None
    for row in card.datasets:
        for reference in (row.find, row.process, row.options):
            assert resolve(reference) is not None
    for reference in (card.data_config, card.task_config, card.open_data, card.convert):
        assert reference is None or resolve(reference) is not None
    for reference in (card.figures, card.cost, card.translate):
        assert reference is None or resolve(reference) is not None
