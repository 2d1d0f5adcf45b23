"""What several heads share: how tokens become one vector, and how weights start.

Letters: B clips, K kept tokens, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup

_INIT_STD = 0.02


def mean_token(features: Tensor, real: Tensor | None, *, group: SequenceGroup = WHOLE) -> Tensor:
    """Return the mean of the real tokens, (B,E).

    Args:
        features: Token features (B,K,E).
        real: Mask (B,K) of the tokens that count; None for all, in one process.
        group: The processes that share the tokens.
    """
    if real is None:
        return features.mean(1)
    weights = real.to(features.dtype).unsqueeze(-1)
    return group.total((features * weights).sum(1)) / group.total(weights.sum(1))


def last_token(features: Tensor, real: Tensor | None) -> Tensor:
    """Return the last real token of each sample, (B,E).

    Args:
        features: Token features (B,K,E).
        real: Mask (B,K) of the tokens that count, padding last; None for all.

    >>> last_token(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[True, False]])).item()
    1.0
    """
    if real is None:
        return features[:, -1]
    rows = torch.arange(features.shape[0], device=features.device)
    return features[rows, real.sum(1) - 1]


def start_small(head: nn.Module) -> None:
    """Draw the weights of all products and convolutions from N(0, 0.02) and set biases to 0.

    Args:
        head: Changed in place.
    """
    for part in head.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d)):
            nn.init.normal_(part.weight, std=_INIT_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
