"""From a configuration and what the data tell to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.systems.calcium.config import (
    DEFAULT_NEURONS,
    CalciumDataBlock,
    CalciumTaskBlock,
    EncoderConfig,
)
from neurocli.systems.calcium.models.encoder import SessionEncoders


def build(config: RunConfig, info: Mapping[str, Any]) -> SessionEncoders:
    """Return the untrained model.

    Args:
        config: The run's configuration.
        info: `n_neurons` per session; absent takes one session of a described size.
    """
    model = cast(EncoderConfig, config.model)
    task = cast(CalciumTaskBlock, config.task)
    data = cast(CalciumDataBlock, config.data)
    return SessionEncoders(
        [int(n) for n in info.get("n_neurons", (DEFAULT_NEURONS,))],
        encoder=model.encoder,
        hidden=model.hidden_dim,
        outputs=model.output_dim,
        is_shared=data.mode != "separate",
        is_normalised=task.distance == "cosine",
        temperature=task.temperature if task.learn_temperature else None,
    )
