"""The rooms: one package per field of work, all with the same furniture, none knowing another."""

from __future__ import annotations

from collections.abc import Mapping

ROOMS: tuple[str, ...] = ("neurocli.systems.fmri.card:ROOM",)

# Names that the command line documents and this version does not hold yet, so that a newcomer
# reads a plain sentence instead of "unknown".
LATER: Mapping[str, str] = {
    "brats2018": "tumour segmentation",
    "brats2021": "tumour segmentation",
    "allen": "calcium imaging",
    "suite2p": "calcium imaging",
    "latents": "gene alignment",
    "cebra": "calcium imaging",
    "cebra-offset1": "calcium imaging",
    "cebra-offset5": "calcium imaging",
    "cebra-offset10": "calcium imaging",
    "cebra-offset36": "calcium imaging",
    "gene_pair": "gene alignment",
    "gene_sequence": "gene alignment",
}
