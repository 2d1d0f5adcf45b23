"""Pictures of volumes: what was predicted of a clip, what carried an output, how good the data are.

Drawn from the run folder, and the quality from the manifest of the dataset where it still is; no
torch is needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.manifest import Manifest
from neurocli.core.data.output import MANIFEST_FILE
from neurocli.core.errors import NeuroError
from neurocli.core.report.collect import Run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_mapping, as_number
from neurocli.core.report.text import number_text
from neurocli.core.report.tiles import PICTURES, Scale, draw_tiles, kept_pictures, upright

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PICTURE = re.compile(r"(?P<run>.*)\.(?P<kind>next|hidden)-frame-(?P<frame>[0-9]+)", re.DOTALL)
_KINDS = {"next": "forecast of the next patch", "hidden": "hidden patches"}
_N_SLICES = 5
_MAX_RUNS = 2000
_EXPLANATIONS = "explanations"


def reconstructions(run: Run, evaluation: Evaluation) -> list[Figure]:
    """Return target and prediction of the first clips of a pretraining run, slice by slice.

    Args:
        run: The run.
        evaluation: One judgement of it.
    """
    source = Path(evaluation.source).parent
    found = []
    for name, values in kept_pictures(run.folder / source).items():
        told = _PICTURE.fullmatch(name)
        if told is not None and values.ndim == 4 and len(values) == 2:
            where = f"{run.name}/{(source / PICTURES).as_posix()}"
            found.append(_reconstruction(told, values.astype(np.float64), where, evaluation.part))
    return [figure for figure in found if figure is not None][:1]


def _reconstruction(
    told: re.Match[str], values: npt.NDArray[np.float64], source: str, part: str
) -> Figure | None:
    # Exactly 0 is what scaling puts outside the brain; what is predicted there means nothing.
    seen = np.isfinite(values).all(0) & (values[0] != 0)
    if not seen.any():
        return None
    values = np.where(seen, values, np.nan)
    limit = float(np.percentile(np.abs(values[0][seen]), 99)) or 1.0
    tiles = [
        (f"{name}, slice {place + 1}", upright(layer[..., place]))
        for name, layer in zip(("there", "predicted"), values, strict=True)
        for place in range(values.shape[-1])
    ]
    truth, said = values[0][seen], values[1][seen]
    spread = float(truth.std() * said.std())
    r = float(((truth - truth.mean()) * (said - said.mean())).mean()) / spread if spread else 0.0
    return draw_tiles(
        tiles,
        columns=len(tiles),
        title=f"{told['run']}: {_KINDS[told['kind']]}, {part}",
        caption=f"frame {told['frame']} of one clip, slices along the third axis of the grid; "
        f"correlation {r:.2f} over n = {seen.sum()} voxels shown; {source}",
        alt=f"Prediction and target correlate with {r:.2f} over the voxels shown.",
        scale=Scale("cividis", -limit, limit, "signal [units of the loss]"),
    )


def attributions(run: Run, evaluation: Evaluation) -> list[Figure]:
    """Return the maps of the group that `evaluate --explain` left, on axial slices.

    Args:
        run: The run.
        evaluation: One judgement of it.
    """
    folder = run.folder / Path(evaluation.source).parent / _EXPLANATIONS
    n_runs = len(list(folder.glob("*_abs.nii.gz"))) - 1 if folder.is_dir() else 0
    wanted = (
        ("abs", "How much each voxel matters", "size of attribution [output units]"),
        ("snr", "How surely each voxel matters", "size of mean attribution / its standard error"),
        ("signed", "What each voxel adds", "attribution [output units]"),
    )
    found = []
    for kind, title, label in wanted:
        path = folder / f"group_{kind}.nii.gz"
        if path.is_file():
            where = f"{run.name}/{(Path(evaluation.source).parent / _EXPLANATIONS).as_posix()}"
            caption = f"mean over n = {n_runs} runs; {where}/{path.name}"
            found.append(_map(path, f"{title}, {evaluation.part}", label, caption))
    return [figure for figure in found if figure is not None]


def _map(path: Path, title: str, label: str, caption: str) -> Figure | None:
    # A page without maps needs no reader of images.
    from nibabel import orientations

    from neurocli.core.data.nifti import read_image

    turns: Any = orientations  # its functions carry no types
    try:
        header, values = read_image(path, n_dims=3)
        turn = turns.io_orientation(header.affine)
    except (NeuroError, ValueError):
        return None
    if np.isnan(turn).any():
        return None
    # Towards right, front and up, whatever the order on disk.
    volume: npt.NDArray[np.float64] = turns.apply_orientation(values.astype(np.float64), turn)
    brain = volume != 0
    if not brain.any():
        return None
    levels = np.flatnonzero(brain.any(axis=(0, 1)))
    shares = np.linspace(0.15, 0.85, _N_SLICES)
    chosen = levels[(shares * (len(levels) - 1)).round().astype(int)]
    size = float(np.percentile(np.abs(volume[brain]), 99.5)) or 1.0
    is_signed = bool((volume < 0).any())
    shown = np.where(brain, volume, np.nan)
    spot = np.unravel_index(int(np.abs(volume).argmax()), volume.shape)
    return draw_tiles(
        [(f"level {z + 1} of {volume.shape[2]}", upright(shown[..., z])) for z in chosen],
        columns=_N_SLICES,
        title=title,
        caption=f"axial slices, the person's left is on the left; {caption}",
        alt=f"The largest value is at voxel {', '.join(str(int(v)) for v in spot)} of the image.",
        scale=Scale("PuOr" if is_signed else "cividis", -size if is_signed else 0.0, size, label),
    )


def data_quality(run: Run) -> Figure | None:
    """Return signal against disturbed frames of every prepared run, where the dataset still is.

    Args:
        run: The run.
    """
    rows = [as_mapping(as_mapping(r.get("stats")).get("qc")) for r in _records(run)]
    points = []
    for row in rows[:_MAX_RUNS]:
        tsnr, frames = as_number(row.get("tsnr_median")), as_number(row.get("n_frames"))
        bad = [as_number(row.get(key)) or 0.0 for key in ("n_spikes", "n_jumps")]
        if tsnr is not None and frames:
            points.append((tsnr, 100 * sum(bad) / frames))
    if not points:
        return None
    middle = sorted(x for x, _ in points)[len(points) // 2]

    def paint(axes: Axes, palette: Palette) -> None:
        axes.plot(*zip(*points, strict=True), "o", markersize=4, color=palette.series[0], alpha=0.6)
        axes.axvline(middle, color=palette.text, linestyle=":", linewidth=1.2, label="median")
        axes.set_xlabel("temporal SNR, median of the brain [no unit]")
        axes.set_ylabel("spikes and jumps\n[% of frames]")
        axes.set_ylim(bottom=-0.5)
        axes.legend()

    return draw(
        paint,
        title="Quality of the data",
        caption=f"one point per prepared run, n = {len(points)}; {MANIFEST_FILE} of the dataset",
        alt=f"The median temporal signal-to-noise ratio of {len(points)} runs is "
        f"{number_text(middle)}.",
    )


def _records(run: Run) -> list[dict[str, Any]]:
    path = run.settings.get("data.path")
    if path is None:
        if not run.is_built_in:
            return []
        from neurocli.systems.fmri.dummy import built_in_cohort

        try:
            path = built_in_cohort()
        except NeuroError:
            return []
    manifest = Path(str(path)) / MANIFEST_FILE
    if not manifest.is_file():
        return []
    try:
        return [row for row in Manifest(manifest).records().values() if row.get("status") == "done"]
    except NeuroError:
        return []
