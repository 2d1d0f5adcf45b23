"""What classes and numbers have in common: names of rows, training targets, fitted baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from neurocli.core.engine.task import BaselineRows, Batch, Explainer, Rows, RunData, SampleSet
from neurocli.core.events import Listener
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.judging import Judged
from neurocli.systems.fmri.task import FmriTask

if TYPE_CHECKING:
    from neurocli.systems.fmri.explain import Output

_TOO_FEW = "fewer than three people are judged, so intervals resample their windows: optimistic"


class SupervisedTask(FmriTask):
    """Learn a target of a unit: of a person, or of a labelled window."""

    @property
    def settings(self) -> FmriTaskBlock:
        """Return the task block of the run."""
        return cast(FmriTaskBlock, self.config.task)

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        """Fit linear models on connectivity and regions; see `baselines.fit_baselines`.

        Raises:
            InputError: The atlas does not fit, or a run is damaged.
        """
        if not self.settings.baselines:
            return BaselineRows()
        # Imported here: training needs neither scikit-learn nor nilearn.
        from neurocli.systems.fmri.baselines import fit_baselines

        parts = [cast(ClipSet, samples) for samples in judged]
        fitted = fit_baselines(self.settings, cast(ClipSet, train), parts, self.n_classes, listener)
        units = fitted.units
        rows = {
            name: [
                {
                    "unit": unit,
                    "participant": units.owners[i],
                    "target": units.targets[i],
                    **self.outputs(values[i]),
                }
                for i, unit in enumerate(units.names)
            ]
            for name, values in fitted.predictions.items()
        }
        return BaselineRows(rows, fitted.notes)

    def explainer(
        self, method: str, samples: Sequence[SampleSet], train: SampleSet | None
    ) -> Explainer:
        """Return what explains the model's outputs on clips; see `explain.Explainer`.

        Raises:
            UsageError: The method is unknown.
        """
        from neurocli.systems.fmri.explain import ClipExplainer

        parts = [cast(ClipSet, part) for part in samples]
        known = cast("ClipSet | None", train)
        return ClipExplainer(
            method, parts, self.explained, self.settings, known, rival=self.is_rival
        )

    def explained(self, model: nn.Module, batch: Batch) -> list[tuple[str, Output]]:
        """Return for each clip the name of what is explained, and its `Output`."""
        raise NotImplementedError

    def is_rival(self, name: str, target: float) -> bool:
        """Tell whether a clip of a target may be what an explanation starts from.

        Args:
            name: Of what is explained, as `explained` gives it.
            target: Of a clip of the training part.
        """
        return True

    @property
    def n_classes(self) -> int:
        """Return K; 0 for a number."""
        raise NotImplementedError

    def outputs(self, values: Any) -> dict[str, float]:
        """Return the cells of a row that hold what was predicted.

        Args:
            values: Probabilities (K,), or one number.
        """
        raise NotImplementedError

    def rows_of(self, batch: Batch, predictions: Any) -> Rows:
        """Return one row per clip: its names, its target, and what was predicted."""
        return [
            {
                **{key: batch[key][i] for key in ("unit", "participant", "subject", "start")},
                "target": float(batch["target"][i]),
                **self.outputs(values),
            }
            for i, values in enumerate(predictions)
        ]


def unit_word(judged: Judged) -> str:
    """Return the plural of what was judged."""
    return "windows" if judged.are_windows else "subjects"


def cautions(judged: Judged) -> list[str]:
    """Return what the user must know of the intervals."""
    return [_TOO_FEW] if judged.resamples_windows else []


def train_targets(data: RunData, *, by_clip: bool = False) -> npt.NDArray[np.float64]:
    """Return the targets of the training part.

    Args:
        data: All parts.
        by_clip: One value per clip; else one per unit.
    """
    samples = cast(ClipSet, data.parts["train"])
    assert samples.targets is not None
    units = [samples.unit(i) for i in range(len(samples))] if by_clip else samples.units
    return np.array([samples.targets[unit] for unit in units], dtype=np.float64)
