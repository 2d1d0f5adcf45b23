"""How a stage of an encoder is written: `block[*repeats][@reduction][~rates]`.

`mobilenetv2*2@8` is two inverted residuals with channel attention of reduction 8;
`mobilenetv2@16~1.2.5` is one whose depthwise convolutions have taps 1, 2 and 5 voxels apart. A
branch joins its stages with `/`, and one stage alone stands for all of them. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from neurocli.core.errors import UsageError
from neurocli.core.names import lookup

# The names of core/nn/blocks3d, spelled again because that module loads torch; a test holds them
# equal.
STEM_NAMES = (
    "conv",
    "mobilenetv2",
    "ghost",
    "convnext",
    "shufflenetv2",
    "shufflenetv2_dilated",
    "shufflenetv2_lk",
)
DOWN_NAMES = (
    "conv",
    "stride",
    "dilated",
    "replk",
    "mobilenetv2",
    "mobilevit",
    "ghost",
    "convnext",
    "shufflenetv2",
    "shufflenetv2_dilated",
    "shufflenetv2_lk",
)
_ADJUSTABLE = "mobilenetv2"
_FORM = re.compile(
    r"(?P<block>[a-z0-9_]+)(\*(?P<repeats>[1-9]\d?))?(@(?P<reduction>[1-9]\d{0,2}))?"
    r"(~(?P<rates>[1-9]\d?(\.[1-9]\d?)*))?"
)


@dataclass(frozen=True)
class StagePlan:
    """Hold one stage: its block, how often, with which attention and which dilations.

    Args:
        block: A name of the registry of blocks.
        repeats: Blocks in the stage.
        reduction: Of the channel attention in each; None has none.
        rates: Dilations of the last block's depthwise convolutions.
    """

    block: str
    repeats: int = 1
    reduction: int | None = None
    rates: tuple[int, ...] = (1,)


def parse_stage(text: str, known: Sequence[str], where: str) -> StagePlan:
    """Return what a text such as `mobilenetv2*2@8` stands for.

    Args:
        text: One stage.
        known: Names of blocks that may stand here.
        where: Key that errors name.

    Raises:
        UsageError: No such block, no such form, or a block that takes no adjustments.

    >>> parse_stage("mobilenetv2*2@8", DOWN_NAMES, "model.encoder")
    StagePlan(block='mobilenetv2', repeats=2, reduction=8, rates=(1,))
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"'{text}' is no stage", where=where, hint="as in stride, mobilenetv2*2@8~1.2.5"
        )
    block = found["block"]
    lookup("block", block, dict.fromkeys(known), hint=f"in {where}")
    if block != _ADJUSTABLE and text.strip() != block:
        raise UsageError(
            f"'{text}' adjusts a block that takes no repeats, attention or rates",
            where=where,
            hint=f"only {_ADJUSTABLE} does",
        )
    return StagePlan(
        block,
        int(found["repeats"] or 1),
        int(found["reduction"]) if found["reduction"] else None,
        tuple(int(rate) for rate in (found["rates"] or "1").split(".")),
    )


def parse_stages(text: str, n_stages: int, where: str) -> tuple[StagePlan, ...]:
    """Return the stages of one branch, the first stage behind the stem first.

    Args:
        text: Stages joined with `/`, or one that stands for all.
        n_stages: Stages that are wanted, >= 1.
        where: Key that errors name.

    Raises:
        UsageError: Another number of stages, or one that is wrong.
    """
    parts = [parse_stage(part, DOWN_NAMES, where) for part in text.split("/")]
    parts = parts * n_stages if len(parts) == 1 else parts
    if len(parts) != n_stages:
        raise UsageError(
            f"'{text}' has {len(parts)} stages, {n_stages} are wanted",
            where=where,
            hint="one stage alone stands for all",
        )
    return tuple(parts)
