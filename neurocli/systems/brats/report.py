"""Pictures of the tumour room: Dice of every case by region, and predictions over their images.

Everything is drawn from the run folder and the prepared dataset, so that no torch is needed.
Overlays need kept predictions (`neuro evaluate --save-predictions`) and the dataset still there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.nifti import read_image
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.segmentation import REGIONS, union_box
from neurocli.core.paths import safe_name
from neurocli.core.report.collect import Run, collect_run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_number
from neurocli.core.report.text import number_text, visible
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.prepare import from_source
from neurocli.systems.brats.store import Case, case_folders, open_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_OVERLAYS = 3
_COLOURS = ("#56B4E9", "#009E73", "#E69F00")  # core, oedema, enhancing: told apart by everybody
_NAMES = ("necrotic core", "oedema", "enhancing")
_GAP = 4


def figures(run_dir: Path) -> list[Figure]:
    """Return the pictures of a run, judged part by judged part.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.

    Returns:
        Dice of every case by region, and for up to three cases the truth and the prediction over
        the slice with most tumour.
    """
    run = collect_run(run_dir, with_curves=False)
    found: list[Figure] = []
    for evaluation in run.evaluations:
        picture = _dice_by_case(run, evaluation)
        found += [picture] if picture is not None else []
        found += _overlays(run, evaluation)
    return found


def _dice_by_case(run: Run, evaluation: Evaluation) -> Figure | None:
    table = evaluation.subjects
    columns = {
        name: [as_number(cell) for cell in table.column(f"dice_{name}") or ()] for name in REGIONS
    }
    values = {name: [v for v in cells if v is not None] for name, cells in columns.items()}
    if not any(values.values()):
        return None
    n_cases = max(map(len, values.values()))

    def paint(axes: Axes, palette: Palette) -> None:
        for place, (name, cells) in enumerate(values.items()):
            # Points of one region stand side by side, so that equal ones are all seen.
            spread = np.linspace(-0.15, 0.15, len(cells)) if len(cells) > 1 else [0.0]
            color = palette.series[place]
            axes.plot([place + x for x in spread], sorted(cells), "o", markersize=5, color=color)
            if cells:
                axes.hlines(np.mean(cells), place - 0.25, place + 0.25, color=palette.text)
            reference = evaluation.baselines.get("threshold", {}).get(f"dice_{name}")
            if reference is not None:
                axes.hlines(
                    reference, place - 0.25, place + 0.25, color=palette.text, linestyle=":"
                )
        axes.set_xticks(range(len(values)), [name.upper() for name in values])
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("Dice [share]")

    means = ", ".join(
        f"{name.upper()} {number_text(float(np.mean(cells)))}"
        for name, cells in values.items()
        if cells
    )
    return draw(
        paint,
        title=f"Dice by case, {evaluation.part}",
        caption=f"line: mean; dotted: threshold baseline; n = {n_cases} cases; "
        f"{run.name}/{evaluation.subjects_source}",
        alt=f"Mean Dice over {n_cases} cases: {means}.",
    )


def _overlays(run: Run, evaluation: Evaluation) -> list[Figure]:
    folder = run.folder / Path(evaluation.source).parent / "predictions"
    names = [name for name in evaluation.subjects.column("subject") or () if name]
    kept = [name for name in names if (folder / f"{safe_name(name)}.nii.gz").is_file()]
    cases = _dataset(run) if kept else {}
    pictures: list[Figure] = []
    for name in kept:
        if name in cases and len(pictures) < _MAX_OVERLAYS:
            picture = _overlay(run, evaluation, cases[name], folder / f"{safe_name(name)}.nii.gz")
            pictures += [picture] if picture is not None else []
    return pictures


def _dataset(run: Run) -> dict[str, Path]:
    path = run.settings.get("data.path")
    try:
        if path is None:
            from neurocli.systems.brats.built_in import built_in_cohort

            folder = built_in_cohort()
        else:
            folder = Path(str(path))
        return dict(case_folders(folder))
    except NeuroError:  # the dataset is gone; the figures that need it are left out
        return {}


def _overlay(run: Run, evaluation: Evaluation, folder: Path, prediction: Path) -> Figure | None:
    try:
        case = open_case(folder)
        _, values = read_image(prediction, n_dims=3)
        predicted = from_source(values.astype(np.uint8), case.about["source"])
    except NeuroError:
        return None
    if predicted.shape != case.shape:
        return None
    predicted = np.where(predicted == 4, 3, predicted)
    shown = [MODALITIES.index("flair"), MODALITIES.index("t1ce")]
    image, truth = case.whole(shown)
    plane = int(((truth if truth.any() else predicted) > 0).sum(axis=(0, 1)).argmax())
    box = _shown_box((image != 0).any(axis=0)[..., plane])
    flair, t1ce = (image[channel, ..., plane][box] for channel in (0, 1))
    panels = [
        ("FLAIR", flair, None),
        ("T1ce", t1ce, None),
        *([("truth", flair, truth[..., plane][box])] if case.label is not None else []),
        ("prediction", flair, predicted[..., plane][box]),
    ]
    row = np.concatenate([_panel(grey, labels) for _, grey, labels in panels], axis=1)
    width = row.shape[1] / len(panels)

    def paint(axes: Axes, palette: Palette) -> None:
        axes.imshow(row, interpolation="nearest")
        axes.grid(visible=False)
        for place, (title, *_) in enumerate(panels):
            axes.text(
                (place + 0.5) * width, -3, title, ha="center", va="bottom", color=palette.text
            )
        for place, (name, color) in enumerate(zip(_NAMES, _COLOURS, strict=True)):
            x = (place + 0.5) / len(_NAMES)
            axes.text(
                x, -0.02, f"■ {name}", color=color, ha="center", va="top", transform=axes.transAxes
            )
        axes.set_axis_off()

    return draw(
        paint,
        title=visible(f"Case {case.subject}, {evaluation.part}"),
        caption=f"axial slice {plane} of {case.shape[2]}, the patient's right is on the left; "
        f"{run.name}/{evaluation.source.removesuffix('metrics.json')}predictions",
        alt=_agreement(case, truth, predicted),
        inches=(8.0, 2.4),
    )


def _shown_box(brain: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    return union_box(brain, margin=_GAP) if brain.any() else (slice(None), slice(None))


def _panel(grey: npt.NDArray[Any], labels: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """Return one slice as rows from front to back, (h, w, 3) in 0 .. 1."""
    inside = grey[grey != 0]
    low, high = np.percentile(inside, [1, 99.5]) if inside.size else (0.0, 1.0)
    scaled = np.where(grey != 0, np.clip((grey - low) / max(high - low, 1e-6), 0, 1), 0.0)
    picture = np.repeat(scaled[..., None], 3, axis=-1)
    if labels is not None:
        for index, color in enumerate(_COLOURS, start=1):
            tint = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
            picture[labels == index] = 0.45 * picture[labels == index] + 0.55 * tint
    # Axes run to the left and to the back, so the transpose is how radiologists look at it.
    return np.pad(picture.transpose(1, 0, 2), ((0, 0), (_GAP, _GAP), (0, 0)))


def _agreement(case: Case, truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> str:
    n_predicted = int((predicted > 0).sum())
    if case.label is None:
        return f"{n_predicted} voxels are predicted to be tumour; there are no labels."
    hit = int(((truth > 0) & (predicted > 0)).sum())
    return (
        f"{hit} of {int((truth > 0).sum())} tumour voxels are found, and {n_predicted - hit} "
        "others are taken for tumour."
    )
