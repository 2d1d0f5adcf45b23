"""Heads that turn a backbone's token features into logits or values.

A head takes features (B,K,E) and, when samples keep different numbers of tokens, a mask (B,K) of
the real ones, padding last. What a head gives for a sample never depends on its batch: padding
enters no mean, no convolution and no state. Heads are found by name in `HEADS`.

Letters: B clips, K kept tokens, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from neurocli.core.errors import NeuroError
from neurocli.core.names import lookup
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup
from neurocli.core.nn.values import has_values
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.head_parts import mean_token, start_small
from neurocli.systems.fmri.models.head_sizes import (
    CONV_LAYERS,
    CONV_PADDING,
    CONV_STRIDE,
    CONV_TAPS,
    conv_length,
    shortest_conv_input,
)
from neurocli.systems.fmri.models.heads_mamba import MambaFinalNormHead, MambaHead
from neurocli.systems.fmri.models.shares import counted, whole_features


class ClassifierOutput(TypedDict):
    """What a backbone with a head returns: logits (B, n_outputs) and features (B,K,E)."""

    logits: Tensor
    features: Tensor


class MlpHead(nn.Module):
    """Average the tokens and map them linearly; weights start as N(0, 0.02), biases as 0.

    Args:
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.
    """

    def __init__(self, embed_dim: int, n_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(embed_dim, n_outputs)
        start_small(self)

    def forward(
        self, features: Tensor, real: Tensor | None = None, *, group: SequenceGroup = WHOLE
    ) -> Tensor:
        """Return outputs (B, n_outputs).

        Args:
            features: Token features (B,K,E).
            real: Mask (B,K) of the tokens that count; None for all.
            group: The processes that share the tokens.
        """
        return cast(Tensor, self.head(mean_token(features, real, group=group)))


class ConvHead(nn.Module):
    """Shorten the sequence with strided convolutions, average it, norm it and map it linearly.

    Four times [convolution of ten taps, stride 2; GELU]: one place of the last sees 146 tokens.
    Weights start as N(0, 0.02), biases as 0.

    Args:
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.
    """

    def __init__(self, embed_dim: int, n_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(CONV_LAYERS):
            conv = nn.Conv1d(embed_dim, embed_dim, CONV_TAPS, CONV_STRIDE, CONV_PADDING)
            layers += [conv, nn.GELU()]
        self.conv_blocks = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, n_outputs)
        start_small(self)

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Return outputs (B, n_outputs).

        Args:
            features: Token features (B,K,E).
            real: Mask (B,K) of the tokens that count, padding last; None for all.

        Raises:
            NeuroError: A sample has too few tokens to be convolved four times.
        """
        lengths = [features.shape[1]]
        if real is not None:
            whole = lengths * len(features)
            lengths = real.sum(1).tolist() if has_values(real) else whole
        _check_lengths(lengths)
        x = features.transpose(1, 2)
        for layer in self.conv_blocks:
            if isinstance(layer, nn.Conv1d):
                # Past a sample's end must stand the zeros it would be padded with if it were alone.
                x = x if real is None else x * _before(lengths, x[:1, 0]).unsqueeze(1)
                lengths = [conv_length(length) for length in lengths]
            x = layer(x)
        kept = None if real is None else _before(lengths, x[:1, 0])
        return cast(Tensor, self.head(self.norm(mean_token(x.transpose(1, 2), kept))))


def _check_lengths(lengths: Sequence[int]) -> None:
    needed, shortest = shortest_conv_input(), min(lengths)
    if shortest < needed:
        sample = f" of sample {lengths.index(shortest)}" if len(lengths) > 1 else ""
        raise NeuroError(
            f"the conv head got {shortest} tokens{sample}, it needs at least {needed}",
            where="model.head",
            hint="use smaller patches, a longer clip, or another head: mlp, mamba, mamba_fn",
        )


def _before(lengths: Sequence[int], row: Tensor) -> Tensor:
    """Return the mask (B,K) of the places before each sample's length, for rows like (1,K)."""
    places = torch.arange(row.shape[1], device=row.device)
    return places < torch.tensor(lengths, device=row.device).unsqueeze(1)


HEADS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MlpHead,
    "conv": ConvHead,
    "mamba": MambaHead,
    "mamba_fn": MambaFinalNormHead,
}


def build_head(
    name: str, embed_dim: int, n_outputs: int, *, keep_dt_init: bool = False
) -> nn.Module:
    """Return a new head.

    Args:
        name: A name of `HEADS`.
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.
        keep_dt_init: For mamba_fn: leave the step sizes as Mamba draws them. The others never
            change them or have none.

    Returns:
        The head, freshly initialised.

    Raises:
        UsageError: The name is unknown.

    >>> build_head("mlp", 8, 2).head.out_features
    2
    """
    head = lookup("head", name, HEADS)
    if head is MambaFinalNormHead:
        return head(embed_dim, n_outputs, keep_dt_init=keep_dt_init)
    return head(embed_dim, n_outputs)


class FMambaWithHead(nn.Module):
    """Put a head on a backbone. State-dict prefixes are `model.` and `output_head.`.

    These are the prefixes of the official downstream checkpoints.

    Args:
        backbone: An FMamba; its output layer, if any, is not used.
        head: A module that maps features (B,K,E) and a mask of real tokens to (B, n_outputs).
    """

    def __init__(self, backbone: FMamba, head: nn.Module) -> None:
        super().__init__()
        self.model = backbone
        self.output_head = head

    def forward(self, x: Tensor, brain: Tensor | None = None) -> ClassifierOutput:
        """Return the head's outputs for a batch of clips.

        Args:
            x: What the backbone takes: scaled clips (B,C,H,W,D,T) or ready patches.
            brain: The masks that belong to them, or None.

        Returns:
            `logits` (B, n_outputs) and `features` (B,K,E).

        Raises:
            NeuroError: The clip does not fit the backbone, or leaves the head too few tokens.
        """
        output, group = self.model(x, brain), self.model.sequence
        features = output["features"]
        if isinstance(self.output_head, MlpHead):
            logits = self.output_head(features, counted(output, group), group=group)
        else:
            # Other heads mix tokens, so every process reads the features of all.
            logits = self.output_head(*whole_features(output, group))
        return ClassifierOutput(logits=logits, features=features)
