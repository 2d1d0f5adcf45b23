"""Root-mean-square norms, computed in float32 or wider whatever the input.

v * rsqrt(mean(v^2) + eps) * weight (Zhang and Sennrich 2019, arXiv 1910.07467). Reduced precision
loses the mean of squares first, so it is never used inside a norm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurocli.core.errors import UsageError
from neurocli.core.nn.shapes import expect_shape

_CACHED = 1 << 17  # values of a part: half a megabyte in float32


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
        wide = _widened(x)
        weight = self.weight.to(wide.dtype)
        normed: Tensor = _RmsNorm.apply(wide, weight, self.eps)  # type: ignore[no-untyped-call]
        return normed.to(x.dtype)


class _RmsNorm(torch.autograd.Function):
    """Norm rows a few at a time, so that they are read from memory once each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        inverse = x.new_empty(rows.shape[0], 1)
        for part in _parts(rows):
            here = rows[part]
            squares = torch.linalg.vector_norm(here, dim=-1, keepdim=True).square_()
            inverse[part] = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
            torch.mul(here, inverse[part], out=out[part]).mul_(weight)
        ctx.save_for_backward(x, weight, inverse)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        rows, d_rows = x.reshape(-1, x.shape[-1]), d_out.reshape(-1, x.shape[-1])
        d_x, d_weight = torch.empty_like(rows), torch.zeros_like(weight)
        for part in _parts(rows):
            unit = rows[part] * inverse[part]
            scratch = d_rows[part] * unit
            d_weight += scratch.sum(0)
            mean = scratch.mul_(weight).mean(-1, keepdim=True)
            torch.mul(d_rows[part], weight, out=d_x[part])
            d_x[part].addcmul_(unit, mean, value=-1).mul_(inverse[part])
        return d_x.view(x.shape), d_weight, None


def _parts(rows: Tensor) -> list[slice]:
    """Cut rows (n,F) where a part of them stays in a CPU's cache; not at all elsewhere."""
    n_rows, size = rows.shape
    step = max(_CACHED // size, 1) if rows.device.type == "cpu" else max(n_rows, 1)
    return [slice(start, start + step) for start in range(0, n_rows, step)]


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
