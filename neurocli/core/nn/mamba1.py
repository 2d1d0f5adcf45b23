"""The Mamba-1 block in plain torch, with the official parameter names, shapes and start values.

Gu and Dao 2023 (arXiv 2312.00752): a projection to x and a gate z; a short causal convolution of
x; step sizes and input and output maps that depend on x; the selective scan; the gate; a
projection out. Two heads of FMamba are made of it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.causal_conv import causal_conv
from neurocli.core.nn.mamba2 import initial_dt_bias
from neurocli.core.nn.selective_scan import selective_scan
from neurocli.core.nn.shapes import expect_shape
from neurocli.core.nn.sizes import dt_rank


class Mamba1(nn.Module):
    """Mix tokens along a sequence with the Mamba-1 block.

    Args:
        d_model: Width E of the tokens.
        d_state: States N per channel.
        d_conv: Taps of the causal convolution.
        expand: Inner width over E.

    Raises:
        UsageError: A size is below 1.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand}
        for name, size in sizes.items():
            if size < 1:
                raise UsageError(f"{name} is {size}, expected at least 1", where=name)
        inner, rank = expand * d_model, dt_rank(d_model)
        self.d_model, self.d_state, self.dt_rank = d_model, d_state, rank
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(initial_dt_bias(inner))
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(inner, 1)
        self.A_log = nn.Parameter(rates)
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        for parameter in (self.A_log, self.D, self.dt_proj.bias):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]

    def forward(self, u: Tensor) -> Tensor:
        """Mix whole sequences.

        Args:
            u: Tokens (b,L,E).

        Returns:
            Tokens (b,L,E).

        Raises:
            ShapeError: u does not fit.
        """
        expect_shape("u", u, {"batch": None, "length": None, "d_model": self.d_model}, "the block")
        x, z = self.in_proj(u).chunk(2, -1)
        x = F.silu(causal_conv(x, self.conv1d.weight.squeeze(1), self.conv1d.bias))
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], -1)
        # In float32 or wider from here on, whatever autocast says.
        wide = torch.promote_types(self.A_log.dtype, torch.float32)
        bias = self.dt_proj.bias.to(wide)
        steps = F.softplus(F.linear(dt, self.dt_proj.weight).to(wide) + bias)
        y, _ = selective_scan(x, steps, -self.A_log.to(wide).exp(), B, C)
        y = (y + self.D * x) * F.silu(z)
        return cast(Tensor, self.out_proj(y.to(u.dtype)))
