"""Opening a prepared tumour dataset for a run: which cases, which contrasts, which parts.

People, never patches or slices, are divided into parts. Cases without labels cannot be learned from
and are only predicted. Every case that is found and not used is listed with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from neurocli.core.catalog import find_model
from neurocli.core.cohort.assign import assign_parts
from neurocli.core.config.run import RunConfig
from neurocli.core.data.output import PEOPLE_FILE, describe, read_people
from neurocli.core.engine.task import Part, RunData, SampleSet
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.metrics.segmentation import CLASSES
from neurocli.systems.brats.augment import Augmentation
from neurocli.systems.brats.blocks import MODALITIES, BratsDataBlock
from neurocli.systems.brats.samples import CaseSet, PatchPlan, PatchSet
from neurocli.systems.brats.store import Case, case_folders, open_case


def open_data(
    config: RunConfig,
    listener: Listener = ignore,
    *,
    split: Mapping[str, list[str]] | None = None,
    like: Mapping[str, Any] | None = None,
) -> RunData:
    """Open the dataset of a run, or the built-in cohort when none is named.

    Args:
        config: The run's configuration; its blocks are those of this room.
        listener: Hears about the making of the built-in cohort.
        split: Participants by part, as a checkpoint holds them; None takes the configuration's.
        like: `RunData.info` of the data a model was trained on. With it all parts hold whole
            cases, to be judged; without it the training part holds patches.

    Returns:
        Parts, what the model needs to know of the data, and what was left out.

    Raises:
        UsageError: The split does not fit, or the data lack a contrast.
        NeuroError: Nothing usable was found.
    """
    data = cast(BratsDataBlock, config.data)
    folder, built_in = _folder(data, listener)
    left_out: list[tuple[str, str]] = []
    cases = _open_cases(folder, left_out, need_labels=like is None)
    info = dict(like) if like is not None else _info(config, cases)
    table = Path(data.table) if data.table else folder / PEOPLE_FILE
    assigned = assign_parts(
        list(dict.fromkeys(case.participant for case in cases)),
        parts=split,
        split_path=data.split,
        table_path=table,
        seed=config.run.seed,
    )
    channels = tuple(MODALITIES.index(name) for name in info["modalities"])
    parts: dict[Part, SampleSet] = {}
    for name, people in assigned.parts.items():
        own = [case for case in cases if case.participant in set(people)]
        if own and name == "train" and like is None:
            parts["train"] = _patches(config, own, channels, is_flat=info["dims"] == 2)
        elif own:
            parts[cast(Part, name)] = CaseSet(own, channels)
    notes = [] if data.path is not None else [
        "built-in synthetic cohort: figures say nothing about real tumours"
    ]  # fmt: skip
    people_known = read_people(table) if table.is_file() else {}
    return RunData(
        objective="segmentation",
        parts=parts,
        info=info,
        split=assigned.parts,
        split_sha256=assigned.sha256,
        fingerprint=_fingerprint(cases),
        built_in_data=built_in,
        left_out=left_out,
        notes=notes + assigned.notes + _grids(cases, info),
        sites={who: row["site"] for who, row in people_known.items() if row.get("site")},  # type: ignore[misc]
    )


def _folder(data: BratsDataBlock, listener: Listener) -> tuple[Path, bool]:
    if data.path is None:
        from neurocli.systems.brats.built_in import built_in_cohort

        return built_in_cohort(listener=listener), True
    folder = Path(data.path)
    if not folder.is_dir():
        raise InputError(folder, "is no folder", "name one made by `neuro preprocess brats2021`")
    return folder, bool(describe(folder).get("built_in_data", False))


def _open_cases(folder: Path, left_out: list[tuple[str, str]], *, need_labels: bool) -> list[Case]:
    cases = []
    for subject, path in case_folders(folder):
        try:
            case = open_case(path)
        except NeuroError as error:
            left_out.append((subject, str(error)))
            continue
        if need_labels and case.label is None:
            left_out.append((subject, "has no labels to learn from"))
        else:
            cases.append(case)
    if not cases:
        first = f": {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise InputError(folder, f"holds no usable case{first}")
    return cases


def _info(config: RunConfig, cases: Sequence[Case]) -> dict[str, Any]:
    data = cast(BratsDataBlock, config.data)
    _, card = find_model(config.model.name)
    asked: Sequence[str] = data.modalities or getattr(config.model, "modalities", ()) or MODALITIES
    wanted = [name for name in MODALITIES if name in asked]
    is_flat = data.dims == "2d" or (data.dims == "auto" and "2d" in card.tags)
    if is_flat and "3d" in card.tags:
        raise UsageError(
            f"{card.name} takes volumes, not slices", where="data.dims", hint="use auto or 3d"
        )
    return {
        "modalities": wanted,
        "n_classes": len(CLASSES),
        "dims": 2 if is_flat else 3,
        "spacing_mm": [list(spacing) for spacing in sorted({case.spacing_mm for case in cases})],
    }


def _patches(
    config: RunConfig, cases: Sequence[Case], channels: tuple[int, ...], *, is_flat: bool
) -> PatchSet:
    data = cast(BratsDataBlock, config.data)
    plan = PatchPlan(
        channels, data.patch, data.samples_per_case, data.foreground, config.run.seed, is_flat
    )
    change = None if data.augment == "none" else Augmentation(data.augment, 2 if is_flat else 3)
    return PatchSet(cases, plan, change)


def _fingerprint(cases: Sequence[Case]) -> str:
    lines = [
        f"{case.subject} {case.shape} {case.image.shape} {case.about.get('normalisation')}"
        for case in cases
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _grids(cases: Sequence[Case], info: Mapping[str, Any]) -> list[str]:
    known = {tuple(spacing) for spacing in info.get("spacing_mm", ())}
    found = {case.spacing_mm for case in cases}
    if len(found) > 1:
        return [f"cases have {len(found)} different voxel sizes and are not resampled"]
    if known and found - known:
        own, trained = ("x".join(f"{size:g}" for size in next(iter(s))) for s in (found, known))
        return [f"voxels of {own} mm are judged by a model of {trained} mm voxels"]
    return []
