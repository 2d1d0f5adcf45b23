"""Segmentation: a class for every voxel, learned from patches, judged on whole cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.core.data.nifti import write_image
from neurocli.core.engine.pictures import KEY as PICTURE
from neurocli.core.engine.task import (
    BaselineRows,
    Batch,
    Explainer,
    PrimaryMetric,
    Rows,
    RunData,
    SampleSet,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.events import Listener
from neurocli.core.infer.ensemble import MeanOutput
from neurocli.core.infer.slices import slice_labels
from neurocli.core.infer.sliding_window import (
    labels_from_logits,
    sliding_window_labels,
    sliding_window_logits,
)
from neurocli.core.metrics.segmentation import label_confusion, region_dice
from neurocli.core.paths import safe_name
from neurocli.systems.brats.blocks import BratsDataBlock, BratsTaskBlock
from neurocli.systems.brats.judging import score_case, summarise_cases
from neurocli.systems.brats.losses import segmentation_loss
from neurocli.systems.brats.pictures import case_picture
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
        """Return the loss of a batch of patches, and its Dice where it holds a tumour."""
        logits = model(batch["image"])
        loss = segmentation_loss(self.settings.loss, logits, batch["label"])
        return StepOutput(loss, _patch_dice(logits, batch["label"]))

    @property
    def mixes_samples(self) -> bool:
        """Return whether Dice is over the batch as one volume."""
        return self.settings.loss == "nnunet"

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of scores per case; without labels, its names alone."""
        device = next(model.parameters()).device
        rows: Rows = []
        for number, case in enumerate(batch["case"]):
            volume, truth = batch["volume"][number].to(device), batch["truth"][number]
            loss: dict[str, float] = {}
            if self._is_training and self._has_logits and truth is not None:
                predicted, loss = self._predict_with_loss(model, volume, truth)
            else:
                predicted = self.predict(model, volume)
            if self._folder is not None:
                self._export(case, predicted)
            names = {key: batch[key][number] for key in ("participant", "subject", "start")}
            rows.append({**names, **self._scores(case, truth, predicted), **loss})
            if self.n_pictures > 0:
                self.n_pictures -= 1
                rows[-1][PICTURE] = case_picture(case, truth, predicted)
        return rows

    @property
    def _has_logits(self) -> bool:
        # Outside a box that is computed alone there are none to take a loss of.
        return self.dims == 3 and self.settings.extent == "grid"

    def _predict_with_loss(
        self, model: nn.Module, volume: Tensor, truth: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return the class of every voxel, and the loss over the whole volume."""
        roi, settings = self.window_of(volume), self.settings
        logits = sliding_window_logits(
            volume[None], model, roi, settings.overlap, settings.blend, mirror=settings.tta
        )
        target = torch.from_numpy(truth).to(logits.device)[None]
        loss = float(segmentation_loss(settings.loss, logits, target).detach())
        return labels_from_logits(logits)[0].cpu().numpy(), {"loss": loss}

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
        labels = sliding_window_labels(
            volume[None],
            model,
            self.window_of(volume),
            settings.overlap,
            settings.blend,
            extent=settings.extent,
            mirror=settings.tta,
        )
        return labels[0].cpu().numpy()

    def window_of(self, volume: Tensor) -> tuple[int, ...]:
        """Return the size of the windows that a volume (C, X, Y, Z) is predicted by."""
        if not self.settings.sliding_window:
            return tuple(volume.shape[1:])
        return self.settings.roi or cast(BratsDataBlock, self.config.data).patch

    def ensemble(self, models: Sequence[nn.Module]) -> nn.Module:
        """Return the mean of several networks, which a window passes through together."""
        return MeanOutput(models, self.settings.average)

    def explainer(
        self, method: str, samples: Sequence[SampleSet], train: SampleSet | None
    ) -> Explainer:
        """Return what explains predictions by `gradcam` or `modality`.

        Raises:
            UsageError: The method is unknown, or the model sees slices.
        """
        del train  # nothing is compared with it
        from neurocli.systems.brats.explain import explainer_of

        return explainer_of(method, samples, self)

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


def _patch_dice(logits: Tensor | Sequence[Tensor], truth: Tensor) -> dict[str, float]:
    """Return the mean Dice of the regions that a batch of patches holds; nothing without any."""
    finest = logits if isinstance(logits, Tensor) else logits[0]
    found = labels_from_logits(finest.detach()).cpu().numpy()
    scores = region_dice(label_confusion(truth.cpu().numpy(), found), "nan").values()
    defined = [score for score in scores if score == score]
    return {"dice": sum(defined) / len(defined)} if defined else {}
