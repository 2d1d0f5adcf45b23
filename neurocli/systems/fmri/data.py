"""Opening an fMRI dataset for a run: which runs, which clips, which people in which part.

Every run that is found and not used is listed with its reason. People, never clips, are divided
into parts. Without a dataset the built-in cohort stands in, and the result says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from neurocli.core.catalog import find_model, find_task
from neurocli.core.cohort.assign import Assignment
from neurocli.core.config.run import RunConfig
from neurocli.core.data.geometry import padding_to_multiple
from neurocli.core.engine.task import Part, RunData, SampleSet
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener, ignore
from neurocli.systems.fmri.clips import ClipPlan, ClipReader, ClipSet
from neurocli.systems.fmri.config import FMambaConfig, FmriDataBlock, FmriTaskBlock
from neurocli.systems.fmri.event_windows import label_windows
from neurocli.systems.fmri.found import Found, keep_labelled, leave_out_unpaired
from neurocli.systems.fmri.joined import (
    assign_sources,
    drawn_by_weight,
    joined_notes,
    joined_rows,
    sites_of,
    targets_from,
)
from neurocli.systems.fmri.sources import Source, open_sources, scan_sources
from neurocli.systems.fmri.targets import Targets

Triple = tuple[int, int, int]


def open_data(
    config: RunConfig,
    listener: Listener = ignore,
    *,
    split: Mapping[str, list[str]] | None = None,
    like: Mapping[str, Any] | None = None,
) -> RunData:
    """Open the dataset of a run, or several joined ones, or the built-in cohort.

    Args:
        config: The run's configuration; its blocks are those of this room.
        listener: Hears about the making of the built-in cohort.
        split: Participants by part, as a checkpoint holds them; None takes the configuration's.
        like: `RunData.info` of the data a model was trained on; grid, scaling and classes follow
            it. None lets this data decide.

    Returns:
        Parts, what the model needs to know of the data, and what was left out.

    Raises:
        UsageError: The task, the table or the split does not fit the data.
        NeuroError: Nothing usable was found.
    """
    data = cast(FmriDataBlock, config.data)
    task = cast(FmriTaskBlock, config.task)
    sources = open_sources(data, listener, like)
    built_in = any(source.built_in for source in sources)
    found = scan_sources(sources, data)
    targets = _targets(config, data, task, sources, found)
    if targets is not None and like is not None:
        targets = targets.as_trained(tuple(like["classes"]))
    plan = _plan(config, data, found, like)
    assigned = assign_sources(
        sources, found, parts=split, split_path=data.split, seed=config.run.seed
    )
    objective = _objective(config, task, targets)
    reader = ClipReader(found.runs, plan)
    if objective == "contrastive":
        leave_out_unpaired(found, reader)
    make_set = partial(
        ClipSet,
        reader,
        targets=targets.values if targets is not None else None,
        by_window=data.events is not None,
        pairs=objective == "contrastive",
        seed=config.run.seed,
    )
    parts = _parts(found, assigned, make_set)
    datasets = {run.participant: run.dataset for run in found.runs if run.dataset is not None}
    drawn = drawn_by_weight(sources, parts.get("train"), config.run.seed) if like is None else None
    joined = joined_rows(sources, parts)
    return RunData(
        objective=objective,
        parts=cast(Mapping[Part, SampleSet], parts),
        info={**_info(plan, targets, found, task), **joined, "objective": objective},
        split=assigned.parts,
        split_sha256=assigned.sha256,
        fingerprint=hashlib.sha256("\n".join(sorted(found.digest)).encode()).hexdigest(),
        built_in_data=built_in,
        left_out=found.left_out,
        sites=sites_of(sources, task.site_column, datasets),
        datasets=datasets,
        drawn=drawn,
        notes=[
            *_notes(built_in, found, plan, assigned),
            *_other_spacing(found, like),
            *joined_notes(joined.get("datasets", ()), like),
        ],
    )


def _objective(config: RunConfig, task: FmriTaskBlock, targets: Targets | None) -> str:
    if task.objective is not None:
        return task.objective
    return targets.kind if targets is not None else "ar"


def _targets(
    config: RunConfig,
    data: FmriDataBlock,
    task: FmriTaskBlock,
    sources: Sequence[Source],
    found: Found,
) -> Targets | None:
    room, card = find_model(config.model.name)
    if find_task(room, card.tasks[0]).kind == "pretrain":
        if task.target is not None or data.events is not None:
            given = f"--task {task.target}" if task.target else f"data.events={data.events}"
            raise UsageError(
                f"{card.name} is pretrained without labels, not on {given}",
                hint="choose a model with a head, such as fmamba_mlp",
            )
        return None
    if task.target is None:
        hint = "a column of the events, such as trial_type" if data.events else "sex or age"
        raise UsageError(f"{card.name} needs --task", hint=f"name what it learns: {hint}")
    if data.events is not None:
        return label_windows(found, data, task.target, task.target_type)
    targets = targets_from(sources, task.target, task.target_type)
    keep_labelled(found, targets)
    return targets


def _plan(
    config: RunConfig, data: FmriDataBlock, found: Found, like: Mapping[str, Any] | None
) -> ClipPlan:
    if len(found.scalings) > 1 and data.scaling != "voxel-z":
        raise NeuroError(
            f"runs were stored with different scalings: {', '.join(sorted(found.scalings))}",
            hint="prepare all of them with the same --scaling, or set data.scaling=voxel-z",
        )
    stored = "none" if "none" in found.scalings else min(found.scalings)
    scaling: str = data.scaling
    if scaling == "auto":
        usual = like["scaling"] if like is not None else "voxel-z"
        scaling = usual if stored == "none" else "none"
    elif stored != "none" and scaling not in ("none", "voxel-z"):
        # Per-voxel z is the same after any affine map; the other methods would scale twice.
        raise UsageError(
            f"the files already hold {stored} values, so {scaling} would scale twice",
            where="data.scaling",
            hint="use auto, none or voxel-z, or prepare them with --scaling none",
        )
    wanted = data.img_size if like is None else cast(Triple, tuple(like["img_size"][:3]))
    patch = cast(FMambaConfig, config.model).patch_size[:3]
    grid = _grid(patch, wanted, found.shapes, trained=like is not None)
    is_scaled = len(found.scalings) == 1 and scaling in ("none", stored)
    if (reason := _whole_clips(config, data, found, is_scaled)) is None:
        ready = cast(FMambaConfig, config.model).patch_size
        return ClipPlan(grid, data.sequence_length, data.stride_within, "none", stored, ready)
    if found.patches != {None}:
        found.notes.append(f"the stored patches are put together to whole clips first: {reason}")
    return ClipPlan(grid, data.sequence_length, data.stride_within, scaling, stored)


def _whole_clips(
    config: RunConfig, data: FmriDataBlock, found: Found, is_scaled: bool
) -> str | None:
    """Return why the model is given whole clips, or None where it takes the files' own patches."""
    wanted = cast(FMambaConfig, config.model).patch_size
    if found.patches != {wanted[:3]}:
        sizes = sorted("x".join(map(str, size)) if size else "none" for size in found.patches)
        return f"they are {' and '.join(sizes)}, model.patch_size is {list(wanted)}"
    if not is_scaled:
        return "their values are scaled when they are read; store them with --scaling"
    if data.augment != "none":
        return "data.augment moves voxels"
    return None


