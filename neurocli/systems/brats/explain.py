"""Where a network looks for each region, and which contrast it needs.

`gradcam` writes class activation maps as images on the grid of the input, one for each branch (on
one scale, so that branches can be compared) and for the decoder, and tells how much of each map
lies in the region or next to it, beside the share that chance would put there.

`modality` takes one contrast after another away (0 is the mean of the brain and the background) and
tells how much each region's Dice falls; networks that weigh contrasts also tell their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from neurocli.core.data.nifti import write_image
from neurocli.core.engine.judgement import table_text
from neurocli.core.engine.task import Batch, Rows, SampleSet
from neurocli.core.errors import UsageError
from neurocli.core.infer.sliding_window import brain_box
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.segmentation import (
    REGIONS,
    label_confusion,
    region_dice,
    region_mask,
)
from neurocli.core.names import lookup
from neurocli.core.paths import durable_write, safe_name
from neurocli.systems.brats.blocks import MODALITIES, BratsTaskBlock
from neurocli.systems.brats.gradcam import default_stages, grad_cam, share_inside
from neurocli.systems.brats.models.branchnet import BranchNet
from neurocli.systems.brats.prepare import to_source
from neurocli.systems.brats.samples import CaseSet
from neurocli.systems.brats.store import Case

METHODS = {
    "gradcam": "where a region is found: class activation maps",
    "modality": "which contrast a region needs",
}
Labels = npt.NDArray[Any]
Predict = Callable[[nn.Module, Tensor], Labels]
_AROUND = 2  # voxels beside a region that still count as in it


class GradCamExplainer:
    """Make maps of the first cases, and write them with a table of where they point.

    Args:
        settings: Its keys `explain_*`.
        window: Gives the size of a window for a volume.
        predict: Gives the class of every voxel.
    """

    def __init__(
        self,
        settings: BratsTaskBlock,
        window: Callable[[Tensor], Sequence[int]],
        predict: Predict,
    ) -> None:
        self._settings, self._window, self._predict = settings, window, predict
        self._rows: Rows = []
        self._n_cases = self._n_left_out = 0
        self._images: dict[str, tuple[Labels, npt.NDArray[Any]]] = {}

    def step(self, model: nn.Module, batch: Batch) -> None:
        """Explain the cases of a batch.

        Args:
            model: In evaluation mode.
            batch: Of the cases' `collate`.

        Raises:
            UsageError: The layers of this network must be named.
        """
        device = next(model.parameters()).device
        for number, case in enumerate(batch["case"]):
            if self._n_cases == self._settings.explain_cases:
                self._n_left_out += 1
                continue
            self._n_cases += 1
            volume = batch["volume"][number].to(device)
            labels = batch["truth"][number]
            if labels is None or self._settings.explain_of == "predicted":
                labels = self._predict(model, volume)
            names = {key: batch[key][number] for key in ("participant", "subject")}
            self._explain(model, case, volume, labels, names)

    def _explain(
        self,
        model: nn.Module,
        case: Case,
        volume: Tensor,
        labels: Labels,
        names: Mapping[str, str],
    ) -> None:
        window = tuple(self._window(volume))
        roi = None if all(a >= b for a, b in zip(window, volume.shape[1:], strict=True)) else window
        branches, others = self._stages(model, roi or volume.shape[1:])
        brain = (volume != 0).any(0).cpu().numpy()
        for region in REGIONS:
            found = grad_cam(
                model,
                volume,
                region,
                stages=[*branches, *others],
                labels=torch.from_numpy(labels).to(volume.device),
                weighting=self._settings.explain_weighting,
                roi=roi,
                overlap=self._settings.overlap,
            )
            mask = region_mask(labels, region)
            near = ndimage.binary_dilation(mask, iterations=_AROUND) if mask.any() else mask
            sums = {stage: float(cam.sum()) for stage, cam in found.maps.items()}
            for group in (branches, *([stage] for stage in others)):
                largest = max(float(found.maps[stage].max()) for stage in group)
                total = sum(sums[stage] for stage in group)
                for stage in group:
                    cam = found.maps[stage] / largest if largest > 0 else found.maps[stage]
                    row = {**names, "region": region, "stage": stage, "voxels": int(mask.sum())}
                    row |= {
                        "share_of_branches": sums[stage] / total if total > 0 else 0.0,
                        "share_inside": share_inside(cam, torch.from_numpy(mask), dilate=_AROUND),
                        "share_by_chance": float((near & brain).sum() / max(1, brain.sum())),
                    }
                    self._rows.append(row)
                    self._keep(case, f"{case.subject}_{region}_{stage}", cam)

    def _stages(self, model: nn.Module, grid: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return the stages that share a scale, and those that have their own."""
        if self._settings.explain_stages:
            return list(self._settings.explain_stages), []
        ups = [name for name, _ in model.named_children() if name.startswith("up")]
        return default_stages(model, grid), [*ups[1:2], *ups[2:][-1:]]

    def _keep(self, case: Case, name: str, cam: Tensor) -> None:
        values = cam.detach().float().cpu().numpy()
        turned, affine = to_source(values, case.about["source"])
        # Half precision until they are written: a case has a dozen of them.
        self._images[name] = turned.astype(np.float16), affine

    def write(self, folder: Path) -> list[str]:
        """Write all maps and `gradcam.csv`.

        Args:
            folder: Where they go.

        Returns:
            Sentences the user should read.

        Raises:
            NeuroError: The disk is full or the folder cannot be written.
        """
        for name, (values, affine) in self._images.items():
            image = np.ascontiguousarray(values, dtype=np.float32)
            write_image(folder / f"{safe_name(name)}.nii.gz", image, affine)
        durable_write(folder / "gradcam.csv", table_text(self._rows))
        said = f"{len(self._images)} maps of {self._n_cases} cases are in {folder}"
        said += f", of the {self._settings.explain_of} regions"
        if self._n_left_out:
            said += f"; {self._n_left_out} more cases have none (task.explain_cases)"
        return [said]


