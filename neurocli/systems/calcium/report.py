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
from neurocli.core.report.records import RecordReader, as_mapping, as_number, as_texts
from neurocli.core.report.text import number_text, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOLDER = "embeddings"
_LABELS = ("movie_one", "movie_two", "movie_three", "direction", "static_orientation", "scene")
_CIRCLES = ("movie_", "direction")
_ASIDE = ("time_s", "truth", "running")
_MOST_SESSIONS, _MOST_POINTS = 4, 3000
_MOST_NAMES, _MOST_CELLS, _BRIGHT = 40, 10, 0.5

CITATIONS = {
    "cebra": "Schneider S, Lee JH, Mathis MW. Learnable latent embeddings for joint behavioural "
    "and neural analysis. Nature 617:360-368, 2023.",
    "allen": "de Vries SEJ et al. A large-scale standardized physiological survey reveals "
    "functional organization of the mouse visual cortex. Nat Neurosci 23:138-151, 2020.",
}


def figures(run_dir: Path) -> list[Figure]:
    """Return the embedding of every session of every judged part, first two components.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.
    """
    run = collect_run(run_dir, with_curves=False)
    found: list[Figure] = []
    for evaluation in run.evaluations:
        folder = run_dir / "evaluations" / evaluation.part / _FOLDER
        for name in _sessions(folder)[:_MOST_SESSIONS]:
            picture = _embedding(run, evaluation, folder, name)
            if picture is not None:
                found.append(picture)
        matrix = _consistency(run, evaluation)
        found += [matrix] if matrix is not None else []
    return found


def _consistency(run: Run, evaluation: Evaluation) -> Figure | None:
    """Return how well each session's embedding predicts each other's, where it was judged."""
    told = as_mapping(RecordReader(run.folder).mapping(evaluation.source).get("consistency_pairs"))
    names, rows = as_texts(told.get("sessions"))[:_MOST_NAMES], told.get("r2")
    if len(names) < 2 or not isinstance(rows, list) or len(rows) < len(names):
        return None
    cells = [[as_number(cell) for cell in row] for row in rows if isinstance(row, list)]
    values = np.array(
        [[np.nan if cell is None else cell for cell in row[: len(names)]] for row in cells]
    )[: len(names)]
    if values.shape != (len(names), len(names)) or not np.isfinite(values).any():
        return None
    off = values[np.isfinite(values)]

    def paint(axes: Axes, palette: Palette) -> None:
        axes.grid(visible=False)
        drawn = axes.pcolormesh(values, cmap="cividis", vmin=min(0.0, float(off.min())), vmax=1)
        if len(names) <= _MOST_CELLS:
            for (y, x), value in np.ndenumerate(values):
                text = "" if np.isnan(value) else f"{value:.2f}"
                color = "black" if value > _BRIGHT else "white"
                axes.text(x + 0.5, y + 0.5, text, color=color, ha="center", va="center")
        places = [place + 0.5 for place in range(len(names))]
        shown = [shortened(visible(name), 14) for name in names]
        axes.set_xticks(places, shown, rotation=90 if len(names) > 3 else 0)
        axes.set_yticks(places, shown)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set_xlabel("session that is predicted")
        axes.set_ylabel("session it is predicted from")
        figure: Any = axes.figure
        figure.colorbar(drawn, ax=axes).set_label("R², held out [share of variance]")

    return draw(
        paint,
        title=f"Consistency between sessions, {evaluation.part}",
        caption=f"linear maps between embeddings, n = {len(names)} sessions; "
        f"{run.name}/{evaluation.source}",
        alt=f"R² between sessions is {off.min():.2f} to {off.max():.2f}, mean {off.mean():.2f}.",
        inches=(4.6, 3.6),
    )


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
            shown[:, 0], shown[:, 1], c=tint, s=9, cmap="twilight" if is_circle else "cividis",
            linewidths=0.25, edgecolors=palette.text, rasterized=False,
        )  # fmt: skip
        figure: Any = axes.figure
        bar = figure.colorbar(points, ax=axes)
        bar.set_label(visible(label.replace("_", " ")))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel("first component [no unit]")
        axes.set_ylabel("second component [no unit]")

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
