"""Heads that turn a backbone's token features into logits or values.

A head takes features (B,K,E) and, when samples keep different numbers of tokens, a mask (B,K) of
the real ones. Heads are found by name in `HEADS`; those named in `PLANNED_HEADS` are not built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict, cast

from torch import Tensor, nn

from neurocli.core.errors import NotBuiltYetError
from neurocli.core.names import lookup
from neurocli.systems.fmri.models.fmamba import FMamba

_INIT_STD = 0.02


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
        nn.init.normal_(self.head.weight, std=_INIT_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Return outputs (B, n_outputs).

        Args:
            features: Token features (B,K,E).
            real: Mask (B,K) of the tokens that count; None for all.
        """
        if real is None:
            pooled = features.mean(1)
        else:
            weights = real.to(features.dtype).unsqueeze(-1)
            pooled = (features * weights).sum(1) / weights.sum(1)
        return cast(Tensor, self.head(pooled))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"mlp": MlpHead}
PLANNED_HEADS = ("conv", "mamba", "mamba_fn")


def build_head(name: str, embed_dim: int, n_outputs: int) -> nn.Module:
    """Return a new head.

    Args:
        name: A name of `HEADS`.
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.

    Returns:
        The head, freshly initialised.

    Raises:
        NotBuiltYetError: The head is planned but not in this version.
        UsageError: The name is unknown.

    >>> build_head("mlp", 8, 2).head.out_features
    2
    """
    if name in PLANNED_HEADS:
        raise NotBuiltYetError(
            f"the '{name}' head is not in this version", hint=f"heads: {', '.join(HEADS)}"
        )
    return lookup("head", name, HEADS)(embed_dim, n_outputs)


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
            x: Scaled clips (B,C,H,W,D,T).
            brain: Voxel masks (B,H,W,D), bool, or None.

        Returns:
            `logits` (B, n_outputs) and `features` (B,K,E).

        Raises:
            NeuroError: The clip does not fit the backbone.
        """
        output = self.model(x, brain)
        index = output["token_index"]
        real = index >= 0 if index.ndim == 2 else None
        features = output["features"]
        return ClassifierOutput(logits=self.output_head(features, real), features=features)
