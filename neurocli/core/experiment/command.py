"""The function behind `neuro train`: one run, or an experiment of several."""

from __future__ import annotations

from typing import Unpack

from neurocli.core.engine.outcome import RunResult
from neurocli.core.engine.train import TrainOptions, train
from neurocli.core.experiment.plan import is_experiment
from neurocli.core.experiment.run import ExperimentResult, run_experiment


def train_any(*models: str, **options: Unpack[TrainOptions]) -> RunResult | ExperimentResult:
    """Train what a command line asks for.

    Args:
        *models: Model names or patterns.
        **options: The flags of `neuro train`, None where not given.

    Returns:
        The run; or the experiment, where several models, seeds or folds were asked for.

    Raises:
        UsageError: Options, names or configuration do not fit together.
        NeuroError: The data or a checkpoint cannot be used.
        StoppedError: A signal stopped a run after its state was saved.
    """
    chosen = (options.get("seeds"), options.get("folds"), options.get("resume"))
    several = is_experiment(models, *chosen)
    return run_experiment(*models, **options) if several else train(*models, **options)
