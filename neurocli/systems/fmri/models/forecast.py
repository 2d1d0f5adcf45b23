"""Next-token prediction: its loss, and what it is worth against persistence.

The loss is the mean of (prediction after token k - voxels of kept token k+1)^2. Most of it comes
from jumps to the next place, which nothing can foresee; fluctuations in time hardly show. So every
evaluation also compares the model with persistence (the next patch equals this one) on the targets
that are the same place one step later: skill = 1 - mse_model / mse_persistence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurocli.core.errors import NeuroError
from neurocli.core.nn.losses import LOSSES
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup

_LEAST_SD = 1e-6  # a voxel that never changes is left at 0


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


def forecast_space(
    pred: Tensor,
    patches: Tensor,
    token_index: Tensor,
    *,
    target: str,
    grid: Sequence[int],
    own: Tensor | None = None,
    group: SequenceGroup = WHOLE,
) -> tuple[Tensor, Tensor]:
    """Bring predictions and patches into one space, where their difference is the error.

    Args:
        pred: The model's output (B,K,F).
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        target: What the output means: raw, the next patch; residual, its change from this one;
            voxel, the next patch with each voxel of a place scaled over the clip.
        grid: Tokens along H, W, D, T.
        own: Which tokens are this process's, like `token_index`; None for all.
        group: The processes that share the tokens.

    Returns:
        Predictions of the next patch and patches, in the units of the target.
    """
    if target == "residual":
        return pred + patches.to(pred.dtype), patches
    if target == "voxel":
        return pred, scaled_per_voxel(patches, token_index, grid, own=own, group=group)
    return pred, patches


def scaled_per_voxel(
    patches: Tensor,
    token_index: Tensor,
    grid: Sequence[int],
    *,
    own: Tensor | None = None,
    group: SequenceGroup = WHOLE,
) -> Tensor:
    """Scale each voxel of a place to mean 0 and SD 1 over the kept tokens of its clip.

    With several frames in a patch each of its frames counts as a voxel of its own.

    Args:
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        grid: Tokens along H, W, D, T.
        own: Which tokens are this process's, like `token_index`; None for all.
        group: The processes that share the tokens.

    Returns:
        (B,K,F); voxels that do not change become 0.
    """
    mean = place_means(patches, token_index, grid, seen=own, group=group)
    square = place_means((patches - mean).square(), token_index, grid, seen=own, group=group)
    return (patches - mean) / (square.sqrt() + _LEAST_SD)


def place_means(
    patches: Tensor,
    token_index: Tensor,
    grid: Sequence[int],
    *,
    seen: Tensor | None = None,
    group: SequenceGroup = WHOLE,
) -> Tensor:
    """Return the mean of each place over its tokens in time, for every token (B,K,F).

    Args:
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        grid: Tokens along H, W, D, T.
        seen: Tokens that count (B,K), bool; None for all. Places without any give 0.
        group: The processes that share the tokens; each counts what it has seen.
    """
    n_places = grid[0] * grid[1] * grid[2]
    index = token_index.expand(patches.shape[:2])
    counts = (index >= 0) if seen is None else (index >= 0) & seen
    # Padding goes to a place of its own.
    place = torch.where(index >= 0, index // grid[3], n_places).unsqueeze(-1)
    weights = counts.unsqueeze(-1).to(patches.dtype)
    shape = (patches.shape[0], n_places + 1, patches.shape[2])
    sums = patches.new_zeros(shape).scatter_add_(1, place.expand_as(patches), patches * weights)
    total = patches.new_zeros(*shape[:2], 1).scatter_add_(1, place, weights)
    means = group.total(sums) / group.total(total).clamp(min=1)
    return means.gather(1, place.expand_as(patches))


def next_token_loss(
    pred: Tensor,
    patches: Tensor,
    token_index: Tensor,
    *,
    loss: str = "mse",
    jumps: bool = True,
    n_times: int = 1,
    group: SequenceGroup = WHOLE,
) -> Tensor:
    """Return the mean loss of next-token prediction.

    Args:
        pred: Predictions (B,K,F); the one at k is for token k+1.
        patches: Voxels of the kept tokens (B,K,F).
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        loss: A name of `LOSSES`.
        jumps: Whether targets at another place than the token before them count.
        n_times: Tokens along time, gT; needed without jumps.
        group: The processes that share the tokens; each is given the one behind its own.

    Returns:
        Scalar in float32 or wider, over all voxels of all real targets.

    Raises:
        NeuroError: Fewer than two tokens are kept, or there is no target left.
    """
    real = token_index[..., 1:] >= 0
    if not group.count(real):
        raise NeuroError(
            f"{token_index.shape[-1]} brain token is kept; next-token prediction needs two",
            hint="use smaller patches or a longer clip, or check the brain mask",
        )
    losses = LOSSES[loss](_errors(pred[:, :-1], patches[:, 1:]))
    if not jumps:
        real = real & _same_place(token_index, n_times)
        if not group.count(real):
            raise NeuroError(
                f"{n_times} token along time leaves no target without place jumps",
                where="task.place_jumps",
                hint="use a longer clip or a patch of fewer frames, or set it to true",
            )
    elif token_index.ndim == 1:
        return group.mean(losses)
    return group.mean(losses[real.expand(losses.shape[:2])])


def n_targets(
    token_index: Tensor,
    n_samples: int,
    *,
    jumps: bool,
    n_times: int,
    group: SequenceGroup = WHOLE,
) -> int:
    """Return of how many targets `next_token_loss` is the mean.

    Args:
        token_index: Places of the kept tokens (K,), or (B,K) with -1 for padding.
        n_samples: B.
        jumps: Whether targets at another place than the token before them count.
        n_times: Tokens along time, gT.
        group: The processes that share the tokens.
    """
    real = token_index[..., 1:] >= 0
    if not jumps:
        real = real & _same_place(token_index, n_times)
    return group.count(real) * (n_samples if token_index.ndim == 1 else 1)


def _same_place(token_index: Tensor, n_times: int) -> Tensor:
    """Say which tokens after the first are the same place, next time as the one before."""
    after, before = token_index[..., 1:], token_index[..., :-1]
    return (after >= 0) & (after == before + 1) & (after % n_times != 0)


def same_place_persistence(
    pred: Tensor,
    patches: Tensor,
    token_index: Tensor,
    n_times: int,
    *,
    group: SequenceGroup = WHOLE,
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
        group: The processes that share the tokens.

    Returns:
        Sums over the batch, in float64.
    """
    real = token_index[..., 1:] >= 0
    same_place = _same_place(token_index, n_times) if n_times > 1 else real
    model = _errors(pred[:, :-1], patches[:, 1:]).square().detach().double().sum(-1)
    persistence = _errors(patches[:, :-1], patches[:, 1:]).square().detach().double().sum(-1)
    real, same_place = real.expand_as(model), same_place.expand_as(model)
    sums = [model[real].sum(), real.sum(), model[same_place].sum()]
    sums += [persistence[same_place].sum(), same_place.sum()]
    # One transfer from the device, and between processes, for all.
    values = group.total(torch.stack([value.double() for value in sums])).tolist()
    n_voxels = patches.shape[-1]
    return ForecastSums(
        sse_all=values[0],
        n_all=int(values[1]) * n_voxels,
        sse_model=values[2],
        sse_persistence=values[3],
        n_compared=int(values[4]) * n_voxels,
    )


def _errors(predicted: Tensor, target: Tensor) -> Tensor:
    if not target.is_floating_point() or target.element_size() < 4:
        target = target.float()
    return predicted.to(target.dtype) - target
