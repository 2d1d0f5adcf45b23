"""Maps of what a model looked at, as images on the grid of the runs.

Per run: `<run>_signed.nii.gz`, what each voxel adds to the output, mean over clips and frames;
`<run>_abs.nii.gz`, how much it matters: the size of the same after smoothing inside the brain; and
of gradients `<run>_snr.nii.gz`, how surely: the size of the smoothed ratio of `snr`.
`group_signed` and `group_abs` are made of the mean over runs and `group_snr` of the mean ratio,
where all lie on one grid. `clips.csv` tells what was explained in every clip and how exactly,
`time_course.csv` how much each frame matters.

Gradients are integrated from clips of other people, drawn from the training part: against a clip in
which nothing happens a class that stands for little change has nothing to be explained by. A class
is explained against clips of other classes, since what tells it from clips of its own is nothing
but chance. Without a training part the clip in which nothing happens has to do, and the notes say
so.

Time comes first: a voxel that follows the signal adds to the output in one direction over a clip,
noise in both. Smoothing comes second: each voxel's weights start as random numbers of its own,
which training leaves in place, and which neighbours do not share.

Letters: B clips, H W D the padded grid, X Y Z the run's own, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice, tee
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from neurocli.core.data.geometry import same_grid
from neurocli.core.data.nifti import write_image
from neurocli.core.engine.judgement import table_text
from neurocli.core.engine.task import Batch, Rows
from neurocli.core.errors import UsageError
from neurocli.core.names import lookup
from neurocli.core.paths import durable_write, safe_name
from neurocli.systems.fmri.attribution import (
    SHORTEST,
    TOLERANCE,
    integrated_gradients,
    occlusion,
)
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.regions import Regions, block_regions
from neurocli.systems.fmri.snr import FEWEST_LINES, LineTally, Map

METHODS = {
    "gradients": "integrated gradients: what each voxel adds to the output",
    "occlusion": "how much the output falls when a cube of voxels holds nothing",
}
_SEED = 0
_NO_OTHERS = (
    "gradients are integrated from a clip in which nothing happens, not from clips of other "
    "people: there is no training part here, or task.explain_baselines is 0"
)


class Output(Protocol):
    """Give the number of each clip that is explained."""

    def __call__(self, model: nn.Module, clips: Tensor, brain: Tensor) -> Tensor:
        """Return (b,) for clips (b, C, H, W, D, T) and masks (b, H, W, D)."""
        ...


class ClipExplainer:
    """Explain clips one by one and write what was found.

    Args:
        method: A name of `METHODS`.
        parts: The clips that will come, of one reader.
        outputs: Takes the model and a batch; returns for each clip the name of what is explained
            and its `Output`.
        settings: Its keys `explain_*`.
        train: Clips that baselines are drawn from; None when there are none.
        rival: Takes what is explained and the target of a training clip; tells whether the clip
            stands for something else and so may be a baseline.

    Raises:
        UsageError: The method is unknown, or the clips are patches.
    """

    def __init__(
        self,
        method: str,
        parts: Sequence[ClipSet],
        outputs: Callable[[nn.Module, Batch], list[tuple[str, Output]]],
        settings: FmriTaskBlock,
        train: ClipSet | None = None,
        *,
        rival: Callable[[str, float], bool] = lambda name, target: True,
    ) -> None:
        lookup("explanation", method, METHODS)
        self._method, self._outputs, self._settings = method, outputs, settings
        self._reader = parts[0].reader
        if self._reader.plan.patch is not None:
            raise UsageError(
                "this dataset holds patches, and a map is made of voxels",
                where="--explain",
                hint="name the packed or dense files that it was made from: --data DIR",
            )
        self._run_of = {run.subject: index for index, run in enumerate(self._reader.runs)}
        self._train = train if settings.explain_baselines else None
        self._rival, self._without_rival = rival, 0
        self._regions: Regions | None = None
        if method == "occlusion":
            runs = sorted({run for part in parts for run, _ in part.clips})
            self._regions = block_regions(self._reader, runs, settings.explain_cubes)
        self._tallies: dict[str, LineTally] = {}
        self._clips: Rows = []
        self._course: Rows = []

    def step(self, model: nn.Module, batch: Batch) -> None:
        """Explain the clips of a batch.

        Args:
            model: In evaluation mode.
            batch: Of the clips' `collate`, on the model's device.

        Raises:
            InputError: A run is damaged.
        """
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            for parameter in wanted:
                parameter.requires_grad_(False)  # only the clip's gradient is needed
            for i, (name, output) in enumerate(self._outputs(model, batch)):
                self._explain(model, batch, i, name, output)
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)

    def _explain(self, model: nn.Module, batch: Batch, i: int, name: str, output: Output) -> None:
        subject = batch["subject"][i]
        clip, brain = batch["clip"][i], batch["brain"][i]
        nothing = torch.full_like(clip, self._reader.outside(self._run_of[subject]))

        def number(clips: Tensor) -> Tensor:
            return output(model, clips, brain.expand(len(clips), *brain.shape))

        row: dict[str, Any] = {key: batch[key][i] for key in ("participant", "subject", "start")}
        row["explained"] = name
        if self._regions is None:
            others = self._others(batch["participant"][i], name, clip, brain, nothing)
            found = integrated_gradients(
                number, clip, others or [nothing], points=self._settings.explain_steps
            )
            value_HWDT = found.values.sum(0).cpu().numpy()
            row |= {"output": found.output, "baseline_output": found.baseline}
            row |= {"completeness_error": found.error, "steps": found.steps}
            self._course += [
                {**row, "frame": frame, "abs_sum": float(value)}
                for frame, value in enumerate(np.abs(value_HWDT).sum((0, 1, 2)))
            ]
            lines_KHWD = found.lines.sum(1).cpu().numpy() / value_HWDT.shape[-1]
        else:
            labels = torch.as_tensor(self._regions.labels, device=clip.device)
            fall_R = occlusion(number, clip, nothing, labels).cpu().numpy()
            value_HWD = np.r_[0.0, fall_R][self._regions.labels] * brain.cpu().numpy()
            row |= {"largest_fall": float(fall_R.max()), "cubes": fall_R.size}
            lines_KHWD = value_HWD[None]
        self._tallies.setdefault(subject, LineTally()).add(lines_KHWD)
        self._clips.append(row)

    def _others(
        self, participant: str, name: str, clip: Tensor, brain: Tensor, nothing: Tensor
    ) -> list[Tensor]:
        """Return clips of other people of the training part, with nothing outside this brain."""
        if self._train is None:
            return []
        # The same order for everybody, so that maps can be compared.
        order = np.random.default_rng(_SEED).permutation(len(self._train))
        foreign = (int(index) for index in order if self._person(index) != participant)
        first, again = tee(foreign)
        rivals = (index for index in first if self._rival(name, self._target(index)))
        n_wanted = self._settings.explain_baselines
        chosen = list(islice(rivals, n_wanted))
        if not chosen:
            chosen = list(islice(again, n_wanted))
            self._without_rival += bool(chosen)
        clips = [torch.as_tensor(self._train.sample(index, 0)["clip"]).to(clip) for index in chosen]
        return [torch.where(brain[None, ..., None], each, nothing) for each in clips]

    def _person(self, index: int) -> str:
        run, _ = cast(ClipSet, self._train).clips[index]
        return self._reader.runs[run].participant

    def _target(self, index: int) -> float:
        train = cast(ClipSet, self._train)
        return math.nan if train.targets is None else train.targets[train.unit(index)]

    def write(self, folder: Path) -> list[str]:
        """Write all maps and tables.

        Args:
            folder: Where they go.

        Returns:
            Sentences the user should read.

        Raises:
            NeuroError: The disk is full or the folder cannot be written.
        """
        spaces = {subject: self._reader.space(self._run_of[subject]) for subject in self._tallies}
        signed: list[Map] = []
        snr: list[Map] = []
        brains: list[npt.NDArray[np.bool_]] = []
        for subject, (shape, affine) in spaces.items():
            inside = tuple(slice(0, size) for size in shape)
            tally, whole = self._tallies[subject], self._reader.brain(self._run_of[subject])
            signed.append(tally.mean[inside])
            brains.append(whole[inside])
            ratio = tally.snr(whole) if self._method == "gradients" else None
            own = [] if ratio is None else [ratio[inside]]
            snr += own
            self._write_maps(folder, subject, signed[-1:], own, brains[-1], affine)
        shape, affine = next(iter(spaces.values()))
        alike = all(same_grid(shape, affine, *other) for other in spaces.values())
        if alike:
            # A map of some runs alone would not be the group's.
            snr = snr if len(snr) == len(signed) else []
            brain = np.logical_or.reduce(brains)
            self._write_maps(folder, "group", signed, snr, brain, affine)
        if self._course:
            durable_write(folder / "time_course.csv", table_text(self._course))
        durable_write(folder / "clips.csv", table_text(self._clips))
        return [*self._said(alike), f"maps of {len(signed)} runs are in {folder}"]

    def _write_maps(
        self,
        folder: Path,
        name: str,
        signed: Sequence[Map],
        snr: Sequence[Map],
        brain_XYZ: npt.NDArray[np.bool_],
        affine: npt.NDArray[Any],
    ) -> None:
        """Write the maps of the means over runs; no ratio leaves its map out."""
        sd = self._settings.explain_smooth if self._method == "gradients" else 0.0
        signed_XYZ = np.mean(signed, axis=0)
        maps = {"signed": signed_XYZ, "abs": np.abs(smooth_inside(signed_XYZ, brain_XYZ, sd))}
        if snr:
            maps["snr"] = np.abs(smooth_inside(np.mean(snr, axis=0), brain_XYZ, sd))
        for kind, values in maps.items():
            image = np.asfortranarray(values, dtype=np.float32)
            write_image(folder / f"{safe_name(name)}_{kind}.nii.gz", image, affine)

    def _said(self, alike: bool) -> list[str]:
        said = [] if self._train or self._method != "gradients" else [_NO_OTHERS]
        said += [] if alike else ["the runs lie on several grids, so there is no map of the group"]
        few = sum(tally.count < FEWEST_LINES for tally in self._tallies.values())
        if few and self._method == "gradients":
            said.append(
                f"{few} runs have no map of how surely a voxel matters, nor has the group: it "
                f"takes {FEWEST_LINES} lines, clips times baselines"
            )
        errors = [row["completeness_error"] for row in self._clips if "completeness_error" in row]
        inexact = sum(error > TOLERANCE for error in errors)
        if errors:
            said.append(
                f"integrated gradients of {len(errors)} clips add up to the outputs within "
                f"{max(errors):.2%}"
            )
        if self._without_rival:
            said.append(
                f"{self._without_rival} clips start from clips of what they are explained as: "
                "the training part has no others"
            )
        if inexact:
            said.append(
                f"{inexact} clips miss the tolerance of {TOLERANCE:.0%} with lines cut into "
                f"{1 / SHORTEST:.0f} pieces; clips.csv names them"
            )
        return said


def smooth_inside(value_XYZ: Map, brain_XYZ: npt.NDArray[np.bool_], sd: float) -> Map:
    """Smooth a map with a Gaussian that neither takes from nor gives to what is outside.

    Args:
        value_XYZ: The map.
        brain_XYZ: What is inside.
        sd: Standard deviation in voxels; 0 smooths nothing.

    Returns:
        The weighted mean of inside neighbours; 0 outside.
    """
    inside = np.where(brain_XYZ, value_XYZ, 0.0)
    if sd == 0:
        return inside
    weight = gaussian_filter(brain_XYZ.astype(np.float64), sd, mode="constant")
    mean = gaussian_filter(inside, sd, mode="constant") / np.where(brain_XYZ, weight, 1.0)
    return np.where(brain_XYZ, mean, 0.0)
