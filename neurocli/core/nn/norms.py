"""Root-mean-square norms, computed in float32 or wider whatever the input.

v * rsqrt(mean(v^2) + eps) * weight (Zhang and Sennrich 2019, arXiv 1910.07467). Reduced precision
loses the mean of squares first, so it is never used inside a norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.shapes import expect_shape


class RMSNorm(nn.Module):
    """Scale the last axis to unit root mean square, then by a learned weight.

    Args:
        size: Length F of the last axis.
        eps: Added to the mean of squares.
    """

    def __init__(self, size: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x (..., F) in its own dtype."""
        return (_unit_rms(_widened(x), self.eps) * self.weight).to(x.dtype)


class RMSNormGated(nn.Module):
    """Norm in groups and multiply by SiLU of a gate, as the Mamba-2 block does before its exit.

    Args:
        size: Length F of the last axis.
        eps: Added to the mean of squares.
        group_size: Values that share one mean of squares; None for all F.
        norm_before_gate: norm(x) * SiLU(z) when true, norm(x * SiLU(z)) when false.

    Raises:
        UsageError: `group_size` does not divide `size`.
    """

    def __init__(
        self,
        size: int,
        *,
        eps: float = 1e-5,
        group_size: int | None = None,
        norm_before_gate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.group_size = size if group_size is None else group_size
        self.norm_before_gate = norm_before_gate
        if self.group_size < 1 or size % self.group_size:
            raise UsageError(f"group_size {group_size} does not divide the norm's size {size}")

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Return the gated norm.

        Args:
            x: Values (..., F).
            z: Gate like x; None for no gate.

        Returns:
            Values (..., F) in the dtype of x.

        Raises:
            ShapeError: z is not shaped like x.
        """
        values = _widened(x)
        gate = None
        if z is not None:
            sizes = {f"axis {i}": size for i, size in enumerate(x.shape)}
            expect_shape("z", z, sizes, f"x {tuple(x.shape)}")
            gate = F.silu(z.to(values.dtype))
        if gate is not None and not self.norm_before_gate:
            values = values * gate
        grouped = torch.unflatten(values, -1, (-1, self.group_size))
        values = _unit_rms(grouped, self.eps).flatten(-2) * self.weight
        if gate is not None and self.norm_before_gate:
            values = values * gate
        return values.to(x.dtype)


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _unit_rms(values: Tensor, eps: float) -> Tensor:
    return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + eps)
