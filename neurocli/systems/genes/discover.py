"""Find latents and gene tables for `neuro preprocess latents`, or give the built-in cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Found, Item
from neurocli.core.data.npz import read_array
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.genes.built_in import cohort_spec
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.sources import PREFERRED, gene_files, latent_files

LATENTS = "latents"


def find_latents(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List what to pack: all latents as one item, and every gene table.

    Args:
        sources: Folders of latents, folders of gene tables, tables; none for the built-in cohort.
        options: Values of `LatentsOptions`.

    Raises:
        InputError: A source is missing or holds neither.
        UsageError: There are latents in two sources, or two tables of one gene.
    """
    settings = LatentsOptions.model_validate(dict(options))
    if not sources:
        spec = cohort_spec(settings)
        item = Item("cohort", "cohort", (), {"kind": "built-in"})
        note = f"synthetic data: {spec.n_people} made-up people, {spec.n_genes} genes"
        return Found([item], [], [note], built_in_data=True)
    items: dict[str, Item] = {}
    failures: list[tuple[str, str]] = []
    notes: list[str] = []
    for source in sources:
        for item in _items(source, settings, failures, notes):
            if item.subject in items:
                raise UsageError(
                    f"two sources hold {item.subject}",
                    where=str(source),
                    hint="pack them into different folders",
                )
            items[item.subject] = item
    return Found(list(items.values()), failures, notes)


def _items(
    source: Path, options: LatentsOptions, failures: list[tuple[str, str]], notes: list[str]
) -> list[Item]:
    if not source.exists():
        raise InputError(source, "does not exist", "check the name and the current folder")
    found = []
    tables: dict[str, Path] = {}
    arrays = source.is_dir() and any(p.suffix in (".npz", ".npy") for p in source.iterdir())
    if not arrays:
        tables = gene_files(source)
    if arrays:
        files, own_notes = latent_files(source, options.latent_pattern)
        notes += own_notes
        sound = {name: path for name, path in files.items() if _is_sound(path, name, failures)}
        if not sound:
            raise InputError(source, f"no latent can be read; {failures[0][1]}", "repair the files")
        details = {
            "kind": "latents",
            "files": {name: str(path) for name, path in sound.items()},
            "notes": own_notes,
        }
        found.append(Item(LATENTS, LATENTS, tuple(sound.values()), details))
    return found + [
        Item(name, name, (path,), {"kind": "gene"}) for name, path in sorted(tables.items())
    ]


def _is_sound(path: Path, name: str, failures: list[tuple[str, str]]) -> bool:
    # Here and not in the item's work, so that a bad file is one failure and not everyone's.
    try:
        read_array(path, preferred=PREFERRED)
    except InputError as error:
        failures.append((name, reason_text(error)))
        return False
    return True
