"""The cost of what stands on FMamba's tokens, in closed form; no torch.

Counted as in `cost`. An output layer maps every token; a head or a projection ends in one vector:

- linear head: the mean token, 2 E n.
- conv head: per convolution 2 taps E^2 for each place it leaves.
- mamba heads: per token and layer 2E 2I + 2I(R + 2N) + 2RI + 2IE for the products, 2KI for the
  convolution, and, in whole chunks, 6NI for the selective scan: the steps, what entered a chunk,
  and the read-out. Backwards its states are computed again: 14NI instead of twice as much.

Letters: E width, I inner width, N states per channel, R rank of the step sizes, K taps, F voxels of
a token, n outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.core.nn.sizes import SELECTIVE_CHUNK, dt_rank
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FMambaHeadConfig,
    FmriTaskBlock,
    objective_of,
)
from neurocli.systems.fmri.models.head_sizes import (
    CONV_LAYERS,
    CONV_TAPS,
    MAMBA_EXPAND,
    MAMBA_LAYERS,
    MAMBA_TAPS,
    conv_length,
    head_state_size,
    shortest_conv_input,
)


@dataclass(frozen=True)
class EndCost:
    """Tell what the end of a model costs.

    Args:
        name: What it is: output_layer, projection or head.
        params: Numbers it learns.
        flops: Operations of a forward pass of one clip.
        recomputed: Operations of a training step beyond three forward passes.
    """

    name: str
    params: int
    flops: int
    recomputed: int = 0


def end_cost(config: RunConfig, info: Mapping[str, Any], n_tokens: int) -> EndCost:
    """Return the cost of a head, a projection or an output layer.

    Args:
        config: Configuration of a model of this room.
        info: `n_outputs` of a head, 2 when absent; the `objective` of a model without one.
        n_tokens: Tokens of the clip that reach it.

    Raises:
        UsageError: The conv head gets too few tokens.
    """
    model = cast(FMambaConfig, config.model)
    if isinstance(model, FMambaHeadConfig):
        return _head(model.head, model.embed_dim, int(info.get("n_outputs", 2)), n_tokens)
    if objective_of(config, info) == "contrastive":
        # A product without bias, then the scale and shift of a batch norm.
        width = cast(FmriTaskBlock, config.task).projection_dim
        return EndCost("projection", (model.embed_dim + 2) * width, 2 * model.embed_dim * width)
    n_voxels = prod(model.patch_size)
    return EndCost(
        "output_layer", (model.embed_dim + 1) * n_voxels, 2 * n_tokens * model.embed_dim * n_voxels
    )


def _head(name: str, width: int, n_outputs: int, n_tokens: int) -> EndCost:
    params, flops = (width + 1) * n_outputs, 2 * width * n_outputs
    if name == "mlp":
        return EndCost("head", params, flops)
    if name == "conv":
        layer = (CONV_TAPS * width + 1) * width
        n_places = _conv_places(n_tokens)
        return EndCost(
            "head",
            params + CONV_LAYERS * layer + 2 * width,
            flops + 2 * CONV_TAPS * width * width * n_places,
        )
    inner, state, rank = MAMBA_EXPAND * width, head_state_size(width), dt_rank(width)
    maps = rank + 2 * state
    products = width * 2 * inner + inner * maps + rank * inner + inner * width
    # Besides the products: taps and bias of the convolution, bias of the steps, A, D, a norm.
    layer = products + (MAMBA_TAPS + 1) * inner + inner + state * inner + inner + width
    final_norm = width if name == "mamba_fn" else 0
    chunk = min(SELECTIVE_CHUNK, n_tokens)
    scanned = -(-n_tokens // chunk) * chunk * state * inner
    forward = 2 * n_tokens * (products + MAMBA_TAPS * inner) + 6 * scanned
    return EndCost(
        "head",
        params + MAMBA_LAYERS * layer + final_norm,
        flops + MAMBA_LAYERS * forward,
        recomputed=MAMBA_LAYERS * 2 * scanned,
    )


def _conv_places(n_tokens: int) -> int:
    """Return the places that all convolutions leave, added up."""
    if n_tokens < shortest_conv_input():
        raise UsageError(
            f"the conv head gets {n_tokens} tokens, it needs at least {shortest_conv_input()}",
            where="model.head",
            hint="use smaller patches, a longer clip, or another head: mlp, mamba, mamba_fn",
        )
    lengths = []
    for _ in range(CONV_LAYERS):
        n_tokens = conv_length(n_tokens)
        lengths.append(n_tokens)
    return sum(lengths)
