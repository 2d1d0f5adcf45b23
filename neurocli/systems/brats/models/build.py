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


def build_unetr(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's UNETR; see `build`.

    Args:
        config: The run's configuration; `config.model` is a `UnetrConfig`.
        info: What the data tell.

    Raises:
        UsageError: The data lack a modality that the network reads.
    """
    from neurocli.systems.brats.models.monai_nets import Unetr

    return Unetr(cast(UnetrConfig, config.model), info)


def build_swin_unetr(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's Swin UNETR; see `build`.

    Args:
        config: The run's configuration; `config.model` is a `SwinUnetrConfig`.
        info: What the data tell.

    Raises:
        UsageError: The data lack a modality that the network reads.
    """
    from neurocli.systems.brats.models.monai_nets import SwinUnetr

    return SwinUnetr(cast(SwinUnetrConfig, config.model), info)


def build_mobile_unetr(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build the 2D MobileUNETR, which takes slices (B,C,H,W) as well; see `build`.

    Args:
        config: The run's configuration; `config.model` is a `MobileUnetr2dConfig`.
        info: What the data tell.

    Raises:
        UsageError: The data lack a modality that the network reads.
    """
    from neurocli.systems.brats.models.mobile_unetr import MobileUnetr2d

    return MobileUnetr2d(cast(MobileUnetr2dConfig, config.model), info)


def build_mobile_unetr_3d(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build the 3D MobileUNETR; see `build`.

    Args:
        config: The run's configuration; `config.model` is a `MobileUnetrConfig`.
        info: What the data tell.

    Raises:
        UsageError: The data lack a modality that the network reads.
    """
    from neurocli.systems.brats.models.mobile_unetr import MobileUnetr3d

    return MobileUnetr3d(cast(MobileUnetrConfig, config.model), info)
