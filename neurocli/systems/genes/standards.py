"""Means and deviations of a training part, by which inputs are z-scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurocli.systems.genes.pair_set import PairSet


def standards(samples: PairSet) -> dict[str, np.ndarray]:
    """Return means and deviations of a part's latents and genes, by buffer name.

    Args:
        samples: The training part.

    Returns:
        `neuro_mean`, `neuro_std` (P,), `gene_mean`, `gene_std` (G, d), float32.
    """
    cohort, rows = samples.cohort, samples.rows
    mean, std = _moments([cohort.brain(rows[i : i + 512]) for i in range(0, len(rows), 512)])
    genes: list[tuple[np.ndarray, np.ndarray]] = []
    for index in range(len(cohort.genes)):
        own = rows[cohort.present[index, rows]]
        genes.append(_moments([cohort.gene(index, own)]) if len(own) else genes[-1])
    return {
        "neuro_mean": mean,
        "neuro_std": std,
        "gene_mean": np.stack([pair[0] for pair in genes]),
        "gene_std": np.stack([pair[1] for pair in genes]),
    }


def _moments(blocks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    n = sum(len(block) for block in blocks)
    mean = sum(block.sum(0, dtype=np.float64) for block in blocks) / n
    square = sum(((block - mean) ** 2).sum(0, dtype=np.float64) for block in blocks) / n
    return np.asarray(mean, dtype=np.float32), np.asarray(square, dtype=np.float32) ** 0.5
