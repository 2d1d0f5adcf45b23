"""Describe how alike the parts of a split are, column by column.

Sums are exact (`math.fsum`) over people in sorted order, so the numbers are the same on every
machine and for every order of rows. The standardised mean difference (SMD) compares train with
test; its denominator is named in every row, because other tools divide by other things.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.strata import Column

MAX_LEVELS = 30  # a text column with more values is a name or a remark, not a covariate
SMD_LIMIT = 0.1  # Austin (2009): a larger difference is taken for an imbalance
_CONTINUOUS = "sqrt((sd_train^2 + sd_test^2) / 2)"
_CATEGORICAL = "sqrt((p_train (1 - p_train) + p_test (1 - p_test)) / 2) of the level named"

Row = dict[str, Any]


def balance_rows(
    columns: Sequence[Column], ids: Sequence[str], parts: Mapping[str, Sequence[str]]
) -> list[Row]:
    """Return one row of plain values per column.

    Args:
        columns: Columns whose values are aligned with `ids`.
        ids: Participants, sorted.
        parts: Ids by part; ids that are not in `ids` are refused.

    Returns:
        Rows with `column`, `kind`, `parts` (n, n_missing, and mean and sd or the share of each
        level, missing values left out), `smd` of train against test (for categories that of the
        level which differs most, named under `level`) and `denominator`. What is undefined, such
        as the sd of one value, is None.
    """
    position = {name: index for index, name in enumerate(ids)}
    rows_by_part = {
        part: np.array(sorted(position[name] for name in names), dtype=np.int64)
        for part, names in parts.items()
    }
    return [_row(column, rows_by_part) for column in columns]


def largest_smd(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the largest absolute SMD of a balance table, or None when none is defined."""
    known = [abs(row["smd"]) for row in rows if row["smd"] is not None]
    return max(known) if known else None


def _row(column: Column, rows_by_part: Mapping[str, npt.NDArray[np.int64]]) -> Row:
    if column.kind == "continuous" and column.numbers is not None:
        values = column.values
        shown = {part: _moments(values[rows]) for part, rows in rows_by_part.items()}
        smd, level = _continuous_smd(shown), None
    else:
        shown = {
            part: _shares([column.labels[index] for index in rows.tolist()])
            for part, rows in rows_by_part.items()
        }
        smd, level = _categorical_smd(shown)
    row: Row = {"column": column.name, "kind": column.kind, "parts": shown, "smd": smd}
    if level is not None:
        row["level"] = level
    row["denominator"] = _CONTINUOUS if column.kind == "continuous" else _CATEGORICAL
    return row


def _moments(values: npt.NDArray[np.float64]) -> Row:
    known = values[~np.isnan(values)]
    n = len(known)
    mean = math.fsum(known.tolist()) / n if n else None
    sd = None
    if mean is not None and n > 1:
        sd = math.sqrt(math.fsum([gap**2 for gap in (known - mean).tolist()]) / (n - 1))
    return {"n": n, "n_missing": len(values) - n, "mean": mean, "sd": sd}


def _shares(labels: Sequence[str | None]) -> Row:
    counts = Counter(label for label in labels if label is not None)
    n = counts.total()
    shares = {level: counts[level] / n for level in sorted(counts)}
    return {"n": n, "n_missing": len(labels) - n, "shares": shares}


def _continuous_smd(shown: Mapping[str, Row]) -> float | None:
    one, other = shown["train"], shown["test"]
    if one["sd"] is None or other["sd"] is None:
        return None
    return _standardised(one["mean"] - other["mean"], (one["sd"] ** 2 + other["sd"] ** 2) / 2)


def _categorical_smd(shown: Mapping[str, Row]) -> tuple[float | None, str | None]:
    if not shown["train"]["n"] or not shown["test"]["n"]:
        return None, None
    one, other = shown["train"]["shares"], shown["test"]["shares"]
    found: list[tuple[float, str]] = []
    for level in sorted({*one, *other}):
        p, q = one.get(level, 0.0), other.get(level, 0.0)
        smd = _standardised(p - q, (p * (1 - p) + q * (1 - q)) / 2)
        if smd is None:
            return None, level
        found.append((smd, level))
    return max(found, key=lambda pair: (abs(pair[0]), pair[1]))


def _standardised(difference: float, variance: float) -> float | None:
    if variance > 0:
        return difference / math.sqrt(variance)
    return 0.0 if difference == 0 else None
