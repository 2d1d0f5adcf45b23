"""Config blocks of the calcium room: how sessions are read, modelled and judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurocli.core.config.base import Block, IntTuple
from neurocli.core.config.run import DataBlock, ModelBlock, TaskBlock

# Frames before the centre of a window, and from the centre on.
FIELDS = {"offset1": (0, 1), "offset5": (2, 3), "offset10": (5, 5), "offset36": (18, 18)}
# Residual layers of three frames, and taps of the output layer.
N_SKIPS = {"offset5": 1, "offset10": 3, "offset36": 16}
LAST_TAPS = {"offset5": 2, "offset10": 3, "offset36": 3}
DEFAULT_NEURONS = 150  # of a described session; used when no data say otherwise


class SessionOptions(Block):
    """Say how raw sessions become stored ones."""

    rate_hz: float = Field(30.0, gt=0, description="frames per second where files do not tell them")
    seed: int = Field(0, ge=0, description="of the built-in sessions")


class CalciumDataBlock(DataBlock):
    """Say which sessions a model sees, and how they are combined."""

    batch_size: int = Field(512, ge=2, description="reference windows per session and step")
    mode: Literal["shared", "separate", "pad", "first-only"] = Field(
        "shared",
        description="one trunk with an input layer per session, one network per session, one "
        "network over neurons padded with zeros, or the first session alone",
    )
    max_sessions: int | None = Field(None, ge=1, description="the first so many, by name")
    rate_hz: float = Field(30.0, gt=0, description="frames per second where files do not tell them")
    highpass_hz: float | None = Field(
        None, gt=0, description="take off a moving average of this inverse length; null is off"
    )
    scaling: Literal["standard", "robust"] = Field(
        "standard", description="mean and deviation of each neuron, or median and median distance"
    )
    segments: Literal["cut", "glue"] = Field(
        "cut",
        description="keep windows and pairs inside stretches without a cut, or join the stretches "
        "of a part as the described system does",
    )
    epoch_steps: int | None = Field(
        None, ge=1, description="steps between judgements; null is one pass, at least 100"
    )
    sampling: Literal["auto", "windows", "dense"] = Field(
        "auto", description="embed drawn windows, or every frame once and draw embeddings"
    )


class CalciumTaskBlock(TaskBlock):
    """Say which windows belong together, and how that is scored."""

    target: str | None = Field(
        None, description="labels that make positives, such as movie_one,direction; null finds them"
    )
    time_offsets: IntTuple = Field((10,), description="frames from a window to its positive")
    delta: float | None = Field(
        None, gt=0, description="spread of a Gaussian step of continuous labels; null takes the "
        "steps that the labels make themselves over the first time offset",
    )  # fmt: skip
    temperature: float = Field(1.0, gt=0)
    learn_temperature: bool = False
    min_temperature: float = Field(0.1, gt=0, description="floor of a learned temperature")
    distance: Literal["cosine", "euclidean"] = "cosine"
    time_dims: int | None = Field(
        None, ge=1, description="hybrid: outputs for the time loss; null is half of them"
    )
    null: Literal["none", "shuffle", "shift"] = Field(
        "none", description="train and judge on labels that were shuffled or shifted in time"
    )
    n_nulls: int = Field(
        20, ge=1, description="draws of shuffled and shifted labels that decoding is judged against"
    )


class EncoderConfig(ModelBlock):
    """Size an encoder of short windows."""

    encoder: Literal["offset1", "offset5", "offset10", "offset36"] = Field(
        "offset10", description="frames of the receptive field"
    )
    output_dim: int = Field(32, ge=2, description="D, width of the embedding")
    hidden_dim: int = Field(64, ge=4, description="H, width of the hidden layers")
    neuron_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of neurons hidden from a window in training"
    )
