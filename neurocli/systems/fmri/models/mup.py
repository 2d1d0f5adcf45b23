"""Widths that share one learning rate: the maximal update parametrisation (muP) of FMamba.

With the usual start and one rate for all weights, an AdamW step changes activations the more the
wider a model is, so each width needs a rate of its own. Yang et al. 2022 (arXiv 2203.03466, table
3) scale start and rate of each kind of weight by m = width / base width, so that a step changes
activations alike in all widths and a rate tuned on a narrow model serves a wide one:

| kind | start (SD) | AdamW's rate | here |
|---|---|---|---|
| from a fixed number of inputs; vectors | as it is | as it is | patch projection, norms, biases, |
| | | | convolution taps, dt_bias, A_log |
| width to width | 1/sqrt(fan-in) | 1/m | in_proj, out_proj, conv head, projection |
| width to a fixed number of outputs | 1/fan-in | 1/m | output layer, last layer of a head |
| skip D beside the scan | N / base N | N / base N | D |

The last row is the state space's own: y = sum_n C_n B_n ... + D x is a sum over N states, and N
grows with the width unless `d_state` fixes it; that rules written for products alone do not cover
such layers is shown by Vankadara et al. 2024 (On feature learning in structured state space
models, NeurIPS). The norm behind the scan forgets the size of y, so scaling D up is the same as
scaling the sum down, and the forward pass stays that of every FMamba: names, checkpoints and
kernels are untouched. Weight decay is divided by the rate's factor, so rate times decay is alike
in all widths. At the base width nothing changes.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import nn

from neurocli.core.errors import UsageError
from neurocli.systems.fmri.config import FMambaConfig, FMambaHeadConfig

_HEADS = ("mlp", "conv")


def apply_mup(model: nn.Module, config: FMambaConfig) -> None:
    """Scale the start of a fresh model, and tell it the rates of its weights.

    `model.rate_factors` then holds the factors by name, which `core.engine.optim` reads.

    Args:
        model: As `build` makes it; changed in place.
        config: Its sizes; without `mup_base_dim` nothing is done.

    Raises:
        UsageError: The head has layers that these rules do not cover.
    """
    base = config.mup_base_dim
    if base is None:
        return
    if isinstance(config, FMambaHeadConfig) and config.head not in _HEADS:
        raise UsageError(
            f"the rules of muP do not cover the Mamba-1 layers of the head '{config.head}'",
            where="model.mup_base_dim",
            hint=f"set it to null, or take a head of {', '.join(_HEADS)}",
        )
    ratio = config.embed_dim / base
    states = config.state_size / config.model_copy(update={"embed_dim": base}).state_size
    factors: dict[str, float] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            start, rate = _scale_of(name, ratio, states)
            if start != 1.0:
                parameter.mul_(start)
            if rate != 1.0:
                factors[name] = rate
    cast(Any, model).rate_factors = factors


def _scale_of(name: str, ratio: float, states: float) -> tuple[float, float]:
    """Return what a parameter's start and its rate are multiplied with.

    Args:
        name: Dotted name in the model.
        ratio: Width over base width, m.
        states: State size over that of the base width.
    """
    name = name.removeprefix("model.")
    layer, _, leaf = name.rpartition(".")
    if leaf == "D":
        return states, states
    if leaf == "weight" and layer.endswith(("in_proj", "out_proj")):
        return 1.0, 1.0 / ratio  # drawn in 1/sqrt(fan-in) already
    if name == "projection.0.weight":
        return 1.0, 1.0 / ratio  # a norm follows: its outputs are no small start
    if name == "output_layer.weight":
        return 1.0 / math.sqrt(ratio), 1.0 / ratio
    if name == "output_layer.bias":
        return math.sqrt(ratio), 1.0  # drawn in 1/sqrt(fan-in), which a bias should not be
    if name == "output_head.head.weight":
        return 1.0 / ratio, 1.0 / ratio  # drawn with one SD at all widths
    if name.startswith("output_head.conv_blocks.") and leaf == "weight":
        return 1.0 / math.sqrt(ratio), 1.0 / ratio
    return 1.0, 1.0
