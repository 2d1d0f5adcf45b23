"""The built-in cohort as a prepared dataset, made once and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from neurocli.core.data.cached import made_once
from neurocli.core.data.output import is_prepared
from neurocli.core.data.runner import Found, Item, OutputSpec, run_items
from neurocli.core.events import Listener, ignore
from neurocli.core.paths import cache_dir
from neurocli.systems.brats.blocks import PreprocessOptions
from neurocli.systems.brats.prepare import FORMAT_VERSION
from neurocli.systems.brats.synthetic import CohortSpec, case_name

_PAINTING = "2"  # changes whenever `synthetic` paints something else


def built_in_cohort(
    cache: Path | None = None, spec: CohortSpec | None = None, listener: Listener = ignore
) -> Path:
    """Return a folder with the built-in cohort, made when it is not in the cache yet.

    Args:
        cache: Folder to keep it in; None is `$NEURO_CACHE`, else the user's cache folder.
        spec: The cohort; only its seed and size may differ from the default.
        listener: Told the progress.

    Returns:
        A prepared folder.

    Raises:
        NeuroError: The cache cannot be written.
    """
    spec = spec or CohortSpec()
    version = f"{FORMAT_VERSION.rpartition('/')[2]}.{_PAINTING}"
    name = f"brats-synthetic-{spec.n_cases}-seed{spec.seed}-v{version}"
    target = (cache or cache_dir()) / name

    def make(folder: Path) -> None:
        run_items(
            _found(spec),
            "neurocli.systems.brats.prepare:process_case",
            folder,
            spec=OutputSpec("brats", "preprocessed", "synthetic", FORMAT_VERSION),
            options=PreprocessOptions().model_dump(),
            jobs=1,
            listener=listener,
        )

    return made_once(
        target, make, what="the built-in cohort", listener=listener, is_ready=is_prepared
    )


def _found(spec: CohortSpec) -> Found:
    items = [
        Item(
            case_name(index),
            case_name(index),
            (),
            {"kind": "synthetic", "index": index, "seed": spec.seed, "n_cases": spec.n_cases},
        )
        for index in range(spec.n_cases)
    ]
    note = f"synthetic data: {spec.n_cases} made-up tumours"
    return Found(items, [], [note], None, built_in_data=True)
