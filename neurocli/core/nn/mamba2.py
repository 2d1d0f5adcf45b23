"""The Mamba-2 block in plain torch, with the official parameter names, shapes and start values.

Dao and Gu 2024 (arXiv 2405.21060): one projection to gate z, convolved xBC and step sizes dt; a
short causal convolution; the state-space-dual scan; a gated norm; a projection out. dt, A, the
scan's state and the norm are float32 or wider under autocast. A state dict of the official block
loads here and one of this block loads there.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import MissingDependencyError, UsageError
from neurocli.core.names import lookup
from neurocli.core.nn.causal_conv import causal_conv
from neurocli.core.nn.mamba2_fused import fused_block
from neurocli.core.nn.mamba2_parts import Layout, Weights, empty_carry
from neurocli.core.nn.mamba2_stream import stream_block
from neurocli.core.nn.norms import RMSNorm, RMSNormGated
from neurocli.core.nn.precision import full_precision, product_dtype
from neurocli.core.nn.sequence_parallel import Border
from neurocli.core.nn.shapes import expect_shape
from neurocli.core.nn.sizes import HEAD_SIZES, head_size
from neurocli.core.nn.ssd import segment_ids, ssd_scan

__all__ = ["BACKENDS", "Mamba2", "RMSNorm", "RMSNormGated", "fast_scan_available", "head_size"]

BACKENDS = {
    "auto": "mamba-ssm where it can run, else torch",
    "torch": "plain torch, any device",
    "mamba-ssm": "fused kernels, CUDA only",
}
_A_RANGE = (1.0, 16.0)
_DT_RANGE = (1e-3, 1e-1)
_DT_FLOOR = 1e-4

_log = logging.getLogger(__name__)


def fast_scan_available(device: torch.device | str) -> bool:
    """Say whether mamba-ssm's fused scan can run on a device: CUDA and a package that loads.

    Args:
        device: Where the tensors are.

    Returns:
        True when it can run.

    >>> fast_scan_available("cpu")
    False
    """
    return torch.device(device).type == "cuda" and _fused_scan() is not None


class Mamba2(nn.Module):
    """Mix tokens along a sequence with the Mamba-2 block.

    `scan_backend` tells what the last forward pass used: "torch", "mamba-ssm", or None before it.

    Args:
        d_model: Width E of the tokens.
        d_state: State size N.
        d_conv: Taps of the causal convolution.
        expand: Inner width over E.
        headdim: Head size P; must divide expand * E.
        ngroups: Groups G that share B and C; must divide the number of heads.
        norm_before_gate: Order inside the gated norm.
        chunk_size: Chunk of the scan; the result does not depend on it. 64 is fastest on a CPU,
            256 suits the fused kernel.
        D_has_hdim: One skip weight per channel instead of per head.
        dt_limit: Range that step sizes are clamped to.
        backend: "torch", "mamba-ssm" (fused, CUDA only) or "auto": fused where it can run.

    Raises:
        UsageError: The sizes do not fit together; good ones are named.
    """

    def __init__(  # the published signature, kept whole
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        norm_before_gate: bool = False,
        chunk_size: int = 256,
        *,
        D_has_hdim: bool = False,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        backend: str = "auto",
    ) -> None:
        super().__init__()
        sizes = {"d_model": d_model, "d_state": d_state, "d_conv": d_conv, "expand": expand}
        _check_sizes(sizes | {"headdim": headdim, "ngroups": ngroups, "chunk_size": chunk_size})
        lookup("scan backend", backend, BACKENDS)
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.headdim, self.ngroups, self.chunk_size = headdim, ngroups, chunk_size
        self.d_inner = expand * d_model
        self.nheads = self.d_inner // headdim
        self.dt_limit, self.backend = dt_limit, backend
        self.scan_backend: str | None = None

        channels = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + channels + self.nheads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(initial_dt_bias(self.nheads))
        self.A_log = nn.Parameter(torch.empty(self.nheads).uniform_(*_A_RANGE).log())
        self.D = nn.Parameter(torch.ones(self.d_inner if D_has_hdim else self.nheads))
        self.norm = RMSNormGated(
            self.d_inner, group_size=self.d_inner // ngroups, norm_before_gate=norm_before_gate
        )
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        for parameter in (self.dt_bias, self.A_log, self.D):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]

    def forward(
        self, u: Tensor, seq_idx: Tensor | None = None, border: Border | None = None
    ) -> Tensor:
        """Mix whole sequences, or this rank's share of them.

        Args:
            u: Tokens (b,L,E).
            seq_idx: Segment of each token (b,L), integer: neither the convolution nor the state
                crosses a place where it changes. None for one segment per row.
            border: Where the share meets those of other ranks; the scan is then torch's, whatever
                the backend. None for whole sequences.

        Returns:
            Tokens (b,L,E).

        Raises:
            ShapeError: u or seq_idx does not fit.
            MissingDependencyError: The fused scan was asked for and cannot run here.
        """
        expect_shape("u", u, {"batch": None, "length": None, "d_model": self.d_model}, "the block")
        segments = None
        if seq_idx is not None:
            sizes = dict(zip(("batch", "length"), u.shape[:2], strict=True))
            expect_shape("seq_idx", seq_idx, sizes, f"u {tuple(u.shape)}")
            segments = segment_ids(seq_idx if border is None else border.with_before(seq_idx))
        if border is not None or self._choose_scan(u) is ssd_scan:
            self.scan_backend = "torch"
            return self._forward_fused(u, segments, border)
        z, xBC, dt = self._project(u)
        taps = self.conv1d.weight.squeeze(1)
        xBC = causal_conv(xBC, taps, self.conv1d.bias, segments=segments)
        y, _ = self._scan(F.silu(xBC), dt, seq_idx=segments)
        return cast(Tensor, self.out_proj(self.norm(y, z)))

    def _forward_fused(self, u: Tensor, segments: Tensor | None, border: Border | None) -> Tensor:
        """Mix whole sequences in plain torch, block by block."""
        layout = Layout(
            d_inner=self.d_inner,
            headdim=self.headdim,
            groups=self.ngroups,
            state=self.d_state,
            taps=self.d_conv,
            norm_group=self.norm.group_size,
            norm_eps=self.norm.eps,
            norm_before_gate=self.norm.norm_before_gate,
            dt_limit=self.dt_limit,
            chunk_size=self.chunk_size,
        )
        weights, dtype = self._inner_weights(), product_dtype(u)
        projections = (self.in_proj.weight.to(dtype), self.out_proj.weight)
        mix, carry = fused_block if torch.is_grad_enabled() else stream_block, None
        with full_precision(u.device):  # dtypes are chosen here, not by autocast
            u = u.to(dtype)
            if border is not None:
                u, carry = border.receive(u, empty_carry(u, weights, layout))
            mixed, left = mix(u, projections, weights, layout, segments, carry)
            return mixed if border is None else border.send(mixed, left)

    def _inner_weights(self) -> Weights:
        dtype = _widened(self.A_log.dtype)
        return Weights(
            taps=self.conv1d.weight.squeeze(1).to(dtype).t().contiguous(),
            conv_bias=cast(Tensor, self.conv1d.bias).to(dtype),
            dt_bias=self.dt_bias.to(dtype),
            A=-self.A_log.to(dtype).exp(),
            D=self.D.to(dtype).view(self.nheads, -1).expand(-1, self.headdim).flatten(),
            norm=self.norm.weight.to(dtype),
        )

    def allocate_states(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return zeroed states for `step`.

        Args:
            batch: Sequences b that are decoded together.

        Returns:
            conv_state (b, channels, d_conv) in the dtype of the weights, and ssm_state (b,H,P,N)
            in float32 or wider.
        """
        weight = self.conv1d.weight
        shape = (batch, self.nheads, self.headdim, self.d_state)
        conv_state = weight.new_zeros(batch, weight.shape[0], self.d_conv)
        return conv_state, weight.new_zeros(shape, dtype=_widened(weight.dtype))

    def step(
        self, u: Tensor, conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix one more token in constant memory, as `forward` would at its place.

        Args:
            u: The token (b,1,E).
            conv_state: Last inputs of the convolution (b, channels, d_conv); updated in place.
            ssm_state: The scan's state (b,H,P,N); updated in place.

        Returns:
            The mixed token (b,1,E) and both states.

        Raises:
            ShapeError: An argument does not fit the block.
        """
        expect_shape("u", u, {"batch": None, "token": 1, "d_model": self.d_model}, "the block")
        batch, fits = u.shape[0], f"u {tuple(u.shape)}"
        sizes: dict[str, int | None] = {"batch": batch, "channels": self.conv1d.out_channels}
        expect_shape("conv_state", conv_state, sizes | {"taps": self.d_conv}, fits)
        sizes = {"batch": batch, "heads": self.nheads, "headdim": self.headdim}
        expect_shape("ssm_state", ssm_state, sizes | {"state": self.d_state}, fits)
        z, xBC, dt = self._project(u)
        conv_state.copy_(torch.cat([conv_state[:, :, 1:], xBC.transpose(1, 2)], 2))
        taps, bias = self.conv1d.weight.squeeze(1), cast(Tensor, self.conv1d.bias)
        mixed = (conv_state.to(_widened(taps.dtype)) * taps).sum(-1) + bias
        y, states = self._scan(F.silu(mixed).to(u.dtype).unsqueeze(1), dt, initial_states=ssm_state)
        ssm_state.copy_(states)
        return self.out_proj(self.norm(y, z)), conv_state, ssm_state

    def _project(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gate z, the convolution's input xBC and the raw step sizes dt."""
        sizes = [self.d_inner, self.conv1d.out_channels, self.nheads]
        z, xBC, dt = torch.split(self.in_proj(u), sizes, -1)
        return z, xBC, dt

    def _scan(self, xBC: Tensor, dt: Tensor, **options: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scan convolved tokens: y (b,L,d_inner) and the last states."""
        grouped = self.ngroups * self.d_state
        x, B, C = torch.split(xBC, [self.d_inner, grouped, grouped], -1)
        scan = self._choose_scan(xBC)
        y, states = scan(
            torch.unflatten(x, -1, (self.nheads, self.headdim)),
            dt,
            -self.A_log.to(_widened(self.A_log.dtype)).exp(),
            torch.unflatten(B, -1, (self.ngroups, self.d_state)),
            torch.unflatten(C, -1, (self.ngroups, self.d_state)),
            self.chunk_size,
            D=self.D if self.D.numel() == self.nheads else self.D.view(self.nheads, -1),
            dt_bias=self.dt_bias,
            dt_softplus=True,
            dt_limit=self.dt_limit,
            return_final_states=True,
            **options,
        )
        return y.flatten(2), states

    def _choose_scan(self, tokens: Tensor) -> Callable[..., Any]:
        fused = _fused_scan() if self.backend != "torch" and tokens.is_cuda else None
        if fused is not None and tokens.dtype != torch.float64:
            self.scan_backend = "mamba-ssm"
            return fused
        if self.backend == "mamba-ssm":
            raise MissingDependencyError(
                f"mamba-ssm cannot scan {tokens.dtype} tensors on {tokens.device} here",
                hint="install neurocli[mamba] on a CUDA machine, or set the backend to auto",
            )
        self.scan_backend = "torch"
        return ssd_scan


@functools.cache
def _fused_scan() -> Callable[..., Any] | None:
    """Return mamba-ssm's scan, or None where it is absent or broken; the choice is logged once."""
    if find_spec("mamba_ssm") is None:
        return None
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except (ImportError, OSError) as error:  # built for another torch or CUDA
        _log.warning("mamba-ssm is installed but does not load (%s); the scan runs in torch", error)
        return None
    _log.info("Mamba-2 scans on CUDA run in mamba-ssm; backend torch turns this off")
    return cast(Callable[..., Any], mamba_chunk_scan_combined)


def initial_dt_bias(n_heads: int) -> Tensor:
    """Draw step sizes log-uniformly and return the bias (n_heads,) whose softplus gives them."""
    low, high = (math.log(bound) for bound in _DT_RANGE)
    dt = torch.empty(n_heads).uniform_(low, high).exp().clamp(min=_DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))


def _widened(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _check_sizes(sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UsageError(f"{name} is {size}, expected at least 1", where=name)
    d_model, expand, headdim = sizes["d_model"], sizes["expand"], sizes["headdim"]
    n_heads, left = divmod(expand * d_model, headdim)
    if left:
        step = headdim // math.gcd(headdim, expand)
        low = d_model // step * step
        widths = ", ".join(str(width) for width in (low, low + step) if width)
        heads = ", ".join(str(size) for size in HEAD_SIZES if expand * d_model % size == 0)
        raise UsageError(
            f"headdim {headdim} does not divide expand * d_model = {expand * d_model}",
            where="d_model",
            hint=f"d_model that fit: {widths}" + (f"; headdim that fit: {heads}" if heads else ""),
        )
    if n_heads % sizes["ngroups"]:
        fits = [str(n) for n in range(1, n_heads + 1) if n_heads % n == 0]
        raise UsageError(
            f"ngroups {sizes['ngroups']} does not divide the {n_heads} heads",
            where="ngroups",
            hint=f"ngroups that fit: {', '.join(fits)}",
        )
