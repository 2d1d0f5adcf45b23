"""Segmentation: a class for every voxel, learned from patches, judged on whole cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from neurocli.core.data.nifti import write_image
from neurocli.core.engine.task import (
    BaselineRows,
    Batch,
    PrimaryMetric,
    Rows,
    RunData,
    SampleSet,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.events import Listener
from neurocli.core.infer.slices import slice_labels
from neurocli.core.infer.sliding_window import sliding_window_labels
from neurocli.core.paths import safe_name
from neurocli.systems.brats.blocks import BratsDataBlock, BratsTaskBlock
from neurocli.systems.brats.judging import score_case, summarise_cases
from neurocli.systems.brats.losses import segmentation_loss
from neurocli.systems.brats.prepare import to_source
from neurocli.systems.brats.samples import CaseSet
from neurocli.systems.brats.store import Case
from neurocli.systems.brats.thresholds import fit_thresholds
from neurocli.systems.brats.volumes import stored_values


class SegmentationTask(Task):
    """Label every voxel of a case.

    Attributes:
        dims: 3 for models of patches, 2 for models of slices.
    """

    dims: int = 3
    _is_training: bool = False
    _folder: Path | None = None

    @property
    def settings(self) -> BratsTaskBlock:
        """Return the task block of the run."""
        return cast(BratsTaskBlock, self.config.task)

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the mean Dice over whole tumour, core and enhancing tumour; large is good."""
        return PrimaryMetric("dice_mean", "max")

    def fit(self, data: RunData) -> None:
        """Take from the data whether models see patches or slices."""
        self.dims = int(data.info["dims"])
        self._is_training = True

    def state_dict(self) -> dict[str, Any]:
        """Return whether models see patches or slices."""
        return {"dims": self.dims}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that back."""
        self.dims = int(state["dims"])

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss of a batch of patches."""
        logits = model(batch["image"])
        return StepOutput(segmentation_loss(self.settings.loss, logits, batch["label"]))

    @property
    def mixes_samples(self) -> bool:
        """Return whether Dice is over the batch as one volume."""
        return self.settings.loss == "nnunet"

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of scores per case; without labels, its names alone."""
        device = next(model.parameters()).device
        rows: Rows = []
        for number, case in enumerate(batch["case"]):
            predicted = self.predict(model, batch["volume"][number].to(device))
            if self._folder is not None:
                self._export(case, predicted)
            names = {key: batch[key][number] for key in ("participant", "subject", "start")}
            rows.append({**names, **self._scores(case, batch["truth"][number], predicted)})
        return rows

    def predict(self, model: nn.Module, volume: Tensor) -> np.ndarray:
        """Return the class of every voxel.

        Args:
            model: In evaluation mode.
            volume: (C, X, Y, Z) normalised contrasts.

        Returns:
            (X, Y, Z) uint8.

        Raises:
            NeuroError: The model gives another size, or values that are not finite.
        """
        settings = self.settings
        if self.dims == 2:
            return slice_labels(volume, model, mirror=settings.tta).cpu().numpy()
        roi = settings.roi or cast(BratsDataBlock, self.config.data).patch
        labels = sliding_window_labels(
            volume[None],
            model,
            roi if settings.sliding_window else tuple(volume.shape[1:]),
            settings.overlap,
            settings.blend,
            extent=settings.extent,
            mirror=settings.tta,
        )
        return labels[0].cpu().numpy()

    def keep_predictions(self, folder: Path) -> None:
        """Write the prediction of each case from now on, as a NIfTI file on the grid of its input.

        Args:
            folder: Gets `<case>.nii.gz` with the label values of the case's dataset; what an
                earlier judgement left there is removed.
        """
        for image in folder.glob("*.nii.gz"):
            image.unlink()
        self._folder = folder

    def summarise(self, rows: Rows) -> Summary:
        """Return means over cases, the table of cases, and the conventions they follow."""
        return summarise_cases(rows, self.settings)

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        """Fit thresholds on the training part and score what they find."""
        del listener  # a second or two
        if not self.settings.baseline:
            return BaselineRows()
        learned = [case for case in cast(CaseSet, train).cases if case.label is not None]
        if not learned:
            return BaselineRows(notes=["no thresholds: the training part has no labels here"])
        found = fit_thresholds(learned)
        rows: Rows = []
        for case in (case for part in judged for case in cast(CaseSet, part).cases):
            names = {"participant": case.participant, "subject": case.subject}
            truth = case.whole(())[1] if case.label is not None else None
            rows.append({**names, **self._scores(case, truth, found.whole(case))})
        note = (
            f"thresholds of {len(learned)} training cases: FLAIR above {found.flair:.2f}, T1ce "
            f"above {found.t1ce_high:.2f} or below {found.t1ce_low:.2f} standard deviations"
        )
        return BaselineRows({"threshold": rows}, [note])

    def _scores(
        self, case: Case, truth: np.ndarray | None, predicted: np.ndarray
    ) -> dict[str, Any]:
        if truth is None:
            return {}
        return score_case(
            truth, predicted, case.spacing_mm, self.settings, overlap_only=self._is_training
        )

    def _export(self, case: Case, predicted: np.ndarray) -> None:
        assert self._folder is not None  # asked by the caller
        stored = stored_values(predicted, str(case.about["labels"]))
        labels, affine = to_source(stored, case.about["source"])
        path = self._folder / f"{safe_name(case.subject)}.nii.gz"
        write_image(path, np.ascontiguousarray(labels), affine)
