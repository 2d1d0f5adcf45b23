"""Encoders of short windows of neural traces, one input layer per session and a trunk.

The layers are those of the published family: a first layer over the neurons, residual
convolutions of three frames that are cropped and never padded, and an output layer; exact GELU,
unit length at the end for cosine similarity. Inside, frames come first in memory, so that all
products are plain matrix products, which the CPU does faster than short convolutions.

Letters: B windows, L frames of a window, N neurons, H width, D outputs, T frames of a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.systems.calcium.config import FIELDS, LAST_TAPS, N_SKIPS
from neurocli.systems.calcium.models.products import convolved


class Trunk(nn.Module):
    """Map the first layer's output to embeddings.

    Args:
        encoder: Key of `FIELDS`.
        hidden: H.
        outputs: D.
    """

    def __init__(self, encoder: str, hidden: int, outputs: int) -> None:
        super().__init__()
        self.is_framewise = encoder == "offset1"
        if self.is_framewise:
            half = hidden // 2
            self.skips = nn.ModuleList([nn.Linear(hidden, hidden), nn.Linear(hidden, half)])
            self.out: nn.Module = nn.Linear(half, outputs)
        else:
            self.skips = nn.ModuleList(
                nn.Conv1d(hidden, hidden, 3) for _ in range(N_SKIPS[encoder])
            )
            self.out = nn.Conv1d(hidden, outputs, LAST_TAPS[encoder])

    def forward(self, x: Tensor) -> Tensor:
        """Return (L', B, D) for the first layer's output (L, B, H), before its GELU.

        Args:
            x: Output of an input layer.
        """
        x = F.gelu(x)
        if self.is_framewise:
            for layer in self.skips:
                x = F.gelu(layer(x))
            return cast(Tensor, self.out(x))
        for layer in self.skips:
            x = convolved(x, *_weights(layer), is_residual=True)
        return convolved(x, *_weights(self.out))


class SessionEncoders(nn.Module):
    """Embed windows of one or several sessions.

    Args:
        n_neurons: N of each session.
        encoder: Key of `FIELDS`.
        hidden: H.
        outputs: D.
        is_shared: Whether sessions share the trunk.
        is_normalised: Whether embeddings have unit length.
        temperature: Start of a learned temperature; None learns none.
    """

    # `--freeze` adapts a trained trunk to new sessions: only the input layers learn.
    head_prefixes = ("inputs.",)

    def __init__(
        self,
        n_neurons: Sequence[int],
        *,
        encoder: str,
        hidden: int,
        outputs: int,
        is_shared: bool = True,
        is_normalised: bool = True,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.field = FIELDS[encoder]
        self.is_shared, self.is_normalised = is_shared, is_normalised
        self.inputs = nn.ModuleList(
            nn.Linear(n, hidden) if encoder == "offset1" else nn.Conv1d(n, hidden, 2)
            for n in n_neurons
        )
        n_trunks = 1 if is_shared else len(n_neurons)
        self.trunks = nn.ModuleList(Trunk(encoder, hidden, outputs) for _ in range(n_trunks))
        self.log_scale = (
            nn.Parameter(torch.tensor(-math.log(temperature))) if temperature is not None else None
        )

    def forward(
        self, windows: Tensor, session: int = 0, scale: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return embeddings (B, D) of windows (B, L, N).

        Args:
            windows: L is the receptive field.
            session: Which session's input layer.
            scale: As of `along`.
        """
        return self.along(windows, session, scale)[:, 0]

    def along(
        self, rows: Tensor, session: int = 0, scale: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return embeddings (B, T-L+1, D) of every window of recordings (B, T, N).

        Args:
            rows: Traces; a view of memory that holds all windows' first frames, then their second
                ones and so on, is not copied.
            session: Which session's input layer.
            scale: Factor and shift (N,) of raw traces; None when they are scaled already. They go
                into the first layer's weights, which is far less work than scaling all frames.
        """
        weight, bias = _weights(self.inputs[session])
        if scale is not None:
            factor, shift = scale
            wide = (1, -1, *(1 for _ in weight.shape[2:]))
            bias = bias + (weight * shift.view(wide)).flatten(1).sum(1)
            weight = weight * factor.view(wide)
        frames = rows.transpose(0, 1)
        if weight.ndim == 2:
            first = F.linear(frames, weight, bias)
        else:
            first = convolved(frames, weight, bias)
        found: Tensor = self.trunks[0 if self.is_shared else session](first).transpose(0, 1)
        return F.normalize(found, dim=-1) if self.is_normalised else found


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return cast(Tensor, layer.weight), cast(Tensor, layer.bias)
