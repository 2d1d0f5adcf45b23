"""Run the psmpy package on the same people, for comparison, whichever version is installed.

What it does differently: the larger class is cut into chunks in the order of rows and each chunk
gets a penalised fit of its own (units of columns matter); the score of the smaller class is the
mean over chunks; partners are taken greedily in the order of rows from a table of all distances;
its caliper is in raw units; it never trims, and has no exact columns. Rows are given to it sorted
by id, so that at least the same people always give the same pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import MissingDependencyError, NeuroError

Ints = npt.NDArray[np.int64]
_MOST_CELLS = 200_000_000  # it asks for all distances, 16 bytes each
_FEWEST = 20  # below, its chunks fail
NOTE = (
    "psmpy matched: penalised fits on chunks of the larger class, greedy in row order, its own "
    "scores; for comparison only"
)


def psmpy_pairs(
    design_SF: npt.NDArray[np.float64],
    treated_S: npt.NDArray[np.bool_],
    *,
    names: Sequence[str],
    caliper_logits: float | None = None,
    replace: bool = False,
) -> tuple[Ints, Ints]:
    """Return treated and control of each pair that psmpy makes.

    Args:
        design_SF: Covariates as numbers.
        treated_S: Who is treated.
        names: Names of the columns.
        caliper_logits: Largest distance in logits of its own score; None for any.
        replace: Whether a partner may serve several.

    Raises:
        MissingDependencyError: The package is not installed, or knows no matching.
        NeuroError: The cohort is too large for it, or it fails.
    """
    n_cells = int(treated_S.sum()) * int((~treated_S).sum())
    if n_cells > _MOST_CELLS:
        raise NeuroError(
            f"psmpy would hold {n_cells} distances at once, 16 bytes each",
            hint="take --match nearest or --match optimal",
        )
    psm = _matcher(design_SF, treated_S, names)
    match = getattr(psm, "kdtree_matched", None) or getattr(psm, "knn_matched", None)
    if match is None:
        raise MissingDependencyError(
            "this version of psmpy has neither kdtree_matched nor knn_matched",
            hint="pip install 'psmpy>=0.3.16'",
        )
    n_smaller = min(int(treated_S.sum()), int((~treated_S).sum()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            psm.logistic_ps(balance=n_smaller >= _FEWEST)
            match(
                matcher="propensity_logit",
                replacement=replace,
                caliper=caliper_logits,
                drop_unmatched=True,
            )
    except Exception as error:
        raise NeuroError(
            f"psmpy failed: {type(error).__name__}: {str(error)[:120]}",
            hint="take --match nearest or --match optimal",
        ) from error
    found = psm.matched_ids
    smaller = found["row"].to_numpy().astype(np.int64)
    partner = found["matched_ID"].to_numpy().astype(np.int64)
    is_first = treated_S[smaller]
    return np.where(is_first, smaller, partner), np.where(is_first, partner, smaller)


def _matcher(
    design_SF: npt.NDArray[np.float64], treated_S: npt.NDArray[np.bool_], names: Sequence[str]
) -> Any:
    try:
        import matplotlib as mpl
        import pandas as pd

        # Its import sets the style of all figures of the process; that is put back.
        with mpl.rc_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from psmpy import PsmPy
    except ImportError as error:
        raise MissingDependencyError(
            "--match psmpy needs the packages psmpy and pandas",
            hint="pip install psmpy, or take --match nearest",
        ) from error
    frame = pd.DataFrame({f"x{i}": design_SF[:, i] for i in range(len(names))})
    frame.insert(0, "treated", treated_S.astype(int))
    frame.insert(0, "row", np.arange(len(frame)))
    return PsmPy(frame, treatment="treated", indx="row", exclude=[])
