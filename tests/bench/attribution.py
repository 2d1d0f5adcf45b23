"""Whether integrated gradients find the network that was planted in the built-in cohort.

Run: `python tests/bench/attribution.py --seeds 1,2,3 --json`. Trains `fmamba_mlp --task sex
-p fmri/sex-cohort` once per seed, judges it with `neuro evaluate --explain gradients` as shipped,
and reads the images that this writes. `--checkpoints A,B` explains runs of the built-in cohort
instead of training. About four minutes of one thread per seed.

Figures of each seed: areas under the ROC curve of a map against the voxels of the brain in which
the network that tells the classes apart has a weight above 0.5, for the maps of the group and, in
the median, of single people (`abs`: size of the attribution, `snr`: over its standard error); the
largest completeness error of a clip; gradients per clip and CPU seconds per person. There is no
peer and so no ratio but the lowest area, over the 0.9 that was promised.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from measure import arguments, show

import neurocli
from neurocli.core.config.load import load_config
from neurocli.core.metrics.classification import auroc
from neurocli.systems.fmri import synthetic
from neurocli.systems.fmri.phantom import make_anatomy

KINDS, PROMISED, INSIDE = ("abs", "snr"), 0.9, 0.5


def planted(subject: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of the classes' network in every voxel of a person, and the brain."""
    spec = synthetic.CohortSpec(seed=seed)
    index = int(subject.removeprefix("sub-")) - 1
    anatomy = make_anatomy(synthetic._anatomy_normals(index, spec), spec.brain)
    weight_V = synthetic._blobs(anatomy.position_V3, synthetic._CLASS_NETWORK)
    return weight_V.reshape(anatomy.mask_XYZ.shape), anatomy.mask_XYZ


def area(path: Path, weight: np.ndarray, brain: np.ndarray) -> float:
    """Return the area under the ROC curve of a map against the planted voxels."""
    values = np.asarray(nib.load(path).dataobj, dtype=np.float64)
    return float(auroc((weight[brain] > INSIDE).astype(int), values[brain]))


def found(folder: Path, cohort_seed: int) -> dict[str, Any]:
    """Return the figures of the maps in a folder."""
    people = sorted(path.name[: -len("_snr.nii.gz")] for path in folder.glob("sub-*_snr.nii.gz"))
    truth = [planted(subject, cohort_seed) for subject in people]
    weight = np.mean([weight for weight, _ in truth], axis=0)
    brain = np.logical_or.reduce([own for _, own in truth])
    figures: dict[str, Any] = {}
    for kind in KINDS:
        single = [
            area(folder / f"{subject}_{kind}.nii.gz", *own)
            for subject, own in zip(people, truth, strict=True)
        ]
        figures[f"group_{kind}_auc"] = area(folder / f"group_{kind}.nii.gz", weight, brain)
        figures[f"single_{kind}_auc"] = statistics.median(single)
    with (folder / "clips.csv").open(encoding="utf-8") as file:
        clips = list(csv.DictReader(file))
    figures["completeness_error"] = max(float(row["completeness_error"]) for row in clips)
    figures["gradients_per_clip"] = statistics.mean(int(row["steps"]) for row in clips)
    figures["people"] = len(people)
    return figures


def explained(checkpoint: Path, folder: Path, cohort_seed: int) -> dict[str, Any]:
    """Return the figures of one checkpoint, with the settings of maps as shipped now."""
    keys = ("explain_baselines", "explain_steps", "explain_smooth")
    shipped = load_config(model="fmamba_mlp", set=["task.target=sex"]).task
    settings = [f"task.{key}={getattr(shipped, key)}" for key in keys]
    began = time.process_time()
    judged = neurocli.evaluate(checkpoint, explain="gradients", out=folder, set=settings)
    seconds = time.process_time() - began
    figures = found(folder / "explanations", cohort_seed)
    figures["accuracy"] = judged.metrics["accuracy"]
    figures["cpu_s_per_person"] = seconds / figures["people"]
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def main() -> None:
    """Explain every run and print what was found."""
    options = arguments(
        __doc__, 1,
        seeds="training seeds, with commas; 1 by default",
        checkpoints="run folders to explain instead, with commas",
        data="dataset folder of a built-in cohort; the default cohort if not given",
        cohort="seed of that cohort; 0 by default",
    )  # fmt: skip
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        runs = {
            Path(name).name: Path(name) for name in (options.checkpoints or "").split(",") if name
        }
        for seed in [] if runs else (options.seeds or "1").split(","):
            trained = neurocli.train(
                "fmamba_mlp", task="sex", preset="fmri/sex-cohort", seed=int(seed),
                data=options.data, out=Path(scratch) / f"seed_{seed}",
                set=["task.baselines=roi"],  # what the model is judged beside is not needed here
            )  # fmt: skip
            runs[f"seed_{seed}"] = trained.run
        for name, run in runs.items():
            maps = Path(scratch) / f"maps_{name}"
            figures[name] = explained(run, maps, int(options.cohort or 0))
    lowest = {
        kind: min(each[f"group_{kind}_auc"] for each in figures.values()) / PROMISED
        for kind in KINDS
    }
    show(
        "attribution",
        {f"lowest_{k}_auc_over_promised": v for k, v in lowest.items()},
        figures,
        options.json,
    )


if __name__ == "__main__":
    main()
