"""Small raw cases for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from neurocli.systems.brats.synthetic import CohortSpec, write_tree

SMALL = CohortSpec(n_cases=3, shape=(24, 22, 18), spacing_mm=4.0)


def small_tree(
    folder: Path, layout: str = "brats2021", n_cases: int = 3, **options: object
) -> Path:
    """Write small cases and return the root."""
    write_tree(folder, layout, CohortSpec(0, n_cases, SMALL.shape, 4.0), **options)  # type: ignore[arg-type]
    return folder


def rewrite(path: Path, change: object, affine: np.ndarray | None = None) -> None:
    """Change the voxels of an image in place."""
    image = nib.load(path)
    values = np.array(image.dataobj)  # a copy: the file is written over
    changed = change(values)  # type: ignore[operator]
    nib.Nifti1Image(changed, image.affine if affine is None else affine).to_filename(path)
