"""Convert stored runs to one HDF5 file per subject.

Any source that `store` opens will do: preprocessed folders, frame folders, older HDF5. Values keep
the scaling they have. int16 files store `value = stored * scale_factor + offset` (root attributes):
lossless for whole numbers, else with steps of the largest distance from the background / 32767;
packed int16 files have a mean and a step for every voxel then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurocli.core.data import output
from neurocli.core.data.frames import STATS_FILE, frame_paths
from neurocli.core.data.items import Found, Item, OutputSpec, PrepareResult
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.ranks import follow, is_follower
from neurocli.core.data.runner import plan_items, refuse_own_source, run_items
from neurocli.core.data.scaling import background_value, scale
from neurocli.core.data.workers import Task
from neurocli.core.errors import InputError, NeuroError, OutputError
from neurocli.core.events import Listener, ignore
from neurocli.core.names import lookup
from neurocli.core.paths import safe_name
from neurocli.systems.fmri.patch_grid import patch_size
from neurocli.systems.fmri.store import RunStore, find_stores, open_store
from neurocli.systems.fmri.store_base import Float32
from neurocli.systems.fmri.store_numbers import Blocks
from neurocli.systems.fmri.store_write import AUTO, StoreForm, write_store

FORMAT_VERSION = "fmri-hdf5/2"
"""Changes whenever the output of `convert_run` does."""

_PROCESS = f"{__name__}:convert_run"


def convert_hdf5(
    src: Path,
    out: Path,
    *,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    listener: Listener = ignore,
    **form: Any,
) -> PrepareResult:
    """Write one HDF5 file per run of a dataset.

    Args:
        src: A folder or file that holds stored runs.
        out: Output folder.
        jobs: Worker processes; the bytes do not depend on it.
        force: Take over a folder of another run and redo everything.
        dry_run: Only find and plan.
        listener: Told the progress.
        **form: `layout`, `dtype`, `compression`, `patch` and `scaling`, see `StoreForm`.

    Returns:
        Counts, failures and notes.

    Raises:
        UsageError: An unknown word, or the output folder is another run's or the source.
        MissingDependencyError: zstd is asked for and absent, or mpiexec started several processes
            and mpi4py is absent.
        InputError: The source holds no stored run.
        NeuroError: Nothing could be converted.
    """
    if is_follower():
        # Rank 0 looks, checks and tells; this one waits for its share.
        return PrepareResult(out, 0, 0, 0, 0.0) if dry_run else follow(out)
    wanted = form_of(form)
    refuse_own_source([src], out)
    found = find_runs(src)
    spec = _spec(src)
    options = wanted.options()
    if dry_run:
        return plan_items(found, out, spec=spec, options=options, force=force)
    return run_items(
        found,
        _PROCESS,
        out,
        spec=spec,
        options=options,
        jobs=jobs,
        listener=listener,
        force=force,
    )


def form_of(form: Mapping[str, Any]) -> StoreForm:
    """Return a checked form.

    Args:
        form: Fields of `StoreForm`; a patch alone means the layout of that name.

    Raises:
        UsageError: A name or a word is unknown, or a patch is no patch.
        MissingDependencyError: zstd is asked for and absent.
    """
    for name in form:
        lookup("option", name, dict.fromkeys(StoreForm.__dataclass_fields__))
    given = dict(form)
    if given.get("patch") is not None:
        given = {"layout": "patch", **given, "patch": patch_size(given["patch"])}
    wanted = StoreForm(**given)
    wanted.check()
    return wanted


def _spec(src: Path) -> OutputSpec:
    dataset = str(output.describe(src).get("dataset", "stored")) if src.is_dir() else "stored"
    return OutputSpec("fmri", "hdf5", dataset, FORMAT_VERSION, is_flat=True)


def tasks_of(src: Path, out: Path) -> list[Task]:
    """Return what a conversion would do now, under the options that a folder was made with.

    Args:
        src: A folder or file that holds stored runs.
        out: Folder of an earlier conversion.

    Raises:
        InputError: The source holds no stored run, or the folder tells no options.
    """
    options = output.describe(out).get("options")
    if not isinstance(options, dict):
        raise InputError(out, "is no folder that `neuro convert-hdf5` wrote")
    return [
        Task(item, _PROCESS, out, options, FORMAT_VERSION, None) for item in find_runs(src).items
    ]


def find_runs(src: Path) -> Found:
    """List the stored runs of a source as items.

    Args:
        src: A folder or file that holds stored runs.

    Raises:
        InputError: There is none.
    """
    items = [
        Item(subject, participant, _files(path), {"path": path, "subject": subject})
        for subject, participant, path in find_stores(src)
    ]
    if not src.is_dir():
        return Found(items)
    notes = []
    failed = [
        record["subject"]
        for record in Manifest(src / output.MANIFEST_FILE).records().values()
        if record.get("status") == "failed"
    ]
    if failed:
        notes.append(f"{len(failed)} runs failed in preprocess and are not here: {failed[0]} ...")
    people = output.read_people(src / output.PEOPLE_FILE) or None
    built_in = output.describe(src).get("built_in_data") is True
    return Found(
        items,
        notes=notes,
        participants=people,
        built_in_data=built_in,
        dictionary=output.read_meanings(src),
    )


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    try:
        frames = frame_paths(path)
    except InputError:
        # Reported when the item is processed, so that the others go on.
        return ()
    stats = path / STATS_FILE
    return (*frames, stats) if stats.exists() else tuple(frames)


def convert_run(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert one stored run into a folder.

    Args:
        item: From `find_runs`.
        folder: Private and empty; gets `<subject>.h5`.
        options: Fields of `StoreForm`.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: The source is damaged or holds NaN.
        NeuroError: A value does not fit the dtype.
    """
    form = form_of(options)
    name = f"{safe_name(item.subject)}.h5"
    with open_store(Path(item.details["path"])) as store:
        return {"files": [name], **write_run(store, item, folder / name, form)}


