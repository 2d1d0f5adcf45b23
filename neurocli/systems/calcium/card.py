"""The door of the calcium room: contrastive embeddings of calcium imaging."""

from __future__ import annotations

from neurocli.core.catalog import DatasetCard, ModelCard, RoomCard, TaskCard

_ROOM = "neurocli.systems.calcium"


def _encoder(name: str, encoder: str, summary: str) -> ModelCard:
    return ModelCard(
        name=name,
        summary=summary,
        build=f"{_ROOM}.models.build:build",
        config=f"{_ROOM}.config:EncoderConfig",
        tasks=("labels", "time", "hybrid"),
        defaults={"encoder": encoder},
        tags=("contrastive", "embedding"),
    )


def _task(name: str, summary: str) -> TaskCard:
    return TaskCard(name, summary, "pretrain", f"{_ROOM}.task:EmbeddingTask")


def _raw(name: str, summary: str) -> DatasetCard:
    return DatasetCard(
        name=name,
        summary=summary,
        find=f"{_ROOM}.discover:find_{name}",
        process=f"{_ROOM}.prepare:process_session",
        options=f"{_ROOM}.config:SessionOptions",
    )


ROOM = RoomCard(
    name="calcium",
    summary="calcium imaging: embeddings in which what was seen or done lies together",
    models=(
        _encoder("cebra", "offset10", "contrastive embedding of 10-frame windows"),
        _encoder("cebra-offset1", "offset1", "the same over single frames"),
        _encoder("cebra-offset5", "offset5", "the same over 5 frames"),
        _encoder("cebra-offset10", "offset10", "the same over 10 frames"),
        _encoder("cebra-offset36", "offset36", "the same over 36 frames"),
    ),
    datasets=(
        _raw("allen", "Allen sessions: HDF5 with masks or domains, NWB, plain arrays"),
        _raw("suite2p", "folders with suite2p's F.npy; one session per plane"),
    ),
    tasks=(
        _task("labels", "windows with like labels belong together, across sessions too"),
        _task("time", "windows near in time belong together; needs no labels"),
        _task("hybrid", "both, each in its own outputs"),
    ),
    presets=f"{_ROOM}.presets",
    data_config=f"{_ROOM}.config:CalciumDataBlock",
    task_config=f"{_ROOM}.config:CalciumTaskBlock",
    open_data=f"{_ROOM}.data:open_data",
    figures=f"{_ROOM}.report:figures",
    cost=f"{_ROOM}.cost:clip_cost",
    recognise=f"{_ROOM}.official:recognise",
    official_names=f"{_ROOM}.official:official_names",
    translate=f"{_ROOM}.seed_config:translate",
    parts_in_time=True,
)
