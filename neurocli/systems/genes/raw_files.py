"""Write a built-in cohort as the raw files that a study has: one .npz a person, one CSV a gene."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.paths import durable_json, durable_write
from neurocli.systems.genes.known_truth import Cohort

LATENTS, GENES = "latents", "genes"


def write_raw_files(folder: Path, cohort: Cohort) -> None:
    """Write `latents/{IID}_latent.npz`, `genes/{GENE}_brain_gene_embeddingUKB.csv` and the truth.

    Args:
        folder: Where; made when missing.
        cohort: The cohort.

    Raises:
        NeuroError: The disk refuses.
    """
    from neurocli.systems.genes.built_in import SPLIT, write_people

    spec = cohort.spec
    (folder / LATENTS).mkdir(parents=True, exist_ok=True)
    (folder / GENES).mkdir(exist_ok=True)
    latents, _ = cohort.latents()
    for owner, row in zip(spec.ids, latents, strict=True):
        np.savez(folder / LATENTS / f"{owner}_latent.npz", latent=row.reshape(spec.latent_shape))
    for index, name in enumerate(spec.genes):
        values, _, present = cohort.gene(index)
        owners = [owner for owner, there in zip(spec.ids, present, strict=True) if there]
        write_gene_table(gene_path(folder / GENES, name), owners, values[present])
    write_people(folder, cohort)
    split = {"schema": "neuro/split/1", "parts": cohort.parts(), "method": "of the cohort"}
    durable_json(folder / SPLIT, split)
    durable_json(folder / "rhos.json", dict(zip(spec.genes, spec.rhos, strict=False)))


def gene_path(folder: Path, gene: str) -> Path:
    """Return the path of a gene's table as the described study names it."""
    return folder / f"{gene}_brain_gene_embeddingUKB.csv"


def write_gene_table(path: Path, ids: list[str], values: npt.NDArray[np.float32]) -> None:
    """Write a gene table: IID and `emb_0`, `emb_1`, ...; the numbers read back bit by bit."""
    text = io.StringIO()
    text.write(",".join(["IID", *(f"emb_{i}" for i in range(values.shape[1]))]) + "\n")
    for owner, row in zip(ids, values, strict=True):
        text.write(f"{owner}," + ",".join(f"{value:.9g}" for value in row.tolist()) + "\n")
    durable_write(path, text.getvalue())
