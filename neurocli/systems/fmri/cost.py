"""The cost of FMamba in closed form: learned numbers, operations, tokens; no torch.

Operations are counted as two per multiply-add of matrix products and convolutions, as the model
of this package does them on a CPU; element-wise work is not counted. Per token and layer:
in_proj 2E(2I + 2N + H), convolution 2K(I + 2N), out_proj 2EI, with inner width I = expand E, K
taps, and for the scan with chunks of Q tokens 2QN + 2QI + 4NI + 2I. All of it is linear in the
tokens that are kept (Dao and Gu 2024, arXiv 2405.21060, section 6). A model that reads both ways
does all of a layer twice. What stands on the backbone, an output layer, a projection or one of
four heads, is in `head_cost`.

Letters: E width, I inner width, H heads, P head size, N state size, Q chunk, F voxels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.core.nn.sizes import block_length, head_size, keeps_states, longest_chunk
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FmriDataBlock,
    clip_size,
    objective_of,
)
from neurocli.systems.fmri.head_cost import end_cost

_AXES = "HWDT"
_ANY_LENGTH = 1 << 20  # parameters do not depend on the tokens


@dataclass(frozen=True)
class _Sizes:
    """Hold the sizes that the formulas need; see the letters above."""

    n_layers: int
    width: int
    inner: int
    n_heads: int
    state: int
    taps: int
    chunk: int
    n_voxels: int

    @property
    def channels(self) -> int:
        """Return channels of the convolution: x, B and C."""
        return self.inner + 2 * self.state

    @property
    def projected(self) -> int:
        """Return outputs of in_proj: z, x, B, C and one step size per head."""
        return self.inner + self.channels + self.n_heads


def default_info(config: RunConfig, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return what building the model must know when no data are opened.

    Args:
        config: Configuration of a model of this room.
        input_shape: H, W, D in voxels and T in frames; None takes the config's grid, else 96^3.

    Raises:
        UsageError: `input_shape` has not four sizes >= 1.
    """
    if input_shape is None:
        input_shape = clip_size(cast(FmriDataBlock, config.data), {})
    if len(input_shape) != 4 or min(input_shape) < 1:
        raise UsageError(
            f"'{','.join(map(str, input_shape))}' is no clip size",
            where="--input-shape",
            hint="give H,W,D,T: voxels and frames, for example 96,96,96,20",
        )
    return {"img_size": [int(size) for size in input_shape]}


def count_parameters(config: RunConfig, info: Mapping[str, Any]) -> int:
    """Return how many numbers a model learns.

    Per layer E(2I + 2N + H) + (K + 1)(I + 2N) + 3H + I + IE, and E for its norm; the embedding
    FE, the mask token E of mim, the last norm E, and what `end_cost` says.

    Args:
        config: Configuration of a model of this room.
        info: `n_outputs` of a head, 2 when absent; the `objective` of a model without one.

    Raises:
        UsageError: The sizes do not fit together.
    """
    return _backbone_parameters(config, info) + end_cost(config, info, _ANY_LENGTH).params


def _backbone_parameters(config: RunConfig, info: Mapping[str, Any]) -> int:
    sizes = _sizes(config)
    block = (
        sizes.width * sizes.projected
        + (sizes.taps + 1) * sizes.channels
        + 3 * sizes.n_heads
        + sizes.inner
        + sizes.inner * sizes.width
    )
    backbone = sizes.n_voxels * sizes.width + sizes.n_layers * (block + sizes.width) + sizes.width
    return backbone + (sizes.width if objective_of(config, info) == "mim" else 0)


