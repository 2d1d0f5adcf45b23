"""Compare treated people with controls before and after matching, covariate by covariate.

A standardised mean difference (SMD) is divided by the spread before matching, so that a matching
cannot look good by widening it: that of the treated people (as for an effect on the treated), and
beside it that of both classes pooled. Controls that serve in several pairs, or share one, are
weighted; the weights of each treated person's controls add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.effects import (
    benjamini_hochberg,
    compare_levels,
    compare_numbers,
)
from neurocli.core.cohort.strata import MISSING_LEVEL, Column
from neurocli.core.cohort.treatment import numbers_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Row = dict[str, Any]
DENOMINATOR = "sd of the treated before matching; smd_pooled: sqrt((sd_1^2 + sd_0^2) / 2) before"


def matching_weights(treated_M: Ints, control_M: Ints, n: int) -> Floats:
    """Return the weight of each person in a matched cohort; 0 for people left out.

    Args:
        treated_M: The treated one of each pair.
        control_M: The control of each pair.
        n: Number of people.
    """
    weight = np.zeros(n)
    n_partners = np.bincount(treated_M, minlength=n)
    np.add.at(weight, control_M, 1.0 / n_partners[treated_M])
    weight[np.unique(treated_M)] = 1.0
    return weight


def effective_size(weight: Floats) -> float:
    """Return Kish's effective number of people of some weights."""
    total = float(weight.sum())
    return total**2 / float((weight**2).sum()) if total else 0.0


def comparison_rows(
    columns: Sequence[Column], treated_S: Bools, weight_S: Floats | None, score_S: Floats | None
) -> list[Row]:
    """Return one row of plain values per number, level or marker of missing values.

    Args:
        columns: The covariates.
        treated_S: Who is treated.
        weight_S: Weights of the matched cohort; None when nothing was matched.
        score_S: Propensity scores, shown as the row "distance"; None when there are none.

    Returns:
        Rows with `column`, `level` (None for numbers), `before` and `after` (means, spreads, `smd`,
        `smd_pooled`, `variance_ratio`, `ks`), and on the first row of a column `effects` (tests
        and effect sizes before matching, with `q` over all columns).
    """
    rows: list[Row] = []
    if score_S is not None:
        first: Row = {"column": "distance", "level": None}
        rows.append(first | _sides(score_S, treated_S, weight_S))
    tested = []
    for column in columns:
        made = _column_rows(column, treated_S, weight_S)
        made[0]["effects"] = _effects(column, treated_S)
        tested.append(made[0]["effects"])
        rows += made
    for effects, q in zip(tested, benjamini_hochberg([e["p"] for e in tested]), strict=True):
        effects["q"] = q
    return rows


def _column_rows(column: Column, treated_S: Bools, weight_S: Floats | None) -> list[Row]:
    if column.kind == "continuous" and column.numbers is not None:
        values = numbers_of(column)
        first: Row = {"column": column.name, "level": None}
        rows = [first | _sides(values, treated_S, weight_S)]
        lacking = np.isnan(values)
        if lacking.any():
            sides = _sides(lacking.astype(np.float64), treated_S, weight_S, is_share=True)
            rows.append({"column": column.name, "level": MISSING_LEVEL} | sides)
        return rows
    levels, places = column.coded()
    # Of two levels one says it all.
    return [
        {"column": column.name, "level": levels[index]}
        | _sides((places == index).astype(np.float64), treated_S, weight_S, is_share=True)
        for index in (range(1, 2) if len(levels) == 2 else range(len(levels)))
    ]


def _sides(
    values: Floats, treated_S: Bools, weight_S: Floats | None, *, is_share: bool = False
) -> Row:
    one = np.where(np.isnan(values), 0.0, (treated_S & ~np.isnan(values)).astype(np.float64))
    other = np.where(np.isnan(values), 0.0, (~treated_S & ~np.isnan(values)).astype(np.float64))
    filled = np.where(np.isnan(values), 0.0, values)
    order = _rising(filled, is_share=is_share)
    before = _side(filled, one, other, order, is_share=is_share)
    spread = before["sd_treated"], before["sd_control"]
    before |= _standardised(before, spread)
    if weight_S is None:
        return {"before": before, "after": None}
    after = _side(filled, one * weight_S, other * weight_S, order, is_share=is_share)
    return {"before": before, "after": after | _standardised(after, spread)}


