"""The rooms: one package per field of work, all with the same furniture, none knowing another."""

from __future__ import annotations

from collections.abc import Mapping

ROOMS: tuple[str, ...] = (
    "neurocli.systems.fmri.card:ROOM",
    "neurocli.systems.brats.card:ROOM",
    "neurocli.systems.calcium.card:ROOM",
    "neurocli.systems.genes.card:ROOM",
)

# Names that the command line documents and this version does not hold yet, so that a newcomer
# reads a plain sentence instead of "unknown".
LATER: Mapping[str, str] = {}
