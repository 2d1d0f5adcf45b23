"""The cost of an encoder of windows in closed form: learned numbers and operations; no torch.

Two operations per multiply-add of matrix products; norms and activations are free. The first layer
multiplies each of L frames with both of its taps, 4LNH; a residual layer on M frames is 6(M-2)HH,
the output layer of k taps 2kHD. Frame by frame: 2NH, then 3HH and HD.

Letters: L frames of a window, N neurons, H width, D outputs, k taps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.systems.calcium.config import (
    DEFAULT_NEURONS,
    FIELDS,
    LAST_TAPS,
    N_SKIPS,
    CalciumDataBlock,
    CalciumTaskBlock,
    EncoderConfig,
)

_TAPS = 3


def default_info(config: RunConfig, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return what building the model must know when no data are opened.

    Args:
        config: Configuration of a model of this room.
        input_shape: N, or L and N; None takes one session of a described size.

    Raises:
        UsageError: The sizes are none of a window.
    """
    length = sum(FIELDS[cast(EncoderConfig, config.model).encoder])
    given = (DEFAULT_NEURONS,) if input_shape is None else tuple(int(n) for n in input_shape)
    if len(given) not in (1, 2) or min(given) < 1 or (len(given) == 2 and given[0] != length):
        raise UsageError(
            f"'{','.join(map(str, given))}' is no window of this encoder",
            where="--input-shape",
            hint=f"give the neurons N, or {length},N: frames of a window and neurons",
        )
    return {"n_neurons": [given[-1]], "img_size": [length, given[-1]]}


def input_shape(config: RunConfig, info: Mapping[str, Any]) -> tuple[int, int]:
    """Return the frames and neurons of a window of the first session."""
    length = sum(FIELDS[cast(EncoderConfig, config.model).encoder])
    return length, _neurons(info)[0]


def sample_shape(config: RunConfig, info: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the shape (1, L, N) of one window as the model takes it."""
    return (1, *input_shape(config, info))


def _neurons(info: Mapping[str, Any]) -> list[int]:
    return [int(n) for n in info.get("n_neurons", (DEFAULT_NEURONS,))]


def count_parameters(config: RunConfig, info: Mapping[str, Any]) -> int:
    """Return how many numbers a model learns.

    An input layer 2NH + H per session (NH + H frame by frame), a trunk per session or one for all,
    and a learned temperature.

    Args:
        config: Configuration of a model of this room.
        info: `n_neurons` of each session.
    """
    model, neurons = cast(EncoderConfig, config.model), _neurons(info)
    width, out = model.hidden_dim, model.output_dim
    is_framewise = model.encoder == "offset1"
    if is_framewise:
        half = width // 2
        trunk = (width + 1) * width + (width + 1) * half + (half + 1) * out
    else:
        trunk = N_SKIPS[model.encoder] * (_TAPS * width + 1) * width
        trunk += (LAST_TAPS[model.encoder] * width + 1) * out
    inputs = sum(((1 if is_framewise else 2) * n + 1) * width for n in neurons)
    is_shared = cast(CalciumDataBlock, config.data).mode != "separate"
    learned = int(cast(CalciumTaskBlock, config.task).learn_temperature)
    return inputs + trunk * (1 if is_shared else len(neurons)) + learned


def clip_cost(config: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one window of the first session costs, forward and in a training step.

    A training step is the forward pass and twice as much backwards, without the gradient to the
    traces, which nobody needs.

    Args:
        config: Configuration of a model of this room.
        info: `n_neurons` of each session.

    Returns:
        params, macs, flops, flops_train_step, tokens (None), input_shape, components, notes.
    """
    model = cast(EncoderConfig, config.model)
    length, n_neurons = input_shape(config, info)
    width, out = model.hidden_dim, model.output_dim
    if model.encoder == "offset1":
        half = width // 2
        components = {
            "input": 2 * n_neurons * width,
            "trunk": 2 * width * (width + half),
            "output": 2 * half * out,
        }
    else:
        skips = range(1, N_SKIPS[model.encoder] + 1)
        frames = sum(length - 1 - (_TAPS - 1) * place for place in skips)
        components = {
            "input": 4 * (length - 1) * n_neurons * width,
            "trunk": 2 * _TAPS * frames * width**2,
            "output": 2 * LAST_TAPS[model.encoder] * width * out,
        }
    forward = sum(components.values())
    return {
        "params": count_parameters(config, info),
        "macs": forward // 2,
        "flops": forward,
        "flops_train_step": 3 * forward - components["input"],
        "tokens": None,
        "input_shape": [length, n_neurons],
        "components": components,
        "notes": ["one window; a training sample is three: reference, positive and negative"],
    }
