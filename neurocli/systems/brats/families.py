"""The 85 networks as rows: what each family changes on the axes of its config class, and its sizes.

A family with sizes is expanded to one name for each, the width of a branch's stem doubling from
one to the next. Channels are those of three plans: "a" fuses after stage 3, "b" after stage 4, "c"
after stage 3 of four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neurocli.core.catalog import ModelCard

_ROOM = "neurocli.systems.brats"
_TASKS = ("segmentation",)
WIDTHS: Mapping[str, int] = {"xs": 8, "s": 16, "m": 32, "l": 64}
"""Channels of one branch's stem; a network with one branch has twice as many."""

_PLAN_A = {"branch_stages": 2, "fused_widths": (8, 16), "decoder": (8, 4, 1, 1)}
_PLAN_B = {"branch_stages": 3, "fused_widths": (16,), "decoder": (4, 2, 1, 1)}
_PLAN_C = {"branch_stages": 2, "fused_widths": (8,), "decoder": (2, 1, 1)}
_ONE = {
    "branches": "one",
    "modalities": ("t1ce", "flair"),
    "branch_stages": 4,
    "fused_widths": (),
    "decoder": (8, 4, 2, 1),
}
_ALL = ("t1", "t1ce", "t2", "flair")
_QUAD = {
    **_PLAN_A,
    "modalities": _ALL,
    "width": 8,
    "encoder": ("conv",),
    "fused": "conv",
    "decoder": (8, 4, 2, 1),
}
_MOBILE = {
    "stem": "mobilenetv2*2@16",
    "encoder": ("mobilenetv2*2@8/mobilenetv2*6@2", "mobilenetv2*2@2/mobilenetv2*6@2"),
    "fused": "mobilenetv2@16~1.2.5",
    "decoder_attention": (2, 8, 2),
}


@dataclass(frozen=True)
class Family:
    """Describe one family of names.

    Args:
        name: The name, without its size.
        summary: One line.
        defaults: Values over the defaults of the config class.
        sizes: Sizes it comes in; empty for a single name.
        build: Function of `models.build`.
        config: Class of `config`.
        alias: Name of a family that is the same network.
        by_size: Values that only some sizes have.
    """

    name: str
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[str, ...] = tuple(WIDTHS)
    build: str = "build"
    config: str = "BranchNetConfig"
    alias: str | None = None
    by_size: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _dual(name: str, summary: str, plan: Mapping[str, Any], **axes: Any) -> Family:
    return Family(f"dualbranch_{name}", summary, {**plan, **axes})


def _light(name: str, what: str, *, stem: str, block: str, **axes: Any) -> Family:
    """Return a network whose two branches are made of one light block up to stage 4."""
    axes = {"stem": stem, "encoder": (block,), "fused": "mobilevit", **axes}
    return _dual(f"14_{name}", f"two branches of {what}, MobileViT at the bottom", _PLAN_B, **axes)


_SMOOTH = {size: {"act": "hardswish" if size in ("xs", "s") else "gelu"} for size in WIDTHS}

