"""The public doors to preparation: raw files to standard files, standard files to HDF5.

Both find the room by name through the catalog and know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurocli.core.catalog import DatasetCard, RoomCard, find_dataset, resolve, rooms
from neurocli.core.config.base import Block
from neurocli.core.data.documents import read_json
from neurocli.core.data.items import PrepareResult
from neurocli.core.data.runner import prepare
from neurocli.core.data.verify import CheckResult, verify_folder
from neurocli.core.errors import ConfigError, NeuroError, UsageError
from neurocli.core.events import Listener, ignore


def preprocess(
    dataset: str,
    *sources: str | Path,
    out: str | Path,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    listener: Listener = ignore,
    options: Mapping[str, Any] | None = None,
    origins: Mapping[str, str] | None = None,
    **named: Any,
) -> PrepareResult:
    """Turn raw files into a standard dataset folder.

    Args:
        dataset: Row of the catalog, such as "bids", "nifti" or "dummy".
        *sources: Files and folders.
        out: Output folder.
        jobs: Worker processes.
        force: Replace what another run left in `out`.
        dry_run: Only find and plan.
        listener: Hears notes and progress.
        options: Keys of the row's options block, such as `space` or `mask`.
        origins: Key -> where it was written, for errors; None names the keys alone.
        **named: The same keys by name, over `options`.

    Returns:
        Counts, and (name, reason) of what failed.

    Raises:
        UsageError: Unknown dataset or option, no source, or `out` belongs to something else.
        InputError: A source is missing or holds nothing of the kind.
        NeuroError: Nothing could be processed.
    """
    _, card = find_dataset(dataset)
    if card.needs_source and not sources:
        raise UsageError(f"{dataset} needs SRC", hint=card.summary)
    checked = _options(card, {**(options or {}), **named}, origins or {})
    return prepare(
        card,
        [Path(source) for source in sources],
        Path(out),
        options=checked.model_dump(mode="json"),
        jobs=jobs,
        force=force,
        dry_run=dry_run,
        listener=listener,
    )


def convert_hdf5(source: str | Path, *, out: str | Path, **options: Any) -> PrepareResult:
    """Write one HDF5 file per subject.

    Args:
        source: A preprocessed folder, a folder of `frame_{i}.pt`, or older HDF5 files.
        out: Output folder.
        **options: `layout`, `compression`, `dtype`, `jobs`, `force`, `dry_run`, `listener`, as the
            room's converter takes them.

    Returns:
        Counts, and (name, reason) of what failed.

    Raises:
        UsageError: The source belongs to a room without a converter, or an option is unknown.
        NeuroError: Nothing could be converted.
    """
    folder = Path(source)
    room = _room_of(folder)
    if room.convert is None:
        raise UsageError(
            f"data of the {room.name} room are not converted to HDF5", where=str(folder)
        )
    result: PrepareResult = resolve(room.convert)(folder, Path(out), **options)
    return result


def verify_hdf5(
    folder: str | Path,
    source: str | Path | None = None,
    *,
    jobs: int = 1,
    listener: Listener = ignore,
) -> CheckResult:
    """Hash the files of a folder again and compare them with its manifest.

    Args:
        folder: Written by `convert_hdf5` or `preprocess`.
        source: What it was converted from; then sources that changed since are told too.
        jobs: Threads that hash.
        listener: Hears progress.

    Returns:
        Every changed, missing, stale, failed and unlisted item with its reason.

    Raises:
        UsageError: The source belongs to a room without a converter.
        InputError: There is no manifest, or the source holds nothing.
    """
    tasks = None
    if source is not None:
        tasks = _care(Path(source), "tasks_of")(Path(source), Path(folder))
    return verify_folder(Path(folder), tasks=tasks, jobs=jobs, listener=listener)


def check_hdf5(source: str | Path, **options: Any) -> CheckResult:
    """Read stored runs whole and report the broken ones.

    Args:
        source: Files of this program, older HDF5, frame folders, or a mix.
        **options: `expect` (a shape, 0 for any size), `quarantine` (a folder that broken runs are
            moved to), `delete`, `jobs` and `listener`.

    Returns:
        The broken runs with their reasons, and what was moved or deleted.

    Raises:
        UsageError: Options contradict each other, or the source is of a room that cannot do this.
        InputError: The source holds no stored run.
    """
    result: CheckResult = _care(Path(source), "check_runs")(Path(source), **options)
    return result


def repack_hdf5(source: str | Path, **options: Any) -> CheckResult:
    """Rewrite HDF5 of older converters where it lies.

    Args:
        source: Holds the files.
        **options: `layout`, `compression`, `dtype`, `listener`, as the room's converter takes them.

    Returns:
        What was rewritten, and what could not be, with reasons.

    Raises:
        UsageError: An option is unknown, or the source is no folder of older files.
        InputError: There is no HDF5 file.
    """
    result: CheckResult = _care(Path(source), "repack_runs")(Path(source), **options)
    return result


def _care(folder: Path, name: str) -> Any:
    room = _room_of(folder)
    if room.check is None:
        raise UsageError(f"files of the {room.name} room cannot be checked", where=str(folder))
    return resolve(f"{room.check.partition(':')[0]}:{name}")


def _options(card: DatasetCard, values: Mapping[str, Any], origins: Mapping[str, str]) -> Block:
    block: type[Block] = resolve(card.options)
    try:
        return block.model_validate(dict(values))
    except ValidationError as error:
        # YAML and presets, which only an error needs.
        from neurocli.core.config.load import problem_lines
        from neurocli.core.config.nodes import Leaf

        given = {key: Leaf(value, origins.get(key, "options")) for key, value in values.items()}
        raise ConfigError(
            problem_lines(block, error, given), hint="see `neuro preprocess --help`"
        ) from None


def _room_of(folder: Path) -> RoomCard:
    described = folder / "dataset.json"
    known: Sequence[RoomCard] = [room for room in rooms().values() if room.convert is not None]
    if described.is_file():
        name = read_json(described).get("room")
        for room in rooms().values():
            if room.name == name:
                return room
        raise NeuroError(f"made by the room '{name}', which is not here", where=str(described))
    # Foreign folders carry no description; only the room that converts such files can tell.
    return known[0]
