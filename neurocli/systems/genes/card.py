"""The door of the genes room: brain latents and gene embeddings in one space."""

from __future__ import annotations

from neurocli.core.catalog import DatasetCard, ModelCard, RoomCard, TaskCard

_ROOM = "neurocli.systems.genes"


def _model(name: str, summary: str, tag: str) -> ModelCard:
    return ModelCard(
        name=name,
        summary=summary,
        build=f"{_ROOM}.models.build:build",
        config=f"{_ROOM}.config:GeneModelConfig",
        tasks=("align",),
        tags=("contrastive", tag),
    )


ROOM = RoomCard(
    name="genes",
    summary="brain latents and gene embeddings in one space, judged against the optimum",
    models=(
        _model("gene_pair", "brain latents with one gene, linear or two layers", "linear"),
        _model("gene_sequence", "brain latents with many genes, a transformer", "transformer"),
    ),
    datasets=(
        DatasetCard(
            name="latents",
            summary="{IID}_latent.npz and gene tables; packed into arrays",
            find=f"{_ROOM}.discover:find_latents",
            process=f"{_ROOM}.prepare:process_block",
            options=f"{_ROOM}.config:LatentsOptions",
            needs_source=False,
        ),
    ),
    tasks=(
        TaskCard(
            "align", "tell whose genes a brain goes with", "pretrain", f"{_ROOM}.task:AlignTask"
        ),
    ),
    presets=f"{_ROOM}.presets",
    data_config=f"{_ROOM}.config:GenesDataBlock",
    task_config=f"{_ROOM}.config:GenesTaskBlock",
    open_data=f"{_ROOM}.data:open_data",
    figures=f"{_ROOM}.report:figures",
    cost=f"{_ROOM}.cost:clip_cost",
)