FAMILIES: tuple[Family, ...] = (
    Family("unet3d", "U-net, halved by maxima", {**_ONE, "encoder": ("conv",)}),
    Family("unet3d_stride", "U-net, halved by strides", {**_ONE, "encoder": ("stride",)}),
    Family(
        "unetr",
        "vision transformer with a convolutional decoder (MONAI)",
        sizes=(),
        build="build_unetr",
        config="UnetrConfig",
    ),
    Family(
        "swin_unetr",
        "attention in shifted windows with a convolutional decoder (MONAI)",
        sizes=(),
        build="build_swin_unetr",
        config="SwinUnetrConfig",
    ),
    Family(
        "mobile_unetr",
        "MobileViT U-net over slices, 2D",
        sizes=(),
        build="build_mobile_unetr",
        config="MobileUnetr2dConfig",
    ),
    Family(
        "mobile_unetr_3d",
        "MobileViT U-net over volumes",
        sizes=(),
        build="build_mobile_unetr_3d",
        config="MobileUnetrConfig",
    ),
    _dual("01_unet", "two branches, halved by maxima", _PLAN_A, encoder=("conv",), fused="conv"),
    _dual("02_unet", "two branches, halved by strides", _PLAN_A),
    _dual("03_unet", "dilated on FLAIR, strides on T1ce", _PLAN_A, encoder=("dilated", "stride")),
    _dual(
        "04_unet",
        "13^3 kernels on FLAIR, feed-forward x4, strides on T1ce",
        _PLAN_A,
        encoder=("replk", "stride"),
        ffn_ratio=4,
    ),
    _dual(
        "05_unet",
        "13^3 kernels on FLAIR, feed-forward x2, strides on T1ce",
        _PLAN_A,
        encoder=("replk", "stride"),
    ),
    _dual(
        "06_unet",
        "as 05, MobileViT at stages 4 and 5",
        _PLAN_A,
        encoder=("replk", "stride"),
        fused="mobilevit",
    ),
    _dual(
        "07_unet",
        "as 05, two branches up to stage 4, MobileViT at stage 5",
        _PLAN_B,
        encoder=("replk", "stride"),
        fused="mobilevit",
    ),
    Family(
        "dualbranch_mobilenetv2_dilated",
        "inverted residuals with channel attention, dilated at the bottom",
        {**_PLAN_C, **_MOBILE},
        by_size=_SMOOTH,
    ),
    Family(
        "dualbranch_mobilenetv2_dilated_fixed",
        "the same with a decoder of one width",
        {**_PLAN_C, **_MOBILE, "fused_widths": (4,), "decoder": (2, 2, 2), "skip_width": 2},
        by_size=_SMOOTH,
    ),
    _dual(
        "13_unet",
        "inverted residuals; MobileViT at stages 3 and 4 of FLAIR and at the bottom",
        _PLAN_B,
        stem="mobilenetv2",
        encoder=("mobilenetv2/mobilevit/mobilevit", "mobilenetv2"),
        fused="mobilevit",
    ),
    _light(
        "mobilenetv2_expand2",
        "inverted residuals x2",
        stem="mobilenetv2",
        block="mobilenetv2",
        expand=2,
    ),
    _light("ghostnet", "ghost bottlenecks", stem="ghost", block="ghost"),
    _light("dilated", "dilated convolutions", stem="conv", block="dilated"),
    _light("convnext", "ConvNeXt blocks", stem="convnext", block="convnext"),
    _light("shufflenetv2", "shuffled halves", stem="shufflenetv2", block="shufflenetv2"),
    _light(
        "shufflenetv2_dilated",
        "shuffled halves with dilations 1, 2, 5",
        stem="shufflenetv2_dilated",
        block="shufflenetv2_dilated",
    ),
    _light(
        "shufflenetv2_lk",
        "shuffled halves with 7^3 kernels",
        stem="shufflenetv2_lk",
        block="shufflenetv2_lk",
    ),
    Family(
        "unet3d_2modal_s",
        "another name of unet3d_s",
        {**_ONE, "encoder": ("conv",), "width": 32},
        sizes=(),
        alias="unet3d_s",
    ),
    Family(
        "unet3d_4modal_s",
        "U-net over all four modalities",
        {**_ONE, "encoder": ("conv",), "width": 32, "modalities": _ALL},
        sizes=(),
    ),
    Family(
        "dualbranch_2modal_unet_s",
        "another name of dualbranch_01_unet_s",
        {**_PLAN_A, "encoder": ("conv",), "fused": "conv"},
        sizes=(),
        alias="dualbranch_01_unet_s",
    ),
    Family("quadbranch_4modal_unet_s", "four branches, halved by maxima", _QUAD, sizes=()),
    Family(
        "quadbranch_4modal_attention_unet_s",
        "four branches that are weighed by all at stages 2 and 3",
        {**_QUAD, "modality_attention": (2, 3)},
        sizes=(),
    ),
)


def model_cards() -> Iterator[ModelCard]:
    """Yield the card of every name, families in order, sizes from small to large."""
    for family in FAMILIES:
        if not family.sizes:
            yield _card(family, family.name, family.summary, family.defaults)
        for size in family.sizes:
            width = WIDTHS[size] * (2 if family.defaults.get("branches") == "one" else 1)
            defaults = {**family.defaults, **family.by_size.get(size, {}), "width": width}
            yield _card(family, f"{family.name}_{size}", f"{family.summary}; {size}", defaults)


def _card(family: Family, name: str, summary: str, defaults: Mapping[str, Any]) -> ModelCard:
    return ModelCard(
        name=name,
        summary=summary,
        build=f"{_ROOM}.models.build:{family.build}",
        config=f"{_ROOM}.config:{family.config}",
        tasks=_TASKS,
        defaults=defaults,
        tags=("2d" if family.name == "mobile_unetr" else "3d",)
        + ((f"alias of {family.alias}",) if family.alias else ()),
    )
