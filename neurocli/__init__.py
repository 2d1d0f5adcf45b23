"""Deep learning on the brain: everything the command line does, as functions.

Names are resolved on first use, so that `import neurocli` imports neither torch nor any other
heavy package. Option names of the shell equal parameter names here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocli.core.cohort.command import make_split
    from neurocli.core.config.load import load_config
    from neurocli.core.config.presets import list_presets
    from neurocli.core.cost.command import count_flops, profile
    from neurocli.core.data.preprocess import (
        check_hdf5,
        convert_hdf5,
        preprocess,
        repack_hdf5,
        verify_hdf5,
    )
    from neurocli.core.engine.evaluate import evaluate
    from neurocli.core.engine.export import export_weights
    from neurocli.core.engine.outcome import RunResult
    from neurocli.core.engine.rebuild import load_model
    from neurocli.core.engine.train import train
    from neurocli.core.experiment.judge import evaluate_many
    from neurocli.core.experiment.run import ExperimentResult, run_experiment
    from neurocli.core.listing import list_models
    from neurocli.core.report.command import make_report
    from neurocli.systems.genes.align import align_genes

    __version__: str

_HOMES = {
    "ExperimentResult": "neurocli.core.experiment.run",
    "RunResult": "neurocli.core.engine.outcome",
    "align_genes": "neurocli.systems.genes.align",
    "check_hdf5": "neurocli.core.data.preprocess",
    "convert_hdf5": "neurocli.core.data.preprocess",
    "count_flops": "neurocli.core.cost.command",
    "evaluate": "neurocli.core.engine.evaluate",
    "evaluate_many": "neurocli.core.experiment.judge",
    "export_weights": "neurocli.core.engine.export",
    "list_models": "neurocli.core.listing",
    "list_presets": "neurocli.core.config.presets",
    "load_config": "neurocli.core.config.load",
    "load_model": "neurocli.core.engine.rebuild",
    "make_report": "neurocli.core.report.command",
    "make_split": "neurocli.core.cohort.command",
    "preprocess": "neurocli.core.data.preprocess",
    "profile": "neurocli.core.cost.command",
    "repack_hdf5": "neurocli.core.data.preprocess",
    "run_experiment": "neurocli.core.experiment.run",
    "train": "neurocli.core.engine.train",
    "verify_hdf5": "neurocli.core.data.preprocess",
}

__all__ = [
    "ExperimentResult",
    "RunResult",
    "__version__",
    "align_genes",
    "check_hdf5",
    "convert_hdf5",
    "count_flops",
    "evaluate",
    "evaluate_many",
    "export_weights",
    "list_models",
    "list_presets",
    "load_config",
    "load_model",
    "make_report",
    "make_split",
    "preprocess",
    "profile",
    "repack_hdf5",
    "run_experiment",
    "train",
    "verify_hdf5",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'neurocli' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("neurocli")
    except PackageNotFoundError:
        return "0+source"
