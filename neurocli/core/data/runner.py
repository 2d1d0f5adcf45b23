"""Turn many inputs into standard files: in parallel, resumable, each item whole or absent.

A room finds items and processes one item; everything that can go wrong with many of them is here.
An item is built in a private folder `<name>.part-<pid>`, synced, and renamed by the process that
holds the output folder's lock, so neither a kill nor an orphaned worker leaves something that
looks finished. The manifest gains a line per item as it ends and is rewritten, sorted, at the end.

The module that holds a room's process function also holds `FORMAT_VERSION`, a text that changes
whenever the function's output does: together with the content of the sources and the options it
decides what a rerun may skip.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurocli.core.catalog import DatasetCard, find_dataset, resolve
from neurocli.core.data import output
from neurocli.core.data.items import Found, Item, OutputSpec, PrepareResult
from neurocli.core.data.ledger import Ledger, is_finished
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.ranks import follow, is_follower, perform_all
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener
from neurocli.core.paths import clear_leftovers, folder_lock

__all__ = ["Found", "Item", "OutputSpec", "PrepareResult", "format_version", "prepare", "run_items"]


def prepare(
    card: DatasetCard,
    sources: Sequence[Path],
    out: Path,
    *,
    options: Mapping[str, Any],
    jobs: int,
    force: bool,
    dry_run: bool,
    listener: Listener,
) -> PrepareResult:
    """Find the items of a dataset and process them into a folder.

    Args:
        card: Row of the catalog.
        sources: Files and folders that the user named.
        out: Output folder.
        options: Validated options of the row.
        jobs: Worker processes; 1 works in this process. A script that asks for more needs the
            usual `if __name__ == "__main__":` guard.
        force: Take over a folder of another run and redo everything.
        dry_run: Only find and plan; nothing is written.
        listener: Told the progress.

    Returns:
        Counts, failures and notes; for a dry run the plan.

    Raises:
        UsageError: The output folder belongs to another run, is a source or is in use; or two
            inputs have one id.
        InputError: A source is missing or holds nothing of the kind.
        NeuroError: Nothing could be processed.
    """
    room, _ = find_dataset(card.name)
    refuse_own_source(sources, out)
    found: Found = resolve(card.find)(list(sources), options)
    spec = OutputSpec(room.name, "preprocessed", card.name, format_version(card.process))
    if dry_run:
        return plan_items(found, out, spec=spec, options=options, force=force)
    return run_items(
        found,
        card.process,
        out,
        spec=spec,
        options=options,
        jobs=jobs,
        listener=listener,
        force=force,
    )


def format_version(process: str) -> str:
    """Return `FORMAT_VERSION` of the module of a process function.

    Raises:
        NeuroError: The module has none.
    """
    return str(resolve(f"{process.partition(':')[0]}:FORMAT_VERSION"))


def refuse_own_source(sources: Sequence[Path], out: Path) -> None:
    """Refuse an output folder that is one of the sources.

    Raises:
        UsageError: It is.
    """
    for source in sources:
        if source.resolve() == out.resolve():
            raise UsageError(
                "the output folder is the source", where=str(out), hint="choose another --out"
            )


def plan_items(
    found: Found, out: Path, *, spec: OutputSpec, options: Mapping[str, Any], force: bool
) -> PrepareResult:
    """Tell what `run_items` would do, without writing.

    Args:
        found: Items and failures of the finder.
        out: Output folder.
        spec: What it would be.
        options: Under which options.
        force: Whether everything would be redone.

    Returns:
        The plan; finished items count as skipped (only a real run compares their sources).

    Raises:
        UsageError: Two inputs have one id, or the folder belongs to another run.
    """
    _refuse_repeats(found)
    output.check_output(out, spec, options, force=force)
    records = {} if force else Manifest(out / output.MANIFEST_FILE).records()
    planned = [item for item in found.items if not is_finished(out, records.get(item.subject))]
    plan = {
        "room": spec.room,
        "dataset": spec.dataset,
        "kind": spec.kind,
        "options": output.plain_values(options),
        "out": str(out),
        "items": [item.subject for item in planned],
        "source_bytes": sum(_size(path) for item in planned for path in item.sources),
    }
    return PrepareResult(
        out=out,
        done=0,
        failed=len(found.failures),
        skipped=len(found.items) - len(planned),
        seconds=0.0,
        failures=list(found.failures),
        notes=list(found.notes),
        plan=plan,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def run_items(
    found: Found,
    process: str,
    out: Path,
    *,
    spec: OutputSpec,
    options: Mapping[str, Any],
    jobs: int,
    listener: Listener,
    force: bool = False,
) -> PrepareResult:
    """Process items into a folder; the bytes do not depend on the number of jobs.

    Args:
        found: Items and failures of a finder.
        process: `"module:function"`, called in a worker as `process(item, folder, options)`. It
            fills the folder and returns fields for the manifest: `files` (relative, the main one
            first), `shape`, `dtype`, `affine`, `tr_s`, `stats`, and maybe `notes`.
        out: Output folder.
        spec: What the folder is.
        options: Handed to the function; part of the fingerprint.
        jobs: Worker processes; 1 works in this process.
        listener: Told the progress.
        force: Take over a folder of another run and redo everything.

    Returns:
        Counts, failures and notes.

    Raises:
        UsageError: Two inputs have one id, jobs is below 1, or the folder belongs to another run
            or is in use.
        NeuroError: Nothing could be processed; the manifest says why for each input.
    """
    if is_follower():
        return follow(out)
    started = time.monotonic()
    if jobs < 1:
        raise UsageError(f"{jobs} jobs cannot work", where="--jobs", hint="give 1 or more")
    _refuse_repeats(found)
    if len(found.items) == 1:
        found = replace(found, items=[replace(found.items[0], is_alone=True)])
    with folder_lock(out):
        output.clear_parts(out)
        clear_leftovers(out)
        output.check_output(out, spec, options, force=force)
        ledger = Ledger(found, out, spec, options, listener)
        try:
            ledger.open(force=force)
            for outcome in perform_all(ledger.tasks(process), jobs):
                ledger.take(outcome)
        finally:
            output.clear_parts(out)
        ledger.close()
    return ledger.result(time.monotonic() - started)


def _refuse_repeats(found: Found) -> None:
    names = [item.subject for item in found.items] + [name for name, _ in found.failures]
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UsageError(
            f"{count} inputs have the id '{name}'",
            hint="rename them, or process them into different folders",
        )
