"""The rooms: one package per field of work, all with the same furniture, none knowing another."""

from __future__ import annotations

ROOMS: tuple[str, ...] = (
    "neurocli.systems.fmri.card:ROOM",
    "neurocli.systems.brats.card:ROOM",
    "neurocli.systems.calcium.card:ROOM",
    "neurocli.systems.genes.card:ROOM",
)
