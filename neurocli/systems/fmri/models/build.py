"""Builders of the FMamba family: a run's configuration and its data in, a module out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FMambaHeadConfig,
    FmriDataBlock,
    FmriTaskBlock,
    clip_size,
    objective_of,
)
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.heads import FMambaWithHead, build_head
from neurocli.systems.fmri.models.mup import apply_mup
from neurocli.systems.fmri.models.projection import FMambaWithProjection


def build(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build an FMamba for an objective without labels.

    Args:
        config: The run's configuration; `config.model` is an `FMambaConfig`.
        info: What the data tell: `img_size` [H, W, D, T], `scaling` and the `objective`, which is
            the configuration's when absent: ar; mim, which adds a mask token; or contrastive,
            which gives the backbone a projection instead of an output layer.

    Returns:
        An `FMamba`, or an `FMambaWithProjection` around one.

    Raises:
        UsageError: The sizes do not fit together, what fits is named; or the objective predicts
            tokens that the model has already seen.
    """
    model: nn.Module
    objective = objective_of(config, info)
    if objective == "contrastive":
        backbone = _backbone(config, info, pretraining=False)
        model = FMambaWithProjection(backbone, cast(FmriTaskBlock, config.task).projection_dim)
        apply_mup(model, cast(FMambaConfig, config.model))
        return model
    if objective == "ar" and cast(FMambaConfig, config.model).bidirectional:
        raise UsageError(
            "a model that reads both ways has seen the token that ar asks it to predict",
            where="model.bidirectional",
            hint="set it to false, or pretrain with mim or contrastive",
        )
    model = _backbone(config, info, pretraining=True, mask_token=objective == "mim")
    apply_mup(model, cast(FMambaConfig, config.model))
    return model


def build_with_head(config: RunConfig, info: Mapping[str, Any]) -> FMambaWithHead:
    """Build an FMamba with a head.

    Args:
        config: The run's configuration; `config.model` is an `FMambaHeadConfig`.
        info: What the data tell: `img_size`, `scaling` and `n_outputs` (2 when absent).

    Raises:
        UsageError: The sizes do not fit together; what fits is named.
    """
    model = cast(FMambaHeadConfig, config.model)
    n_outputs = int(info.get("n_outputs", 2))
    head = build_head(model.head, model.embed_dim, n_outputs, keep_dt_init=model.keep_dt_init)
    whole = FMambaWithHead(_backbone(config, info, pretraining=False), head)
    apply_mup(whole, model)
    return whole


def _backbone(
    config: RunConfig, info: Mapping[str, Any], *, pretraining: bool, mask_token: bool = False
) -> FMamba:
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
        bidirectional=model.bidirectional,
        mask_token=mask_token,
        pe_seed=model.pe_seed,
    )


def backbone_of(model: nn.Module) -> FMamba:
    """Return the FMamba inside a model of this room, whatever stands around it.

    Args:
        model: An FMamba, alone or with a head, a projection or a wrapper.

    Raises:
        UsageError: There is none.
    """
    for part in model.modules():
        if isinstance(part, FMamba):
            return part
    raise UsageError(
        f"a {type(model).__name__} holds no FMamba",
        where="model",
        hint="use a model of the fmamba family",
    )