def _rising(values: Floats, *, is_share: bool) -> Ints:
    """Return the stable order of values; of zeros and ones it needs no sorting."""
    if is_share:
        return np.concatenate([np.flatnonzero(values == 0), np.flatnonzero(values != 0)])
    return np.argsort(values, kind="stable")


def _largest_gap(values: Floats, one: Floats, other: Floats, order: Ints) -> float:
    """Return the largest distance of two weighted distribution functions.

    Args:
        values: Of everyone.
        one: Weights of the first group, 0 for others.
        other: Weights of the second group.
        order: Stable order of the values.
    """
    rising = values[order]
    is_last = np.append(rising[1:] != rising[:-1], True)
    curves = []
    for weight in (one, other):
        summed = np.cumsum(weight[order])
        curves.append(summed[is_last] / summed[-1])
    return float(np.abs(curves[0] - curves[1]).max())


def _side(values: Floats, one: Floats, other: Floats, order: Ints, *, is_share: bool) -> Row:
    row: Row = {}
    for name, weight in (("treated", one), ("control", other)):
        row[f"mean_{name}"], row[f"sd_{name}"] = _moments(values, weight, is_share=is_share)
    sd1, sd0 = row["sd_treated"], row["sd_control"]
    row["variance_ratio"] = sd1**2 / sd0**2 if not is_share and sd0 and sd1 is not None else None
    is_known = bool(one.any() and other.any())
    row["ks"] = _largest_gap(values, one, other, order) if is_known else None
    return row


def _moments(
    values: Floats, weight: Floats, *, is_share: bool
) -> tuple[float | None, float | None]:
    total = float(weight.sum())
    if total <= 0:
        return None, None
    mean = float((weight * values).sum()) / total
    if is_share:
        return mean, math.sqrt(max(mean * (1 - mean), 0.0))
    # The unbiased variance for reliability weights; n - 1 where all weigh alike.
    left = total - float((weight**2).sum()) / total
    if left <= 0:
        return mean, None
    return mean, math.sqrt(float((weight * (values - mean) ** 2).sum()) / left)


def _standardised(row: Row, spread: tuple[float | None, float | None]) -> Row:
    m1, m0 = row["mean_treated"], row["mean_control"]
    sd1, sd0 = spread
    found: Row = {"smd": None, "smd_pooled": None}
    if m1 is None or m0 is None:
        return found
    pooled = None if sd1 is None or sd0 is None else math.sqrt((sd1**2 + sd0**2) / 2)
    for name, sd in (("smd", sd1), ("smd_pooled", pooled)):
        if sd:
            found[name] = (m1 - m0) / sd
        elif m1 == m0:
            found[name] = 0.0
    if found["smd"] is None:  # all treated are alike; both classes together still have a spread
        found["smd"] = found["smd_pooled"]
    return found


def _effects(column: Column, treated_S: Bools) -> Row:
    if column.kind == "continuous" and column.numbers is not None:
        values = numbers_of(column)
        known = ~np.isnan(values)
        row = compare_numbers(values[known & treated_S], values[known & ~treated_S])
        return row | {"p": row["welch"]["p"] if row["welch"] else None}
    levels, places = column.coded()
    counts = [
        np.bincount(places[group], minlength=len(levels)).tolist()
        for group in (treated_S, ~treated_S)
    ]
    present = [index for index, level in enumerate(levels) if level != MISSING_LEVEL]
    return compare_levels([[row[index] for index in present] for row in counts])


def worst_row(rows: Sequence[Row], side: str) -> tuple[str, float] | None:
    """Return the covariate that differs most and its absolute SMD, or None when none is defined.

    Args:
        rows: From `comparison_rows`; the row "distance" is no covariate.
        side: "before" or "after".
    """
    found = [(size, row_name(row)) for row in covariate_rows(rows) if (size := size_of(row, side))]
    if not found:
        return ("", 0.0) if rows else None
    size, name = max(found)
    return name, size


def covariate_rows(rows: Sequence[Row]) -> list[Row]:
    """Return rows without that of the score, which is the first when there is one."""
    return [
        row for i, row in enumerate(rows) if i or row["column"] != "distance" or "effects" in row
    ]


def size_of(row: Row, side: str) -> float:
    """Return the larger of a row's two absolute SMDs; 0 when none is defined."""
    shown = row[side] or {}
    return max(
        (abs(v) for k in ("smd", "smd_pooled") if (v := shown.get(k)) is not None), default=0
    )


def row_name(row: Row) -> str:
    """Return the name of a row: the column, and its level."""
    return row["column"] if row["level"] is None else f"{row['column']}={row['level']}"
