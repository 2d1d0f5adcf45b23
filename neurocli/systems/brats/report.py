"""Pictures of the tumour room: Dice of every case by region, and predictions over their images.

Everything is drawn from the run folder, so that neither torch nor the dataset is needed: `evaluate`
keeps one slice of its first cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.segmentation import REGIONS
from neurocli.core.report.collect import Run, collect_run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_number
from neurocli.core.report.text import number_text
from neurocli.core.report.tiles import PICTURES, draw_tiles, kept_pictures
from neurocli.systems.brats.pictures import slice_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_COMPARED, _MAX_RUNS = 3, 14
_COLOURS = ("#56B4E9", "#009E73", "#E69F00")  # core, oedema, enhancing: told apart by everybody
_NAMES = ("necrotic core", "oedema", "enhancing")


def figures(run_dir: Path) -> list[Figure]:
    """Return the pictures of a run, judged part by judged part.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.

    Returns:
        Dice of every case by region, and for the first cases the truth and the prediction over
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
    source = Path(evaluation.source).parent
    pictures = case_pictures(run, evaluation)
    return [
        _overlay(name, picture, f"{run.name}/{(source / PICTURES).as_posix()}", evaluation.part)
        for name, picture in pictures.items()
    ]


def case_pictures(run: Run, evaluation: Evaluation) -> dict[str, npt.NDArray[Any]]:
    """Return the slices that a judgement kept, by name; what is no slice is left out."""
    kept = kept_pictures(run.folder / Path(evaluation.source).parent)
    return {
        name: picture
        for name, picture in kept.items()
        if slice_of(name) and picture.ndim == 3 and len(picture) in (3, 4)
        and picture.dtype == np.uint8
    }  # fmt: skip


def _overlay(name: str, picture: npt.NDArray[Any], source: str, part: str) -> Figure:
    case, plane, n_planes = slice_of(name) or (name, 0, 0)
    flair, t1ce, *labels = picture
    tiles = [("FLAIR", _panel(flair, None)), ("T1ce", _panel(t1ce, None))]
    names = ("truth", "prediction")[-len(labels) :]
    tiles += [(own, _panel(flair, layer)) for own, layer in zip(names, labels, strict=True)]
    return draw_tiles(
        tiles,
        columns=4,
        title=f"Case {case}, {part}",
        caption=f"{_where(plane, n_planes)}; {source}",
        alt=_agreement(labels),
        legend=list(zip(_NAMES, _COLOURS, strict=True)),
    )


def _where(plane: int, n_planes: int) -> str:
    return f"axial slice {plane} of {n_planes}, the patient's right is on the left"


def compare(runs: Sequence[Run]) -> list[Figure]:
    """Return the same slices with the prediction of every run.

    Args:
        runs: Runs of this room.

    Returns:
        One picture for each of up to three cases that two runs or more kept a slice of.
    """
    kept: dict[str, list[tuple[str, npt.NDArray[Any]]]] = {}
    for run in runs:
        for evaluation in run.evaluations:
            if evaluation.part == "test":
                for name, picture in case_pictures(run, evaluation).items():
                    kept.setdefault(name, []).append((run.name, picture))
    shared = {name: own for name, own in kept.items() if len(own) > 1}
    return [_side_by_side(name, own) for name, own in list(shared.items())[:_MAX_COMPARED]]


def _side_by_side(name: str, own: Sequence[tuple[str, npt.NDArray[Any]]]) -> Figure:
    case, plane, n_planes = slice_of(name) or (name, 0, 0)
    first = own[0][1]
    same = [(run, p) for run, p in own if p.shape == first.shape][:_MAX_RUNS]
    tiles = [("FLAIR", _panel(first[0], None))]
    tiles += [("truth", _panel(first[0], first[2]))] if len(first) == 4 else []
    tiles += [(run, _panel(first[0], picture[-1])) for run, picture in same]
    more = f", first {len(same)} of {len(own)} runs" if len(same) < len(own) else ""
    said = [f"{run}: {_agreement(list(picture[2:]))}" for run, picture in same]
    return draw_tiles(
        tiles,
        columns=4,
        title=f"Case {case}, every run{more}",
        caption=f"{_where(plane, n_planes)}; evaluations/test/{PICTURES} of each run",
        alt=" ".join(said),
        legend=list(zip(_NAMES, _COLOURS, strict=True)),
    )


def _panel(grey: npt.NDArray[Any], labels: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """Return one slice as rows from front to back, (h, w, 3) in 0 .. 1."""
    picture = np.repeat(grey[..., None] / 255.0, 3, axis=-1)
    if labels is not None:
        for index, color in enumerate(_COLOURS, start=1):
            tint = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
            picture[labels == index] = 0.45 * picture[labels == index] + 0.55 * tint
    # Axes run to the left and to the back, so the transpose is how radiologists look at it.
    turned: npt.NDArray[np.float64] = picture.transpose(1, 0, 2)
    return turned


def _agreement(labels: Sequence[npt.NDArray[Any]]) -> str:
    predicted = labels[-1]
    n_predicted = int((predicted > 0).sum())
    if len(labels) < 2:
        return f"{n_predicted} voxels of the slice are predicted to be tumour; no labels."
    truth = labels[0]
    hit = int(((truth > 0) & (predicted > 0)).sum())
    return (
        f"{hit} of {int((truth > 0).sum())} tumour voxels of the slice are found, and "
        f"{n_predicted - hit} others are taken for tumour."
    )


CITATIONS = {
    "brats": "Menze BH et al. The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS). "
    "IEEE Trans Med Imaging 34(10):1993-2024, 2015.",
    "brats 2017": "Bakas S et al. Advancing The Cancer Genome Atlas glioma MRI collections with "
    "expert segmentation labels and radiomic features. Sci Data 4:170117, 2017.",
    "u-net": "Çiçek Ö et al. 3D U-Net: learning dense volumetric segmentation from sparse "
    "annotation. MICCAI 2016.",
}