def clip_cost(
    config: RunConfig, info: Mapping[str, Any], *, tokens_kept: int | None = None
) -> dict[str, Any]:
    """Return what one clip costs, forward and in a training step.

    A training step is the forward pass and twice as much backwards, without the gradient to the
    voxels, which nobody needs; scores and states of the scan are computed once more where they are
    too large to keep.

    Args:
        config: Configuration of a model of this room.
        info: `img_size` [H, W, D, T]; `n_outputs` of a head, 2 when absent; the `objective` of a
            model without one.
        tokens_kept: Tokens after the background is dropped; None counts all.

    Returns:
        params, macs, flops, flops_train_step (operations), tokens, tokens_total, input_shape
        [H, W, D, T] and components (forward operations by part).

    Raises:
        UsageError: The patch does not divide the clip, `tokens_kept` is no possible number, or
            the head needs more tokens.
    """
    sizes, shape = _sizes(config), [int(size) for size in info["img_size"]]
    total = _n_tokens(shape, cast(FMambaConfig, config.model).patch_size)
    tokens = total if tokens_kept is None else tokens_kept
    if not 1 <= tokens <= total:
        raise UsageError(f"{tokens} kept tokens, but a clip has {total}", hint=f"1 to {total}")
    scan, again = _scan(sizes, tokens)
    end = end_cost(config, info, tokens)
    layers = sizes.n_layers * (2 if cast(FMambaConfig, config.model).bidirectional else 1)
    components = {
        "embedding": 2 * tokens * sizes.n_voxels * sizes.width,
        "in_proj": 2 * tokens * layers * sizes.width * sizes.projected,
        "convolution": 2 * tokens * layers * sizes.taps * sizes.channels,
        "scan": layers * scan,
        "out_proj": 2 * tokens * layers * sizes.width * sizes.inner,
        end.name: end.flops,
    }
    forward = sum(components.values())
    recomputed = end.recomputed + layers * again
    return {
        "params": count_parameters(config, info),
        "macs": forward // 2,
        "flops": forward,
        "flops_train_step": 3 * forward - components["embedding"] + recomputed,
        "tokens": tokens,
        "tokens_total": total,
        "input_shape": shape,
        "components": components,
    }


def _sizes(config: RunConfig) -> _Sizes:
    model = cast(FMambaConfig, config.model)
    inner = model.expand * model.embed_dim
    head = head_size(inner)
    if head is None:
        raise UsageError(
            f"an inner width of {inner} is divided by no head size (64, 32, 16, 8)",
            where="model.embed_dim",
            hint="use a multiple of 32",
        )
    return _Sizes(
        n_layers=model.depth,
        width=model.embed_dim,
        inner=inner,
        n_heads=inner // head,
        state=model.state_size,
        taps=model.d_conv,
        chunk=model.chunk_size,
        n_voxels=prod(model.patch_size),
    )


def _n_tokens(shape: Sequence[int], patch: Sequence[int]) -> int:
    for axis, size, part in zip(_AXES, shape, patch, strict=True):
        if size % part:
            down, up = size // part * part, -(-size // part) * part
            raise UsageError(
                f"the patch has {part} along {axis}, which does not divide {size}",
                where="--input-shape",
                hint=f"use {f'{down} or ' if down else ''}{up} along {axis}, or model.patch_size",
            )
    return prod(size // part for size, part in zip(shape, patch, strict=True))


def _scan(sizes: _Sizes, tokens: int) -> tuple[int, int]:
    """Return the operations of one layer's scan, and those that its backward pass does again.

    Chunks are as long as they may be; strong decays make the scan take shorter ones, and fewer
    operations.
    """
    forward = again = 0
    for start in range(0, tokens, block_length()):
        length = min(block_length(), tokens - start)
        chunk = longest_chunk(length, sizes.chunk)
        padded = 2 * -(-length // chunk) * chunk
        # Scores, what a chunk adds to the state, and [scores | C] times [inputs ; state].
        scores, added = chunk * sizes.state, sizes.state * sizes.inner
        forward += padded * (scores + added + (chunk + sizes.state) * sizes.inner)
        forward += padded // chunk * added  # a state passes a chunk
        forward += 2 * length * sizes.inner  # the skip
        if not keeps_states(chunk, sizes.state):
            again += padded * (scores + added)
    return forward, again