def _grid(
    patch: Triple, wanted: Triple | None, shapes: Sequence[Triple], *, trained: bool
) -> Triple:
    largest = tuple(max(shape[axis] for shape in shapes) for axis in range(3))
    if wanted is None:
        padding = padding_to_multiple(largest, patch)
        height, width, depth = (size + more for size, more in zip(largest, padding, strict=True))
        return height, width, depth
    for axis, have, want in zip("HWD", largest, wanted, strict=True):
        if have > want and trained:
            raise NeuroError(
                f"runs have {have} voxels along {axis}, the checkpoint's model takes {want}",
                hint="prepare these runs on the grid and voxel size it was trained on",
            )
        if have > want:
            raise UsageError(
                f"runs have {have} voxels along {axis}, the model takes {want}",
                where="data.img_size",
                hint=f"it must be at least {list(largest)}; null pads to the patch",
            )
    return wanted


def _parts(
    found: Found, assigned: Assignment, make: Callable[[list[tuple[int, int]]], ClipSet]
) -> dict[str, ClipSet]:
    parts: dict[str, ClipSet] = {}
    for part, names in assigned.parts.items():
        people = set(names)
        clips = [
            (index, start)
            for index, each in enumerate(found.usable)
            if each.run.participant in people
            for start in each.starts
        ]
        if clips:
            parts[part] = make(clips)
    return parts


def _info(
    plan: ClipPlan, targets: Targets | None, found: Found, task: FmriTaskBlock
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "img_size": [*plan.grid, plan.length],
        "scaling": plan.scaling if plan.scaling != "none" else plan.stored_scaling,
        "n_runs": len(found.runs),
        "spacings_mm": [list(spacing) for spacing in sorted(found.spacings_mm)],
    }
    if targets is not None:
        info["target"] = task.target
        info["classes"] = list(targets.classes)
        info["n_outputs"] = len(targets.classes) or 1
    return info


def _other_spacing(found: Found, like: Mapping[str, Any] | None) -> list[str]:
    known = {tuple(spacing) for spacing in (like or {}).get("spacings_mm", ())}
    strange = sorted(found.spacings_mm - known) if known else []
    if not strange:
        return []
    texts = ["x".join(f"{size:g}" for size in spacing) for spacing in (*strange, *sorted(known))]
    return [
        f"voxels of {', '.join(texts[: len(strange)])} mm are judged by a model of "
        f"{', '.join(texts[len(strange) :])} mm voxels; resample them to compare"
    ]


def _notes(built_in: bool, found: Found, plan: ClipPlan, assigned: Assignment) -> list[str]:
    notes = list(found.notes)
    if built_in:
        notes.append("built-in synthetic cohort: figures say nothing about real brains")
    if len(set(found.shapes)) > 1:
        notes.append(
            f"runs have {len(set(found.shapes))} different grids; all are padded to "
            f"{'x'.join(map(str, plan.grid))}"
        )
    if len(found.spacings_mm) > 1:
        notes.append(
            f"runs have {len(found.spacings_mm)} different voxel sizes and are not resampled; "
            "prepare them with --space mni2mm to compare places"
        )
    return notes + assigned.notes
