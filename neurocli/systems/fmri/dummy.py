"""The built-in cohort: its doors to `preprocess` and to training without data.

`synthetic.py` says what is true in it. The folder that training uses is made once, kept in the
cache and used by every later run with the same specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurocli.core.data.cached import made_once
from neurocli.core.data.output import is_prepared
from neurocli.core.data.runner import Found, Item, OutputSpec, run_items
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.paths import cache_dir
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.prepare import FORMAT_VERSION
from neurocli.systems.fmri.synthetic import (
    CohortSpec,
    SyntheticRun,
    cohort_table,
    make_subject,
)

__all__ = [
    "CohortSpec",
    "SyntheticRun",
    "built_in_cohort",
    "cohort_spec",
    "cohort_table",
    "find_dummy",
    "make_subject",
]


def cohort_spec(options: Mapping[str, Any]) -> CohortSpec:
    """Return the cohort that preprocess options ask for.

    Args:
        options: Values of `PreprocessOptions`; missing ones take its defaults.
    """
    asked = PreprocessOptions.model_validate(dict(options))
    return CohortSpec(seed=asked.seed, n_subjects=asked.n_subjects, n_frames=asked.n_frames)


def find_dummy(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List the subjects of the built-in cohort.

    Args:
        sources: Must be empty.
        options: Values of `PreprocessOptions`.

    Raises:
        UsageError: A source was given.
    """
    if sources:
        raise UsageError(
            "dummy makes its own data and reads no source",
            where=str(sources[0]),
            hint="leave SRC out, or name the kind of data: bids, nifti or frames",
        )
    return _found(cohort_spec(options))


def _found(spec: CohortSpec) -> Found:
    table = cohort_table(spec)
    items = [
        Item(subject, subject, (), {"kind": "dummy", "index": index, "spec": asdict(spec)})
        for index, subject in enumerate(table)
    ]
    painted = (
        "the MNI152 brain that nilearn ships"
        if spec.brain == "mni152"
        else "an analytic head, because nilearn is not installed"
    )
    note = f"synthetic data: {spec.n_subjects} made-up subjects, painted on {painted}"
    return Found(items, [], [note], table, built_in_data=True)


def built_in_cohort(
    cache: Path | None = None,
    spec: CohortSpec | None = None,
    listener: Listener = ignore,
) -> Path:
    """Return a folder with the built-in cohort, made when it is not in the cache yet.

    The folder is built beside its place and renamed whole, so processes that start together all
    end with the same one.

    Args:
        cache: Folder to keep it in; None is `$NEURO_CACHE`, else the user's cache folder.
        spec: The cohort; None is the default one.
        listener: Told the progress.

    Returns:
        A preprocessed folder (packed runs, manifest, participants).

    Raises:
        NeuroError: The cache cannot be written.
    """
    spec = spec or CohortSpec()
    name = f"fmri-dummy-{spec.n_subjects}x{spec.n_frames}-seed{spec.seed}-{spec.brain}"
    target = (cache or cache_dir()) / f"{name}-v{FORMAT_VERSION.rpartition('/')[2]}"
    options = PreprocessOptions(
        seed=spec.seed, n_subjects=spec.n_subjects, n_frames=spec.n_frames
    ).model_dump()

    def make(folder: Path) -> None:
        run_items(
            _found(spec),
            "neurocli.systems.fmri.prepare:process_run",
            folder,
            spec=OutputSpec("fmri", "preprocessed", "dummy", FORMAT_VERSION),
            options=options,
            jobs=1,
            listener=listener,
        )

    return made_once(
        target, make, what="the built-in cohort", listener=listener, is_ready=is_prepared
    )
