"""Builders of the FMamba family: a run's configuration and its data in, a module out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FMambaHeadConfig,
    FmriDataBlock,
    clip_size,
)
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.heads import FMambaWithHead, build_head


def build(config: RunConfig, info: Mapping[str, Any]) -> FMamba:
    """Build an FMamba that predicts the next token.

    Args:
        config: The run's configuration; `config.model` is an `FMambaConfig`.
        info: What the data tell: `img_size` [H, W, D, T] and `scaling`.

    Raises:
        UsageError: The sizes do not fit together; what fits is named.
    """
    return _backbone(config, info, pretraining=True)


def build_with_head(config: RunConfig, info: Mapping[str, Any]) -> FMambaWithHead:
    """Build an FMamba with a head.

    Args:
        config: The run's configuration; `config.model` is an `FMambaHeadConfig`.
        info: What the data tell: `img_size`, `scaling` and `n_outputs` (2 when absent).

    Raises:
        UsageError: The sizes do not fit together; what fits is named.
    """
    model = cast(FMambaHeadConfig, config.model)
    head = build_head(model.head, model.embed_dim, int(info.get("n_outputs", 2)))
    return FMambaWithHead(_backbone(config, info, pretraining=False), head)


def _backbone(config: RunConfig, info: Mapping[str, Any], *, pretraining: bool) -> FMamba:
    model = cast(FMambaConfig, config.model)
    return FMamba(
        embed_dim=model.embed_dim,
        num_layers=model.depth,
        d_state=model.state_size,
        d_conv=model.d_conv,
        expand=model.expand,
        img_size=clip_size(cast(FmriDataBlock, config.data), info),
        patch_size=model.patch_size,
        pe_method=model.pe_method,
        calc_loss_without_background=model.token_mask != "none",
        input_scaling_method=str(info.get("scaling", "none")),
        token_mask=model.token_mask,
        pretraining=pretraining,
        chunk_size=model.chunk_size,
    )


def backbone_of(model: nn.Module) -> FMamba:
    """Return the backbone inside a model of this family."""
    return model.model if isinstance(model, FMambaWithHead) else cast(FMamba, model)
