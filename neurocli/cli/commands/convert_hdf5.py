"""`neuro convert-hdf5`: a folder of frames or runs in; one HDF5 file per subject out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.output import sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.views import facts, show_prepared
from neurocli.core.errors import UsageError

if TYPE_CHECKING:
    from neurocli.core.data.verify import CheckResult

_FORM, _CHECK, _RUN = "Form of the files", "Checks of files that are there", RUN_PANEL

app = new_group()


@add_verb(
    app,
    "convert-hdf5",
    """
neuro convert-hdf5 out -o h5
neuro convert-hdf5 out -o h5 --layout packed --dtype float32 -j 4
neuro convert-hdf5 h5 -o tokens --patch 6,6,6
neuro convert-hdf5 --verify h5
neuro convert-hdf5 --check old --quarantine broken
""",
)
def convert_hdf5(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Preprocessed folder, frame folders or older HDF5."),
    ],
    out: Annotated[Path | None, value("DIR", "Output folder.", _RUN, "--out", "-o")] = None,
    layout: Annotated[
        str | None, value("dense|packed", "packed keeps in-mask voxels only.", _FORM)
    ] = None,
    patch: Annotated[
        str | None, value("H,W,D", "Store patches of this size, in token order.", _FORM)
    ] = None,
    compression: Annotated[
        str, value("none|gzip|lzf|zstd", "none is fastest to read; zstd is smallest.", _FORM)
    ] = "none",
    dtype: Annotated[str, value("float16|int16|float32", "Stored numbers.", _FORM)] = "float16",
    scaling: Annotated[
        str, value("METHOD", "Store scaled values; patches of raw runs get voxel-z.", _FORM)
    ] = "auto",
    verify: Annotated[
        bool, switch("--verify", "Hash files again, compare with the manifest.", _CHECK)
    ] = False,
    check: Annotated[
        bool, switch("--check", "Read files whole, report broken ones.", _CHECK)
    ] = False,
    expect: Annotated[
        str | None, value("H,W,D,T", "Shape that sound runs have; 0 is any.", _CHECK)
    ] = None,
    quarantine: Annotated[
        Path | None, value("DIR", "Move broken files there; checks first.", _CHECK)
    ] = None,
    delete: Annotated[
        bool, switch("--delete", "Delete broken files; checks first.", _CHECK)
    ] = False,
    repack: Annotated[
        bool, switch("--repack", "Rewrite older HDF5 where it lies.", _CHECK)
    ] = False,
    jobs: options.Jobs = 1,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Pack a folder into one HDF5 file per subject.

    Dense files hold whole frames, one a chunk; packed files hold in-mask voxels, frame-major; patch
    files hold what a model reads, in its order. Every file is built whole before it takes its name.
    `mpiexec -n N neuro convert-hdf5 ...` shares the work among N processes. Checks read what is
    there; nothing is moved, deleted or rewritten unless asked for.
    """
    import neurocli

    form: dict[str, Any] = {"compression": compression, "dtype": dtype, "scaling": scaling}
    form |= options.given(layout=layout, patch=options.sizes(patch, "--patch"))
    is_check = check or delete or quarantine is not None
    modes = {"--verify": verify, "--check": is_check, "--repack": repack and out is None}
    _one_of(modes)
    if any(modes.values()) and not sink().is_answering:
        return 0  # files that are there are looked at by one of several MPI ranks
    if modes["--repack"] and jobs > 1:
        raise UsageError(
            "files are rewritten in place one at a time",
            where="--jobs",
            hint="leave --jobs out, or write new files with -o",
        )
    with progress() as listener:
        if verify:
            folder, made_from = (source, None) if out is None else (out, source)
            found = neurocli.verify_hdf5(folder, made_from, jobs=jobs, listener=listener)
            return _show(found, None)
        if is_check:
            found = neurocli.check_hdf5(
                source,
                expect=_shape(expect),
                quarantine=quarantine,
                delete=delete,
                jobs=jobs,
                listener=listener,
            )
            return _show(found, "deleted" if delete else "moved" if quarantine else None)
        if repack and out is None:
            return _show(neurocli.repack_hdf5(source, **form, listener=listener), "rewritten")
        if out is None:
            raise UsageError("no output folder is given", where="--out", hint="give -o DIR")
        result = neurocli.convert_hdf5(
            source,
            out=out,
            **form,
            jobs=jobs,
            force=force,
            dry_run=dry_run,
            listener=listener,
        )
    next_step = ("neuro", "train", "fmamba", "--pretrain", "ar", "--data", out)
    return show_prepared("convert-hdf5", result, next_step=next_step)


def _one_of(modes: dict[str, bool]) -> None:
    named = [name for name, is_given in modes.items() if is_given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} are different jobs", hint="do one after the other")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    found = options.words(text)
    if not all(word.isdecimal() for word in found):
        raise UsageError(f"'{text}' is no shape", where="--expect", hint="write 96,96,96,0")
    return tuple(int(word) for word in found)


def _show(result: CheckResult, deed: str | None) -> int:
    output = sink()
    for note in result.notes:
        output.note(note)
    counts = {"checked": result.checked, "sound": result.sound, "problems": len(result.problems)}
    moved = {} if deed is None else {deed: result.moved}
    values = {
        "folder": result.folder,
        **counts,
        "failures": result.problems,
        **moved,
        "notes": result.notes,
    }
    rows: list[tuple[str, object]] = [
        *counts.items(),
        *((name, len(paths)) for name, paths in moved.items()),
        ("folder", result.folder),
    ]
    output.show("convert-hdf5-check", values, main=result.folder, view=[facts(rows)])
    return output.left_out(result.problems)
