"""`neuro convert-hdf5`: a folder of frames or runs in; one HDF5 file per subject out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.views import show_prepared
from neurocli.core.errors import NotBuiltYetError

_FORM, _CHECK, _RUN = "Form of the files", "Checks", RUN_PANEL

app = new_group()


@add_verb(
    app,
    "convert-hdf5",
    """
neuro convert-hdf5 out -o h5
neuro convert-hdf5 out -o h5 --layout packed --dtype float32 -j 4
neuro convert-hdf5 frames -o h5 --dry-run
""",
)
def convert_hdf5(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Preprocessed folder, frame folders or older HDF5."),
    ],
    out: Annotated[Path, value("DIR", "Output folder.", _RUN, "--out", "-o")],
    layout: Annotated[
        str, value("dense|packed", "packed keeps in-mask voxels only.", _FORM)
    ] = "dense",
    compression: Annotated[
        str, value("none|gzip|lzf|zstd", "none is fastest to read.", _FORM)
    ] = "none",
    dtype: Annotated[str, value("float16|int16|float32", "Stored numbers.", _FORM)] = "float16",
    verify: Annotated[
        bool, switch("--verify", "Read every file back (not in this version).", _CHECK)
    ] = False,
    check: Annotated[
        bool, switch("--check", "Report broken files (not in this version).", _CHECK)
    ] = False,
    quarantine: Annotated[
        Path | None, value("DIR", "Move broken files (not in this version).", _CHECK)
    ] = None,
    delete: Annotated[
        bool, switch("--delete", "Delete broken files (not in this version).", _CHECK)
    ] = False,
    repack: Annotated[
        bool, switch("--repack", "Rewrite older files (not in this version).", _CHECK)
    ] = False,
    jobs: options.Jobs = 1,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Pack a folder into one HDF5 file per subject.

    Dense files hold whole frames, one a chunk; packed files hold in-mask voxels, frame-major. Every
    file is built whole before it takes its name.
    """
    _refuse_later(
        {"--verify": verify, "--check": check, "--quarantine": quarantine,
         "--delete": delete, "--repack": repack}
    )  # fmt: skip
    from neurocli import convert_hdf5 as run

    with progress() as listener:
        result = run(
            source,
            out=out,
            layout=layout,
            compression=compression,
            dtype=dtype,
            jobs=jobs,
            force=force,
            dry_run=dry_run,
            listener=listener,
        )
    next_step = ("neuro", "train", "fmamba", "--pretrain", "ar", "--data", out)
    return show_prepared("convert-hdf5", result, next_step=next_step)


def _refuse_later(given: dict[str, object]) -> None:
    named = [name for name, setting in given.items() if setting not in (None, False)]
    if named:
        raise NotBuiltYetError(
            f"{', '.join(named)}: checking existing files is not in this version",
            hint="without these options files are converted; each is complete or absent",
        )
