"""A guard against loss spikes: a step whose gradient is far above the usual is not applied.

One damaged or odd batch can throw a model back by thousands of steps, clipping or not: clipping
bounds the length of a step and leaves its direction. The guard compares the norm of a gradient
with the running median of those applied before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

_REMEMBERED = 64  # norms; the median follows the fall of the norm over a run
_NEEDED = 16  # norms before the first verdict: the first steps of a run are unlike the rest
_MOST_IN_ROW = 16  # spikes in a row are no spikes but a new level


class SpikeGuard:
    """Remember recent gradient norms and tell spikes from them.

    Args:
        factor: A norm above so many medians is a spike; None never finds one.
    """

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self.norms: list[float] = []
        self.in_row = 0
        self.n_skipped = 0

    def limit(self) -> float:
        """Return the largest norm that is no spike; infinite while too little is known."""
        if self.factor is None or len(self.norms) < _NEEDED:
            return math.inf
        return self.factor * median(self.norms)

    def is_spike(self, norm: float) -> bool:
        """Return whether a step must not be applied, and remember its norm.

        A norm that is not finite is none of the guard's business.

        Args:
            norm: Norm of the gradient before clipping.
        """
        if self.factor is None or not math.isfinite(norm):
            return False
        if norm > self.limit():
            self.in_row += 1
            if self.in_row <= _MOST_IN_ROW:
                self.n_skipped += 1
                return True
            self.norms.clear()  # the old level says nothing of the new one
        self.in_row = 0
        self.norms = [*self.norms, norm][-_REMEMBERED:]
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen, as plain values."""
        return {"norms": list(self.norms), "in_row": self.in_row, "n_skipped": self.n_skipped}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take back what was seen; None is the state of a file from before there was a guard."""
        state = state or {"norms": [], "in_row": 0, "n_skipped": 0}
        self.norms = [float(norm) for norm in state["norms"]]
        self.in_row, self.n_skipped = int(state["in_row"]), int(state["n_skipped"])
