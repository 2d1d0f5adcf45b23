"""Estimate how likely each person is to be treated, so that it can be matched on.

The score is the logit of an unpenalised logistic regression on standardised columns, fitted by
iteratively reweighted least squares. Where the classes can be told apart perfectly the plain
estimate does not exist; then Firth's penalty (1993) keeps it finite, and the result says so.

Coefficients are rounded to ten digits and the logits built column by column in a fixed order and
kept as integers, so that last bits of a linear-algebra library decide nothing.

Letters: S people, F columns of the design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import UsageError

Floats = npt.NDArray[np.float64]
UNITS = 1_000_000_000  # integer positions per unit of the logit
_DIGITS = 10
_MOST_STEPS = 60
_SMALL_STEP = 1e-11
_LARGEST_LOGIT = 15.0  # beyond, a fit only says that the classes are separated
_LOGIT_BOUND = 500.0


@dataclass(frozen=True)
class Score:
    """Hold the logit of each person and how it came about.

    Args:
        position_S: Logits in units of 1e-9, whole numbers.
        coefficients: Intercept, then one per column, in the columns' own units.
        n_steps: Steps until the fit stood still.
        is_penalised: Whether Firth's penalty was needed.
        dropped: Columns that are constant or follow from others.
    """

    position_S: npt.NDArray[np.int64]
    coefficients: list[float]
    n_steps: int
    is_penalised: bool
    dropped: list[int]

    @property
    def logit_S(self) -> Floats:
        """Return the logits as numbers."""
        return self.position_S / UNITS

    @property
    def probability_S(self) -> Floats:
        """Return the propensity scores."""
        return 1.0 / (1.0 + np.exp(-self.logit_S))


def propensity(design_SF: Floats, treated_S: npt.NDArray[np.bool_]) -> Score:
    """Fit the logit of being treated.

    Args:
        design_SF: Covariates as numbers, no missing values, without an intercept.
        treated_S: Who is treated.

    Returns:
        The logit of each person.

    Raises:
        UsageError: Nobody or everybody is treated, or no column varies.
    """
    n_treated = int(treated_S.sum())
    if n_treated in (0, len(treated_S)):
        raise UsageError(
            f"{n_treated} of {len(treated_S)} people are treated: there is nobody to compare with",
            hint="give a --treatment column with two classes",
        )
    mean_F, sd_F = design_SF.mean(axis=0), design_SF.std(axis=0)
    z_SF = design_SF - mean_F
    z_SF /= np.where(sd_F > 0, sd_F, 1.0)
    kept = _independent(z_SF, sd_F)
    if not kept:
        raise UsageError(
            "no covariate varies: there is nothing to match on", hint="name other --covariates"
        )
    x = np.empty((len(treated_S), len(kept) + 1))
    x[:, 0] = 1.0
    for place, column in enumerate(kept, start=1):
        x[:, place] = z_SF[:, column]
    del z_SF  # as large as the cohort's table of numbers
    y = treated_S.astype(np.float64)
    beta, n_steps, is_sound = _fit(x, y, is_penalised=False)
    if not is_sound:
        beta, n_steps, _ = _fit(x, y, is_penalised=True)
    slopes = [_rounded(b / s) for b, s in zip(beta[1:], sd_F[kept], strict=True)]
    centres = [_rounded(m) for m in mean_F[kept]]
    # Around the centres, so that no digits are lost to large means.
    logit = np.full(len(y), _rounded(float(beta[0])))
    for column, slope, centre in zip(kept, slopes, centres, strict=True):
        logit = logit + (design_SF[:, column] - centre) * slope
    bounded = np.clip(logit, -_LOGIT_BOUND, _LOGIT_BOUND)
    intercept = float(beta[0]) - sum(b * c for b, c in zip(slopes, centres, strict=True))
    by_column = dict(zip(kept, slopes, strict=True))
    return Score(
        position_S=np.rint(bounded * UNITS).astype(np.int64),
        coefficients=[_rounded(intercept), *(by_column.get(f, 0.0) for f in range(len(sd_F)))],
        n_steps=n_steps,
        is_penalised=not is_sound,
        dropped=[f for f in range(len(sd_F)) if f not in by_column],
    )


def _independent(z_SF: Floats, sd_F: Floats) -> list[int]:
    """Return the columns that vary and do not follow from those before them."""
    gram = z_SF.T @ z_SF / len(z_SF)
    kept: list[int] = []
    for column in range(len(sd_F)):
        if sd_F[column] <= 0:
            continue
        rest = 1.0
        if kept:
            inner = gram[np.ix_(kept, kept)]
            cross = gram[kept, column]
            rest = float(gram[column, column] - cross @ np.linalg.solve(inner, cross))
        if rest > 1e-9:
            kept.append(column)
    return kept


def _fit(x_SF: Floats, y_S: Floats, *, is_penalised: bool) -> tuple[Floats, int, bool]:
    """Return coefficients, steps, and whether they are finite and settled."""
    beta = np.zeros(x_SF.shape[1])
    share = float(y_S.mean())
    beta[0] = np.log(share / (1.0 - share))
    for number in range(1, _MOST_STEPS + 1):
        eta = x_SF @ beta
        if not is_penalised and float(np.abs(eta).max()) > 2 * _LARGEST_LOGIT:
            return beta, number, False
        p = 1.0 / (1.0 + np.exp(-np.clip(eta, -_LOGIT_BOUND, _LOGIT_BOUND)))
        weight = p * (1.0 - p)
        information = x_SF.T @ (x_SF * weight[:, None])
        residual = y_S - p
        try:
            if is_penalised:
                root = x_SF * np.sqrt(weight)[:, None]
                leverage = (root * np.linalg.solve(information, root.T).T).sum(axis=1)
                residual = residual + leverage * (0.5 - p)
            step = np.linalg.solve(information, x_SF.T @ residual)
        except np.linalg.LinAlgError:
            return beta, number, False
        longest = float(np.abs(step).max())
        if not np.isfinite(longest):
            return beta, number, False
        beta = beta + step * min(1.0, 5.0 / longest if longest else 1.0)
        if longest <= _SMALL_STEP * max(1.0, float(np.abs(beta).max())):
            break
    else:
        return beta, _MOST_STEPS, is_penalised
    largest = float(np.abs(x_SF @ beta).max())
    return beta, number, is_penalised or largest <= _LARGEST_LOGIT


def _rounded(value: float) -> float:
    return float(f"{float(value):.{_DIGITS - 1}e}")
