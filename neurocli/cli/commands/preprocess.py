"""`neuro preprocess`: raw files of a known kind in; one standard folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.page import CONFIG_PANEL, RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.views import show_prepared
from neurocli.core.catalog import datasets, find_dataset

_READ, _RUN = "How runs are read", RUN_PANEL

app = new_group()


def _kinds() -> str:
    # From the catalog, so that a new dataset row is on the page without another edit.
    width = max(map(len, datasets())) + 2
    rows = [f"  {row.name:{width}}{row.summary}\n" for _, row in datasets().values()]
    return "Kinds of data:\n" + "".join(rows) + "\n"


@add_verb(
    app,
    "preprocess",
    """
neuro preprocess bids ds005 -o out
neuro preprocess bids derivatives/fmriprep -o out --jobs 4 --scaling voxel-z
neuro preprocess bids fmriprep -o out --confounds 24p --high-pass 0.008
neuro preprocess nifti a.nii.gz b.nii.gz -o out --tr 2.5 --mask brain.nii.gz
neuro preprocess dummy -o cohort -s n_subjects=24 --seed 7
""",
    before=_kinds(),
)
def preprocess(
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="Kind of data, see below."),
    ],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SRC", help="Files or folders; none for the built-in cohort."),
    ] = None,
    *,
    out: Annotated[Path, value("DIR", "Output folder.", _RUN, "--out", "-o")],
    space: Annotated[str | None, value("native|mni2mm", "Grid of the output.", _READ)] = None,
    scaling: Annotated[
        str | None,
        value(
            "METHOD",
            "none, znorm_zeroback, znorm_minback, minmax, robust, voxel-z or psc; none keeps "
            "intensities and training scales them.",
            _READ,
        ),
    ] = None,
    mask: Annotated[
        str | None, value("auto|none|PATH", "Brain mask; auto finds or computes one.", _READ)
    ] = None,
    tr: Annotated[
        float | None, value("SECONDS", "Repetition time; wins over the header.", _READ)
    ] = None,
    metadata: Annotated[
        str | None,
        value("PATH", "Phenotype table or folder of a cohort; else SRC/metadata.", _READ),
    ] = None,
    confounds: Annotated[
        str | None,
        value(
            "LIST",
            "fMRIPrep signals to regress out: 6p, 8p, 9p, 24p, 36p, acompcor, or columns.",
            _READ,
        ),
    ] = None,
    high_pass: Annotated[
        float | None, value("X", "Take changes slower than X Hz out, e.g. 0.008.", _READ)
    ] = None,
    low_pass: Annotated[
        float | None, value("X", "Take changes faster than X Hz out, e.g. 0.1.", _READ)
    ] = None,
    dtype: Annotated[
        str | None,
        value("auto|float32|float16", "auto keeps whole numbers as they are stored.", _READ),
    ] = None,
    frames: Annotated[str | None, value("pt|none", "Also write frame_{i}.pt files.", _READ)] = None,
    figure: Annotated[str | None, value("svg|none", "Also draw qc.svg of each run.", _READ)] = None,
    settings: Annotated[
        list[str] | None,
        value(
            "OPTION=VALUE",
            "Further options: nonfinite=zero; n_subjects, n_frames of dummy; "
            "labels, dtype of brats.",
            CONFIG_PANEL,
            "--set",
            "-s",
        ),
    ] = None,
    seed: options.Seed = None,
    jobs: options.Jobs = 1,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Turn raw data into one standard folder.

    Every subject is either done or listed with the reason; one bad file never stops the rest. The
    same command line again does only what is missing or changed.
    """
    from neurocli import preprocess as run

    chosen = options.given(
        space=space,
        scaling=scaling,
        mask=mask,
        tr_s=tr,
        metadata=metadata,
        confounds=confounds,
        high_pass_hz=high_pass,
        low_pass_hz=low_pass,
        dtype=dtype,
        frames=frames,
        figure=figure,
        seed=seed,
    )
    further = options.parse_settings(settings)
    # The options block adds units to the names of the flags.
    flags = {key: key.removesuffix("_s").removesuffix("_hz").replace("_", "-") for key in chosen}
    origins = {key: f"--{flag}" for key, flag in flags.items()}
    with progress() as listener:
        result = run(
            dataset,
            *(sources or ()),
            out=out,
            jobs=jobs,
            force=force,
            dry_run=dry_run,
            listener=listener,
            options={**further, **chosen},
            origins=dict.fromkeys(further, "--set") | origins,
        )
    room, _ = find_dataset(dataset)
    converts = ("convert-hdf5", out, "-o", "h5")
    splits = ("split", out, "-o", "split.json")
    return show_prepared(
        "preprocess", result, next_step=("neuro", *(converts if room.convert else splits))
    )