class ModalityExplainer:
    """Tell what each contrast contributes.

    Args:
        channels: Contrasts of the volumes, by their place in `MODALITIES`.
        name: The model's name, for the names of tables.
        predict: Gives the class of every voxel.
    """

    def __init__(self, channels: Sequence[int], name: str, predict: Predict) -> None:
        self._names = [MODALITIES[channel] for channel in channels]
        self._model_name, self._predict = name, predict
        self._falls: Rows = []
        self._weights: Rows = []
        self._without_truth = 0

    def step(self, model: nn.Module, batch: Batch) -> None:
        """Take each contrast of each case away, and ask for the weights.

        Args:
            model: In evaluation mode.
            batch: Of the cases' `collate`.
        """
        device = next(model.parameters()).device
        for number in range(len(batch["case"])):
            volume, truth = batch["volume"][number].to(device), batch["truth"][number]
            names = {key: batch[key][number] for key in ("participant", "subject")}
            self._weigh(model, volume, str(names["subject"]))
            whole = self._predict(model, volume)
            if truth is None:
                self._without_truth += 1
            against = whole if truth is None else truth
            before = region_dice(label_confusion(against, whole), "nan")
            for channel, modality in enumerate(self._names):
                less = volume.clone()
                less[channel] = 0
                after = region_dice(label_confusion(against, self._predict(model, less)), "nan")
                self._falls += [
                    {**names, "region": region, "modality": modality, "dice": before[region],
                     "dice_without": after[region], "fall": before[region] - after[region]}
                    for region in REGIONS
                ]  # fmt: skip

    def _weigh(self, model: nn.Module, volume: Tensor, subject: str) -> None:
        if not (isinstance(model, BranchNet) and model.config.modality_attention):
            return
        # Background outside the brain's box would only dilute the means that the weights are of.
        box = volume[(slice(None), *brain_box(volume))]
        weights = model.modality_weights(box[None])["average"][0].tolist()
        found = dict(zip(model.config.modalities, weights, strict=True))
        row = {"sample_id": subject}
        self._weights.append(
            row | {name.upper(): found[name] for name in MODALITIES if name in found}
        )

    def write(self, folder: Path) -> list[str]:
        """Write `modality_removal.csv`, its summary, and tables of weights where there are any.

        Args:
            folder: Where they go.

        Returns:
            Sentences the user should read.

        Raises:
            NeuroError: The disk is full or the folder cannot be written.
        """
        durable_write(folder / "modality_removal.csv", table_text(self._falls))
        summary = self.summary()
        durable_write(folder / "modality_removal_summary.csv", table_text(summary))
        if self._weights:
            stem = f"{safe_name(self._model_name)}.csv"
            durable_write(folder / f"modality_attention_{stem}", table_text(self._weights))
            durable_write(
                folder / f"modality_attention_summary_{stem}", table_text(self._mean_weights())
            )
        said = [self._most(summary, region) for region in REGIONS]
        if self._without_truth:
            said.append(
                f"{self._without_truth} cases have no labels: the fall is against the prediction "
                "with all contrasts"
            )
        return [sentence for sentence in said if sentence] + [f"tables are in {folder}"]

    def summary(self) -> Rows:
        """Return one row per region and contrast: mean fall of Dice, its interval, cases."""
        rows: Rows = []
        for region in REGIONS:
            for modality in self._names:
                own = [
                    row for row in self._falls
                    if (row["region"], row["modality"]) == (region, modality)
                    and np.isfinite(row["fall"])
                ]  # fmt: skip
                falls = np.array([row["fall"] for row in own])
                people = [row["participant"] for row in own]
                limits = bootstrap_ci(
                    {"fall": falls}, {"fall": lambda rows: rows["fall"].mean()}, participants=people
                ).get("fall", (None, None)) if own else (None, None)  # fmt: skip
                rows.append(
                    {"region": region, "modality": modality, "n": len(own),
                     "mean_fall": float(falls.mean()) if own else None, "low": limits[0],
                     "high": limits[1]}
                )  # fmt: skip
        return rows

    def _mean_weights(self) -> Rows:
        found: Rows = []
        for name in (key for key in self._weights[0] if key != "sample_id"):
            values = [float(row[name]) for row in self._weights]
            spread = stdev(values) if len(values) > 1 else None
            found.append(
                {"modality": name, "mean_contribution": fmean(values), "std_contribution": spread}
            )
        return found

    def _most(self, summary: Rows, region: str) -> str | None:
        own = [row for row in summary if row["region"] == region and row["mean_fall"] is not None]
        if not own:
            return None
        most = max(own, key=lambda row: float(row["mean_fall"]))
        return (
            f"{region}: Dice falls most, by {most['mean_fall']:.3f}, without {most['modality']} "
            f"(n = {most['n']})"
        )


def explainer_of(
    method: str, samples: Sequence[SampleSet], task: Any
) -> GradCamExplainer | ModalityExplainer:
    """Return what explains the predictions of a segmentation task.

    Args:
        method: A name of `METHODS`.
        samples: The parts that will be explained.
        task: The `SegmentationTask`.

    Raises:
        UsageError: The method is unknown, or the model sees slices.
    """
    lookup("explanation", method, METHODS)
    if task.dims == 2 and method == "gradcam":
        raise UsageError(
            "maps are made of volumes, and this model sees slices",
            where="--explain",
            hint="take --explain modality",
        )
    if method == "gradcam":
        return GradCamExplainer(task.settings, task.window_of, task.predict)
    first = samples[0]
    assert isinstance(first, CaseSet)  # what a trained model is judged on
    return ModalityExplainer(first.channels, task.config.model.name, task.predict)
