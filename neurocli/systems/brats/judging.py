"""Scoring one predicted case, and many of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import Rows, Summary
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.lesions import RULES, lesion_scores
from neurocli.core.metrics.segmentation import (
    CLASSES,
    REGIONS,
    Counts,
    Labels,
    hd95,
    label_confusion,
    precision_recall,
    region_counts,
    region_dice,
    region_mask,
)
from neurocli.systems.brats.blocks import BratsTaskBlock

_TUMOUR = tuple(enumerate(CLASSES))[1:]
_DICE = tuple(f"dice_{name}" for name in REGIONS)
_HD95 = tuple(f"hd95_{name}" for name in REGIONS)
_LESION = tuple(f"lesion_{kind}_{name}" for kind in ("dice", "hd95") for name in REGIONS)
_BY_CLASS = tuple(f"{kind}_{name}" for kind in ("precision", "recall") for _, name in _TUMOUR)
METRICS = (*_DICE, "dice_mean", *_HD95, "hd95_mean", "precision", "recall", *_BY_CLASS, *_LESION)
_LOSS = "loss"  # of validation while training; a trained model is not judged by it

_HD95_TEXT = {
    "max": "larger of the two directed 95th percentiles",
    "pooled": "95th percentile of both directions together",
}
_CELL = "voxels_{}_as_{}"


def score_case(
    truth: Labels,
    predicted: Labels,
    spacing_mm: Sequence[float],
    settings: BratsTaskBlock,
    *,
    overlap_only: bool = False,
) -> dict[str, Any]:
    """Return the scores of one case as plain values.

    Args:
        truth: (X, Y, Z), classes.
        predicted: (X, Y, Z), classes.
        spacing_mm: Voxel size.
        settings: Conventions.
        overlap_only: Leave distances and lesions out, which cost most.
    """
    confusion = label_confusion(truth, predicted)
    row: dict[str, Any] = {}
    overlaps = region_dice(confusion, settings.empty)
    row |= {f"dice_{name}": value for name, value in overlaps.items()}
    row["dice_mean"] = _mean(overlaps.values())
    if not overlap_only:
        row |= _distances(truth, predicted, spacing_mm, settings)
    for index, name in _TUMOUR:
        row[f"precision_{name}"], row[f"recall_{name}"] = precision_recall(confusion, index)
    for kind in ("precision", "recall"):
        row[kind] = _mean(row[f"{kind}_{name}"] for _, name in _TUMOUR)
    for name, classes in REGIONS.items():
        hit, extra, missed = region_counts(confusion, classes)
        row[f"voxels_{name}"], row[f"voxels_predicted_{name}"] = hit + missed, hit + extra
    return row | _cells(confusion)


def _distances(
    truth: Labels, predicted: Labels, spacing_mm: Sequence[float], settings: BratsTaskBlock
) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in REGIONS:
        masks = region_mask(truth, name), region_mask(predicted, name)
        row[f"hd95_{name}"] = hd95(
            *masks, spacing_mm, definition=settings.hd95, empty=settings.empty
        )
        if settings.lesions != "none":
            scores = lesion_scores(*masks, spacing_mm, RULES[settings.lesions])
            row[f"lesion_dice_{name}"] = scores.dice
            row[f"lesion_hd95_{name}"] = scores.hd95_mm
            row[f"lesions_found_{name}"] = scores.n_found
            row[f"lesions_missed_{name}"] = scores.n_missed
            row[f"lesions_false_{name}"] = scores.n_false
    row["hd95_mean"] = _mean(row[name] for name in _HD95)
    return row


def _cells(confusion: Counts) -> dict[str, int]:
    return {
        _CELL.format(true, said): int(confusion[i, j])
        for i, true in enumerate(CLASSES)
        for j, said in enumerate(CLASSES)
    }


def _mean(values: Any) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def summarise_cases(rows: Rows, settings: BratsTaskBlock) -> Summary:
    """Return means over cases with intervals over people, the table of cases, and conventions.

    Args:
        rows: Names and `score_case` of each case; a case without labels has names only.
        settings: Conventions they were scored under.
    """
    judged = [row for row in rows if "dice_mean" in row]
    names = [name for name in (*METRICS, _LOSS) if judged and name in judged[0]]
    columns = {name: np.array([row[name] for row in judged], dtype=np.float64) for name in names}
    metrics = {name: _column_mean(name) for name in names}
    intervals = (
        bootstrap_ci(columns, metrics, participants=[row["participant"] for row in judged])
        if judged
        else {}
    )
    return Summary(
        metrics={name: metric(columns) for name, metric in metrics.items()},
        ci95=intervals,
        baselines={},
        per_subject=[_told(row) for row in rows],
        n=len(judged),
        unit="cases",
        details=_details(judged, settings) if judged else {},
        notes=_notes(rows, judged, names, settings),
    )


def _column_mean(name: str) -> Callable[[Mapping[str, npt.NDArray[Any]]], float]:
    def metric(columns: Mapping[str, npt.NDArray[Any]]) -> float:
        values = columns[name]
        defined = values[np.isfinite(values)]
        return float(defined.mean()) if defined.size else math.nan

    return metric


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {"participant": row["participant"], "subject": row["subject"]}
    scores = {key: value for key, value in row.items() if not key.startswith("voxels_background")}
    hidden = {_CELL.format(true, said) for true in CLASSES for said in CLASSES} | {"start"}
    return {**names, **{key: value for key, value in scores.items() if key not in hidden}}


def _details(judged: Rows, settings: BratsTaskBlock) -> dict[str, Any]:
    counts = [[sum(row[_CELL.format(a, b)] for row in judged) for b in CLASSES] for a in CLASSES]
    return {
        "confusion": {"classes": list(CLASSES), "counts": counts, "unit": "voxels"},
        "conventions": {
            "empty": settings.empty,
            "hd95": _HD95_TEXT[settings.hd95],
            "lesions": settings.lesions,
        },
        "empty_regions": {
            name: {
                "n_empty_truth": sum(row[f"voxels_{name}"] == 0 for row in judged),
                "n_false": sum(
                    row[f"voxels_{name}"] == 0 and row[f"voxels_predicted_{name}"] > 0
                    for row in judged
                ),
                "n_missed": sum(
                    row[f"voxels_{name}"] > 0 and row[f"voxels_predicted_{name}"] == 0
                    for row in judged
                ),
            }
            for name in REGIONS
        },
    }


def _notes(rows: Rows, judged: Rows, names: Sequence[str], settings: BratsTaskBlock) -> list[str]:
    found = []
    if len(judged) < len(rows):
        found.append(f"{len(rows) - len(judged)} cases have no labels and are not scored")
    if "hd95_wt" in names:
        found.append(
            f"empty regions by the rule '{settings.empty}'; HD95 is the "
            f"{_HD95_TEXT[settings.hd95]}, in mm"
        )
    return found
