"""Builders of the tumour room: a run's configuration and its data in, a module out.

Every module takes volumes (B,C,D,H,W) with the data's channels, of any size, and gives logits
(B,K,D,H,W).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.systems.brats.config import (
    BranchNetConfig,
    MobileUnetr2dConfig,
    MobileUnetrConfig,
    SwinUnetrConfig,
    UnetrConfig,
)


def build(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build a multi-branch U-net.

    Args:
        config: The run's configuration; `config.model` is a `BranchNetConfig`.
        info: What the data tell: `modalities` in channel order, `n_classes` (4 when absent).

    Raises:
        UsageError: The data lack a modality that the network reads.
    """
    from neurocli.systems.brats.models.branchnet import BranchNet

    return BranchNet(cast(BranchNetConfig, config.model), info)
