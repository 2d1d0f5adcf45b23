"""Several networks as one: the mean of what they give for the same input.

A sliding window sees one network, so the members of an ensemble share its slab: a volume is read
once and the logits of no member are ever held whole. Blending is a weighted sum, so the mean of a
window is, up to rounding, what averaging the blended volumes of the members gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from neurocli.core.errors import UsageError

Averaged = Literal["logits", "probabilities"]


class MeanOutput(nn.Module):
    """Give the mean output of several networks.

    Args:
        members: Networks that take the same input and give (B, K, ...), or a list whose first is
            that.
        of: Average logits as they are, or the probabilities that softmax makes of them; with the
            latter, the output is probabilities.

    Raises:
        UsageError: There is no network.
    """

    def __init__(self, members: Sequence[nn.Module], of: Averaged = "logits") -> None:
        super().__init__()
        if not members:
            raise UsageError("an ensemble needs members")
        self.members = nn.ModuleList(members)
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over the members, (B, K, ...) float32."""
        total: Tensor | None = None
        is_own = False
        for member in self.members:
            output = member(x)
            found = cast(Tensor, output[0] if isinstance(output, (list, tuple)) else output)
            found = found.float()
            found = found.softmax(1) if self.of == "probabilities" else found
            if total is None:
                total = found
            elif torch.is_grad_enabled() or not is_own:
                total, is_own = total + found, True  # the first output is its member's
            else:
                total.add_(found)  # one more window's output would be held otherwise
        assert total is not None  # there is a member
        return total / len(self.members)
