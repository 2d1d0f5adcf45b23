"""A training patch from the cache against reloading and normalising the volumes.

Run: `python tests/bench/patches.py --json`. A made-up case of 240x240x155 voxels as .nii.gz, two
contrasts and labels, patches of 128^3, one thread, CPU time in turns. The peer reads the volumes
with nibabel and normalises them with numpy for every patch, as the family's own loader does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from measure import arguments, seconds_in_turns, show

from neurocli.core.data.preprocess import preprocess
from neurocli.systems.brats.samples import PatchPlan, PatchSet
from neurocli.systems.brats.store import case_folders, open_case
from neurocli.systems.brats.synthetic import CohortSpec, write_tree

SHAPE, SIZE = (240, 240, 155), 128


def reload_patch(folder: Path, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Read, normalise and cut, as if nothing were kept."""
    images = []
    for kind in ("t1ce", "flair"):
        volume = nib.load(next(folder.glob(f"*_{kind}.nii.gz"))).get_fdata(dtype=np.float32)
        mask = volume > 0
        low, high = np.percentile(volume[mask], [0.5, 99.5])
        clipped = np.clip(volume[mask], low, high)
        volume[mask] = (clipped - clipped.mean()) / clipped.std()
        images.append(volume)
    label = np.asarray(nib.load(next(folder.glob("*_seg.nii.gz"))).dataobj)
    label[label == 4] = 3
    start = [int(random.integers(0, length - SIZE + 1)) for length in SHAPE]
    box = tuple(slice(a, a + SIZE) for a in start)
    return np.stack([image[box] for image in images]), label[box]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        spec = CohortSpec(n_cases=1, shape=SHAPE, spacing_mm=1.0)
        folders = write_tree(root / "raw", "brats2021", spec, suffix=".nii.gz")
        preprocess("brats2021", root / "raw", out=root / "out")
        folder = case_folders(root / "out")[0][1]
        samples = PatchSet([open_case(folder)], PatchPlan((1, 3), (SIZE,) * 3, 16, 1 / 3, seed=0))
        random = np.random.default_rng(0)

        def cached() -> None:
            for index in range(16):
                samples.collate([samples.sample(index, 0)])

        times = seconds_in_turns(
            {"cache": cached, "reload": lambda: reload_patch(folders[0], random)}, options.runs
        )
        cache_mib = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    one = times["cache"] / 16
    show(
        "patches",
        {"patch_vs_reload": times["reload"] / one},
        {
            "threads": 1,
            "patch_ms": 1000 * one,
            "reload_ms": 1000 * times["reload"],
            "cache_mib_per_case": cache_mib,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
