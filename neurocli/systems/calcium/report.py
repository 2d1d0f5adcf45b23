"""Pictures of the calcium room: embeddings coloured by what was shown, and what was decoded.

Everything is drawn from files in the run folder, so that no torch is needed and every point can be
looked up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import read_npy
from neurocli.core.errors import InputError
from neurocli.core.report.collect import Run, collect_run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.text import number_text, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOLDER = "embeddings"
_LABELS = ("movie_one", "movie_two", "movie_three", "direction", "static_orientation", "scene")
_CIRCLES = ("movie_", "direction")
_ASIDE = ("time_s", "truth", "running")
_MOST_SESSIONS, _MOST_POINTS = 4, 3000


def figures(run_dir: Path) -> list[Figure]:
    """Return the embedding of every session of every judged part, first two components.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.
    """
    run = collect_run(run_dir, with_curves=False)
    found = []
    for evaluation in run.evaluations:
        folder = run_dir / "evaluations" / evaluation.part / _FOLDER
        for name in _sessions(folder)[:_MOST_SESSIONS]:
            picture = _embedding(run, evaluation, folder, name)
            if picture is not None:
                found.append(picture)
    return found


def _sessions(folder: Path) -> list[str]:
    return sorted(
        path.name.removesuffix(".time_s.npy") for path in folder.glob("*.time_s.npy")
    ) if folder.is_dir() else []  # fmt: skip


def _embedding(run: Run, evaluation: Evaluation, folder: Path, name: str) -> Figure | None:
    try:
        x = read_npy(folder / f"{name}.npy").astype(np.float64)
        label, colour = _colour(folder, name)
    except InputError:
        return None
    if x.ndim != 2 or x.shape[1] < 2 or len(x) != len(colour):
        return None
    on = np.isfinite(colour) & np.isfinite(x).all(1)
    if on.sum() < 3:
        return None
    flat, share = _two(x[on])
    step = -(-len(flat) // _MOST_POINTS)
    shown, tint = flat[::step], colour[on][::step]
    is_circle = label.startswith(_CIRCLES)

    def paint(axes: Axes, palette: Palette) -> None:
        points = axes.scatter(
            shown[:, 0], shown[:, 1], c=tint, s=7, cmap="hsv" if is_circle else "cividis",
            linewidths=0, rasterized=False,
        )  # fmt: skip
        figure: Any = axes.figure
        bar = figure.colorbar(points, ax=axes)
        bar.set_label(visible(label.replace("_", " ")))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")

    return draw(
        paint,
        title=f"Embedding of {visible(name)}, {evaluation.part}",
        caption=f"{len(shown)} of {len(x)} windows by {visible(label.replace('_', ' '))}; "
        f"two principal components hold {100 * share:.0f} % of the variance; "
        f"{run.name}/evaluations/{evaluation.part}/{_FOLDER}/{visible(name)}.npy",
        alt=f"Windows of one session, coloured by {label}; {number_text(share)} of the variance.",
    )


def _colour(folder: Path, name: str) -> tuple[str, npt.NDArray[np.float64]]:
    """Return the label that colours a session and its values, NaN for none."""
    # A name may go on where another ends: files of `a.b` are no labels of `a`.
    longer = tuple(f"{own}." for own in _sessions(folder) if own.startswith(f"{name}."))
    names = sorted(path.name for path in folder.glob("*.npy") if path.name.startswith(f"{name}."))
    known = [own[len(name) + 1 : -4] for own in names if own != f"{name}.npy"]
    known = [label for label in known if not f"{name}.{label}.".startswith(longer)]
    others = [k for k in known if k not in _ASIDE and not k.endswith("_repeat")]
    for label in (*(k for k in _LABELS if k in known), *others):
        values = read_npy(folder / f"{name}.{label}.npy")
        if values.ndim == 1:
            found = values.astype(np.float64)
            return label, np.where(found < 0, np.nan, found) if values.dtype.kind in "iu" else found
    return "time [s]", read_npy(folder / f"{name}.time_s.npy").astype(np.float64)


def _two(x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    # A sign that does not depend on the library keeps the same picture the same.
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return centred @ axes, float(values[::-1][:2].sum() / max(values.sum(), 1e-12))
