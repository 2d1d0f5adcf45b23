"""The blocks that every room shares, and the whole configuration of one run.

A run has five blocks: `run` and `train` are the same everywhere; `data`, `task` and `model` start
from the bases here and are narrowed by the room and the model card (`load.config_class`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SerializeAsAny, model_validator

from neurocli.core.config.base import Block, FloatPair
from neurocli.core.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps", "xpu"]
Precision = Literal["fp32", "bf16", "fp16"]
Parallel = Literal["none", "ddp", "fsdp", "deepspeed"]


class RunBlock(Block):
    """Say how a run behaves as a process: seed, device, how often it saves and logs."""

    seed: int = Field(1234, ge=0, description="seed of weights, order and augmentation")
    device: Device = Field("auto", description="auto takes a GPU when there is one")
    threads: int | None = Field(None, ge=1, description="CPU threads; None leaves torch's choice")
    checkpoint_every_steps: int | None = Field(
        None, ge=1, description="save last.pth every so many steps, besides every epoch"
    )
    log_every_steps: int = Field(1, ge=1, description="write the training log every so many steps")


class TrainBlock(Block):
    """Say how a model is optimised."""

    epochs: int = Field(10, ge=1, description="passes over the training part")
    steps: int | None = Field(None, ge=1, description="optimiser steps; wins over epochs")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="scale lr by (samples per step / lr_base_batch), or by its root"
    )
    lr_base_batch: int = Field(384, ge=1, description="samples per step that lr is meant for")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: FloatPair = Field((0.9, 0.999), description="AdamW's decay rates")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD's momentum")
    weight_decay: float = Field(0.01, ge=0)
    decay_all: bool = Field(
        False, description="decay norms, biases and SSM vectors too, as the family's code does"
    )
    schedule: Literal["constant", "cosine", "cosine_restarts"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps")
    min_lr_ratio: float = Field(0.01, ge=0, le=1, description="final over peak learning rate")
    restart_cycle: float = Field(0.3, gt=0, le=1, description="first cycle, share of all steps")
    restart_gamma: float = Field(0.5, gt=0, le=1, description="peak of a cycle over the one before")
    clip_norm: float | None = Field(1.0, gt=0, description="gradient norm limit; null is off")
    accumulate: int = Field(1, ge=1, description="batches per optimiser step")
    precision: Precision = "fp32"
    ema: float | None = Field(None, gt=0, lt=1, description="averaging of weights; null is off")
    early_stop: int | None = Field(None, ge=1, description="epochs without progress; null is off")
    max_bad_steps: int = Field(
        0, ge=0, description="steps in a row with a non-finite loss that are skipped before a stop"
    )
    spike_factor: float | None = Field(
        None, gt=1, description="skip steps whose gradient norm is so many running medians"
    )
    eval_every_epochs: int = Field(1, ge=1)
    parallel: Parallel = "none"
    zero_stage: int = Field(2, ge=0, le=3, description="what deepspeed shards: 3 is everything")
    sequence_parallel: int = Field(
        1, ge=1, description="processes that share the tokens of one clip (fmamba)"
    )
    sharded_saves: bool = Field(
        False, description="fsdp: saves between epochs in shards, one file per process"
    )
    recompute: bool = Field(
        False, description="keep a block's input only and compute it again for its gradient"
    )
    init_from: str | None = Field(None, description="checkpoint whose weights are the start")
    freeze: bool = Field(False, description="train the head only")


class DataBlock(Block):
    """Say what is read; rooms add their own keys."""

    path: str | None = Field(None, description="dataset folder; null takes the built-in cohort")
    split: str | None = Field(None, description="split file; null divides by a hash of seed and id")
    table: str | None = Field(None, description="phenotype table; null takes participants.tsv")
    batch_size: int = Field(4, ge=1)
    eval_batch_size: int = Field(16, ge=1)
    prefetch: int = Field(2, ge=0, description="batches read ahead by one thread; 0 is off")


class TaskBlock(Block):
    """Say what is learned; rooms add their own keys."""

    objective: str | None = Field(None, description="task row of the room; null takes the model's")


class ModelBlock(Block):
    """Say which model; model cards add their own keys."""

    name: str


class RunConfig(Block):
    """Hold every resolved option of one run."""

    model: SerializeAsAny[ModelBlock]
    data: SerializeAsAny[DataBlock] = DataBlock()
    task: SerializeAsAny[TaskBlock] = TaskBlock()
    train: TrainBlock = TrainBlock()
    run: RunBlock = RunBlock()

    @model_validator(mode="after")
    def _check_together(self) -> RunConfig:
        if self.train.freeze and self.train.init_from is None:
            raise UsageError("freeze: a frozen backbone needs weights", hint="give --init-from")
        return self
