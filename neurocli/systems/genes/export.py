"""Files beside a run that other programs read: model, vectors of everybody, ranks, attention.

`best_model.pt` and `aligned_embeddings.pt` hold tensors, numbers, texts, lists and dicts only, so
`torch.load` opens them with its safe default.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurocli.core.config.load import config_from_plain
from neurocli.core.data.tables import safe_cell
from neurocli.core.engine.checkpoint import check_plain, load_checkpoint
from neurocli.core.engine.rebuild import build_model
from neurocli.core.engine.torch_file import write_torch_file
from neurocli.core.engine.weights import BEST_MODEL, load_weights
from neurocli.core.paths import durable_path, durable_write
from neurocli.systems.genes.models.pair import Aligned
from neurocli.systems.genes.models.sequence import GeneSequence
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution

EMBEDDINGS, RANKS, GENES = "aligned_embeddings.pt", "ranks.csv", "genes.csv"
ATTENTION, SWEEP = "gene_attention", "sweep.pt"
_AT_ONCE = 64
_FORMAT = 1


def write_plain(path: Path, content: dict[str, Any]) -> Path:
    """Write a torch file of tensors and plain values, whole or not at all.

    Raises:
        NeuroError: Something else is inside, or the disk refuses.
    """
    check_plain(content, where=path.name)
    with durable_path(path) as temporary:
        write_torch_file(temporary, content)
    return path


def read_model(checkpoint: Path) -> tuple[Aligned, dict[str, Any]]:
    """Return the model of a checkpoint in evaluation mode, and its payload.

    Raises:
        InputError: It cannot be read.
    """
    payload = load_checkpoint(checkpoint)
    config = config_from_plain(payload["config"], str(checkpoint))
    model = build_model(config, payload["info"])
    load_weights(model, payload["state_dict"], label=str(checkpoint))
    assert isinstance(model, Aligned)
    return model.eval(), payload


def write_model(run_dir: Path, payload: Mapping[str, Any], metrics: Mapping[str, float]) -> Path:
    """Write `best_model.pt`: the checkpoint, and the described keys beside it.

    Args:
        run_dir: The run folder.
        payload: Of the best checkpoint.
        metrics: Of the test part.
    """
    info, state = payload["info"], payload["state_dict"]
    content = {
        **payload,
        "model_state_dict": state,
        "optimizer_state_dict": payload["optimizer"],
        "scheduler_state_dict": None,
        "scaler_state_dict": payload["scaler"],
        "rng_state": payload["rng"],
        "epoch": int(payload["progress"]["epoch"]),
        "global_step": int(payload["progress"]["step"]),
        "gene_names": list(info["gene_names"]),
        "neuro_input_dim": info["neuro_input_dim"],
        "gene_input_dim": info["gene_input_dim"],
        "latent_shape": info["latent_shape"],
        "preprocess": {
            "mean": state["neuro_mean"],
            "std": state["neuro_std"],
            "gene_mean": state["gene_mean"],
            "gene_std": state["gene_std"],
            "pca": None,
        },
        "metrics": {name: float(value) for name, value in metrics.items()},
        "format_version": _FORMAT,
    }
    return write_plain(run_dir / BEST_MODEL, content)


def write_sweep(run_dir: Path, solution: Solution) -> Path:
    """Write `sweep.pt`: each gene's maps from raw rows to variates, for other programs.

    Args:
        run_dir: The run folder.
        solution: The maps; the brain's are written of genes that stand out.
    """
    axes = solution.axes.astype(np.float64)
    named = dict(zip(solution.names, solution.genes, strict=True))
    shown = [solution.names[index] for index in solution.joined]
    maps: dict[str, dict[str, Any]] = {
        "brain": {name: axes @ named[name].brain for name in shown},
        "gene": {name: own.axes.astype(np.float64) @ own.gene for name, own in named.items()},
        "gene_mean": {name: own.mean for name, own in named.items()},
        "r": {name: own.r for name, own in named.items()},
    }
    content: dict[str, Any] = {
        side: {name: torch.from_numpy(value.astype(np.float32)) for name, value in own.items()}
        for side, own in maps.items()
    }
    content |= {
        "gene_names": list(solution.names),
        "brain_mean": torch.from_numpy(np.array(solution.mean)),
        "scale": {name: own.scale for name, own in named.items()},
    }
    return write_plain(run_dir / SWEEP, content)


def write_embeddings(
    run_dir: Path,
    vectors: Mapping[str, tuple[Sequence[str], Tensor, Tensor]],
    logit_scale: float,
) -> Path:
    """Write `aligned_embeddings.pt`.

    Args:
        run_dir: The run folder.
        vectors: Part -> (ids, brain vectors (n, E), gene vectors (n, E)).
        logit_scale: What cosines are multiplied by.
    """
    content = {
        "neuro_features": torch.cat([brain for _, brain, _ in vectors.values()]),
        "gene_features": torch.cat([gene for _, _, gene in vectors.values()]),
        "iids": [str(owner) for ids, _, _ in vectors.values() for owner in ids],
        "split": [part for part, (ids, _, _) in vectors.items() for _ in ids],
        "logit_scale": float(logit_scale),
    }
    return write_plain(run_dir / EMBEDDINGS, content)


def embed(model: Aligned, part: PairSet) -> tuple[list[str], Tensor, Tensor]:
    """Return ids, brain vectors and gene vectors (n, E) of a part, float32."""
    loader = (
        part.collate([part.sample(i, 0) for i in range(first, min(first + _AT_ONCE, len(part)))])
        for first in range(0, len(part), _AT_ONCE)
    )
    brain, gene, ids = model.save_embeddings(loader)
    return ids, brain, gene


def write_attention(run_dir: Path, model: Aligned, part: PairSet) -> Path | None:
    """Write the attention between genes, averaged over people, as an array and a picture.

    Args:
        run_dir: The run folder.
        model: A transformer over genes; of other models nothing is written.
        part: Whose attention.

    Returns:
        The array `gene_attention.npy` (layers, heads, G, G), or None.
    """
    if not isinstance(model, GeneSequence) or model.config.gene_tower != "transformer":
        return None
    total: Tensor | None = None
    with torch.no_grad():
        for first in range(0, len(part), _AT_ONCE):
            at = range(first, min(first + _AT_ONCE, len(part)))
            batch = part.collate([part.sample(i, 0) for i in at])
            own = model.attention(batch["gene_sequence"], batch.get("present")).sum(1)
            total = own if total is None else total + own
    assert total is not None
    names = (["(class)"] if model.config.pooling == "cls" else []) + part.cohort.genes
    content = io.BytesIO()
    np.save(content, (total / len(part)).numpy())
    path = durable_write(run_dir / f"{ATTENTION}.npy", content.getvalue())
    durable_write(run_dir / f"{ATTENTION}_genes.txt", "\n".join(names) + "\n")
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows of plain values as CSV, whole or not at all."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row.get(key)) for key in columns])
    return durable_write(path, text.getvalue())


def copy_ranks(run_dir: Path, judged: Path) -> Path:
    """Write `ranks.csv` beside the run: the table of people of its judgement."""
    return durable_write(run_dir / RANKS, (judged / "per_subject.csv").read_bytes())
