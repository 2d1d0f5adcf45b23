"""Next-token prediction: its loss, and what it is worth against persistence.

The loss is the mean of (prediction after token k - voxels of kept token k+1)^2. Most of it comes
from jumps to the next place, which nothing can foresee; fluctuations in time hardly show. So every
evaluation also compares the model with persistence (the next patch equals this one) on the targets
that are the same place one step later: skill = 1 - mse_model / mse_persistence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from neurocli.core.errors import NeuroError


@dataclass(frozen=True)
class ForecastSums:
    """Sums of squared errors that add up exactly over batches and windows.

    `loss` runs over all targets, `skill` over same-place targets only.

    Args:
        sse_all: Model's squared error over all next-token targets.
        n_all: Voxels in those targets.
        sse_model: Model's squared error over the compared targets.
        sse_persistence: Persistence's squared error over the compared targets.
        n_compared: Voxels in the compared targets.
    """

    sse_all: float = 0.0
    n_all: int = 0
    sse_model: float = 0.0
    sse_persistence: float = 0.0
    n_compared: int = 0

    def __add__(self, other: ForecastSums) -> ForecastSums:
        return ForecastSums(
            self.sse_all + other.sse_all,
            self.n_all + other.n_all,
            self.sse_model + other.sse_model,
            self.sse_persistence + other.sse_persistence,
            self.n_compared + other.n_compared,
        )

    @property
    def loss(self) -> float:
        """Return the mean squared error over all targets; NaN without any."""
        return self.sse_all / self.n_all if self.n_all else math.nan

    @property
    def mse_model(self) -> float:
        """Return the model's mean squared error over the compared targets; NaN without any."""
        return self.sse_model / self.n_compared if self.n_compared else math.nan

    @property
    def mse_persistence(self) -> float:
        """Return persistence's error over the compared targets; NaN without any."""
        return self.sse_persistence / self.n_compared if self.n_compared else math.nan

    @property
    def skill(self) -> float:
        """Return 1 - mse_model / mse_persistence; NaN where persistence makes no error at all."""
        if self.sse_persistence == 0.0:
            return math.nan
        return 1.0 - self.sse_model / self.sse_persistence


def next_token_loss(pred: Tensor, patches: Tensor, token_index: Tensor) -> Tensor:
    """Return the mean squared error of next-token prediction.

    Args:
        pred: Predictions (B,K,F); the one at k is for token k+1.
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.

    Returns:
        Scalar in float32 or wider, over all voxels of all real targets.

    Raises:
        NeuroError: Fewer than two tokens are kept, so nothing can be predicted.
    """
    squared = _squared_errors(pred[:, :-1], patches[:, 1:])
    real = token_index[..., 1:] >= 0
    if squared.numel() == 0 or not bool(real.any()):
        raise NeuroError(
            f"{token_index.shape[-1]} brain token is kept; next-token prediction needs two",
            hint="use smaller patches or a longer clip, or check the brain mask",
        )
    if token_index.ndim == 1:
        return squared.mean()
    return squared[real].mean()


def same_place_persistence(
    pred: Tensor, patches: Tensor, token_index: Tensor, n_times: int
) -> ForecastSums:
    """Sum what is needed to compare a model with persistence.

    Compared are the targets whose token is the same place, next time as the token before it. With
    one token along time there is none; then all next-token targets are compared, so that
    persistence means "the next place looks like this one".

    Args:
        pred: Predictions (B,K,F); the one at k is for token k+1.
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        n_times: Tokens along time, gT.

    Returns:
        Sums over the batch, in float64.
    """
    after, before = token_index[..., 1:], token_index[..., :-1]
    real = after >= 0
    same_place = (after == before + 1) & (after % n_times != 0) if n_times > 1 else real
    model = _squared_errors(pred[:, :-1], patches[:, 1:]).detach().double().sum(-1)
    persistence = _squared_errors(patches[:, :-1], patches[:, 1:]).detach().double().sum(-1)
    real, same_place = real.expand_as(model), same_place.expand_as(model)
    n_voxels = patches.shape[-1]
    return ForecastSums(
        sse_all=float(model[real].sum()),
        n_all=int(real.sum()) * n_voxels,
        sse_model=float(model[same_place].sum()),
        sse_persistence=float(persistence[same_place].sum()),
        n_compared=int(same_place.sum()) * n_voxels,
    )


def _squared_errors(predicted: Tensor, target: Tensor) -> Tensor:
    if not target.is_floating_point() or target.element_size() < 4:
        target = target.float()
    return (predicted.to(target.dtype) - target).square()