def write_run(store: RunStore, item: Item, target: Path, form: StoreForm) -> dict[str, Any]:
    """Write an open run in another form.

    Args:
        store: The run.
        item: Its names.
        target: The final name.
        form: Layout, dtype and so on.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: The source is damaged or holds NaN, or a value does not fit the form.
        OutputError: The disk is full, read-only or failing.
    """
    info = store.info.named(item.subject, item.participant)
    values = scaled_as(store, form)
    try:
        write_store(
            target,
            replace(info, scaling=values.scaling),
            mask=store.mask,
            blocks=values.blocks,
            stats=store.stats,
            form=form,
            background=values.background,
        )
    except (InputError, OutputError):
        raise
    except NeuroError as error:
        raise InputError(store.path, error.message, error.hint) from error
    return {
        "shape": list(info.shape),
        "dtype": form.dtype,
        "affine": info.affine.tolist(),
        "tr_s": info.tr_s,
        "stats": {**store.stats.as_dict(), "n_voxels_in_mask": store.n_voxels},
    }


@dataclass(frozen=True)
class ScaledValues:
    """Hold the values of a run as they are to be stored.

    Args:
        blocks: Gives all frames as blocks (t, V), as often as asked.
        background: Value outside the mask.
        scaling: What they carry.
    """

    blocks: Blocks
    background: float
    scaling: str


def scaled_as(store: RunStore, form: StoreForm) -> ScaledValues:
    """Return the values of a run in the scaling that a form asks for.

    Args:
        store: The run.
        form: Its `scaling`; auto is voxel-z for patches of raw values, else what the run has.

    Raises:
        InputError: The run is scaled already, in another way.
    """
    wanted = form.scaling
    if wanted == AUTO:
        wanted = "voxel-z" if form.layout == "patch" and store.scaling == "none" else store.scaling
    if wanted == store.scaling or wanted == "none":
        return ScaledValues(store.iter_blocks, store.background, store.scaling)
    if store.scaling != "none":
        raise InputError(
            store.path, f"is already scaled ({store.scaling})", "leave --scaling out, or give none"
        )
    mean, std = store.voxel_moments if wanted in ("voxel-z", "psc") else (None, None)

    def blocks() -> Iterator[Float32]:
        for block in store.iter_blocks():
            yield scale(block, wanted, stats=store.stats, voxel_mean_V=mean, voxel_std_V=std)

    return ScaledValues(blocks, background_value(wanted, store.stats), wanted)
