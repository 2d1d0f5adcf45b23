"""A short training of every room, and judgements: what two ranks and one process do alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurocli import evaluate, train

SMALL = ["model.embed_dim=32", "model.depth=1", "data.sequence_length=8"]
ROOMS: dict[str, tuple[str, dict[str, Any]]] = {
    # Own masks per clip: the loss is a mean over unlike numbers of tokens.
    "ar": ("fmamba", {"preset": "fmri/tiny", "set": [*SMALL, "model.token_mask=per-sample"]}),
    # Batch statistics in the projection, negatives from the whole batch.
    "contrastive": (
        "fmamba",
        {"preset": "fmri/tiny", "pretrain": "contrastive", "set": SMALL, "batch_size": 7},
    ),
    # Hidden neurons are drawn by each rank for itself, so none are hidden here.
    "calcium": (
        "cebra-offset10",
        {"preset": "calcium/tiny", "set": ["model.neuron_dropout=0", "data.epoch_steps=3"]},
    ),
    "genes": ("gene_pair", {"preset": "genes/tiny", "accumulate": 2}),
    "brats": (
        "mobile_unetr_3d",  # batch statistics; Dice over the batch as one volume
        {
            "preset": "brats/tiny",
            "set": [
                "model.variant=xxs",
                "model.dropout=0",
                "data.patch=[32,32,32]",
                "task.loss=nnunet",
                "train.optimizer=sgd",
            ],
        },
    ),
}
JUDGED = ("ar", "genes")


def run(out: Path, checkpoints: Path) -> None:
    """Train all rooms and judge two."""
    for name, (model, options) in ROOMS.items():
        train(model, device="cpu", steps=2, out=out / name, **options)
    for name in JUDGED:
        checkpoint = checkpoints / name / "checkpoints" / "last.pth"
        folder = out / f"{name}-judged"
        evaluate(checkpoint, out=folder, device="cpu", batch_size=4, save_predictions=True)
