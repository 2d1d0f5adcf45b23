"""Calls of the state-space-dual scan, and the token-by-token float64 loop they are held to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurocli.core.nn.ssd import ssd_scan


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want.detach() if isinstance(want, Tensor) else want)
    return float(np.abs(got.detach().numpy() - want).max() / max(np.abs(want).max(), 1e-30))


def slow_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """Step through h_t = exp(dt A) h_{t-1} + dt x B^T, y_t = h C in float64, head by head."""
    batch, length, n_heads, headdim = x.shape
    per_group = n_heads // B.shape[2]
    steps = dt.double()
    if options.get("dt_bias") is not None:
        steps = steps + options["dt_bias"].double()
    if options.get("dt_softplus"):
        steps = torch.log1p(torch.exp(-steps.abs())) + steps.clamp(min=0)
    steps = steps.clamp(*options.get("dt_limit", (0.0, math.inf)))
    seq_idx = options.get("seq_idx")
    y = torch.zeros(x.shape, dtype=torch.float64)
    final = torch.zeros(batch, n_heads, headdim, B.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(n_heads):
            state = torch.zeros(headdim, B.shape[3], dtype=torch.float64)
            if options.get("initial_states") is not None:
                state = options["initial_states"][b, h].double()
            for t in range(length):
                if seq_idx is not None and t and seq_idx[b, t] != seq_idx[b, t - 1]:
                    state = torch.zeros_like(state)
                step, group = steps[b, t, h], h // per_group
                added = torch.outer(x[b, t, h].double(), B[b, t, group].double()) * step
                state = torch.exp(step * A[h].double()) * state + added
                y[b, t, h] = state @ C[b, t, group].double()
            final[b, h] = state
    D = options.get("D")
    if D is not None:
        y = y + x.double() * (D if D.ndim == 2 else D.unsqueeze(-1)).double()
    if options.get("z") is not None:
        z = options["z"].double()
        y = y * z * torch.sigmoid(z)
    return y, final


def random_call(
    batch: int = 2, length: int = 23, heads: int = 4, headdim: int = 3, *, groups: int = 2,
    state: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:  # fmt: skip
    """Return inputs in the range that a Mamba-2 block makes."""
    gen = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64).to(dtype)

    return {
        "x": normal(batch, length, heads, headdim),
        "dt": normal(batch, length, heads),
        "A": -torch.rand(heads, generator=gen, dtype=torch.float64).mul(15).add(1).to(dtype),
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
        "D": normal(heads),
        "z": normal(batch, length, heads, headdim),
        "dt_bias": normal(heads) - 3,
        "initial_states": normal(batch, heads, headdim, state),
        "dt_softplus": True,
    }


def both(call: dict[str, Any], chunk_size: int = 8) -> tuple[Tensor, Tensor]:
    result = ssd_scan(**call, chunk_size=chunk_size, return_final_states=True)
    assert isinstance(result, tuple)
    return result
