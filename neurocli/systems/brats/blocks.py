"""Config blocks of the tumour room: how cases are prepared, sampled, learned and judged.

Names of rules and blends are those of `core/metrics/segmentation` and `core/infer/windows`, spelled
again because those modules load numpy and torch; a test holds them equal.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from neurocli.core.config.base import Block, IntTriple, as_texts
from neurocli.core.config.run import DataBlock, TaskBlock
from neurocli.core.errors import UsageError

MODALITIES = ("t1", "t1ce", "t2", "flair")
"""Contrasts in the order of their channels, everywhere."""
Modality = Literal["t1", "t1ce", "t2", "flair"]
LABEL_VALUES = {"et4": (0, 1, 2, 4), "et3": (0, 1, 2, 3)}
"""What label files hold for the classes 0 .. 3, by where enhancing tumour is."""
LossName = Literal["dice7_ce3", "dice5_ce5", "dice7_ce3_squared", "nnunet"]


class PreprocessOptions(Block):
    """Say how raw cases become the cache that training reads."""

    labels: Literal["auto", "et4", "et3"] = Field(
        "auto", description="enhancing tumour on disk: 3 or 4; auto: 3 where files are named t1c"
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="of stored intensities; float16 halves the cache, rounding to 0.1 %"
    )
    clip_low: float = Field(0.5, ge=0, lt=50, description="percentile of the brain cut off below")
    clip_high: float = Field(99.5, gt=50, le=100, description="percentile cut off above")
    seed: int = Field(0, ge=0, description="of the voxels kept as centres of foreground patches")


class BratsDataBlock(DataBlock):
    """Say which patches a model sees."""

    batch_size: int = Field(2, ge=1)
    eval_batch_size: int = Field(1, ge=1, description="whole cases held at once")
    modalities: Annotated[tuple[Modality, ...], BeforeValidator(as_texts)] | None = Field(
        None, description="contrasts that are read; null: those that the model names"
    )
    dims: Literal["auto", "3d", "2d"] = Field(
        "auto", description="patches, or axial slices; auto: what the model takes"
    )
    patch: IntTriple = Field((128, 128, 128), description="voxels of a training patch")
    samples_per_case: int = Field(16, ge=1, description="patches or slices per case and epoch")
    foreground: float = Field(
        1 / 3, ge=0, le=1, description="share of patches centred on a tumour voxel"
    )
    augment: Literal["none", "flip", "affine", "intensity", "all"] = Field(
        "none", description="random changes of training patches"
    )

    @field_validator("modalities")
    @classmethod
    def _check_modalities(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        if not value or len(set(value)) < len(value):
            raise UsageError(f"{list(value)} is empty or repeats a name", where="data.modalities")
        return tuple(name for name in MODALITIES if name in value)

    @field_validator("patch")
    @classmethod
    def _check_patch(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise UsageError(f"{list(value)} holds a size below 1", where="data.patch")
        return value


class BratsTaskBlock(TaskBlock):
    """Say what is minimised, and how whole volumes are predicted and scored."""

    loss: LossName = Field(
        "dice7_ce3",
        description="0.7 Dice + 0.3 cross entropy; halves of both; squared: the family's own form; "
        "nnunet: cross entropy + batch Dice without background",
    )
    sliding_window: bool = Field(True, description="windows over a volume; false: one pass")
    roi: IntTriple | None = Field(None, description="window in voxels; null takes data.patch")
    overlap: float = Field(0.1, ge=0, lt=1, description="share of a window the next one repeats")
    blend: Literal["constant", "gaussian", "cosine"] = "gaussian"
    extent: Literal["grid", "brain", "whole"] = Field(
        "grid", description="windows over everything, over the brain's box, or that box in one"
    )
    tta: bool = Field(False, description="average over eight mirrored copies")
    average: Literal["logits", "probabilities"] = Field(
        "logits", description="what the members of an ensemble are averaged in"
    )
    empty: Literal["brats", "nan", "zero"] = Field(
        "brats", description="score of a region that is not there"
    )
    hd95: Literal["max", "pooled"] = Field(
        "max", description="larger of two directed percentiles, or one of all distances"
    )
    lesions: Literal["gli", "ssa", "ped", "men", "met", "none"] = Field(
        "gli", description="rules of the scores by lesion"
    )
    baseline: bool = Field(True, description="thresholds fitted on the training part")
    explain_of: Literal["predicted", "labelled"] = Field(
        "predicted", description="whose region a map explains; predicted where labels are missing"
    )
    explain_weighting: Literal["mean", "voxel"] = Field(
        "mean", description="weigh channels by the mean of their gradient, or voxels by their own"
    )
    explain_cases: int = Field(8, ge=1, description="cases that get maps; a map is a volume")
    explain_stages: Annotated[tuple[str, ...], BeforeValidator(as_texts)] = Field(
        (), description="layers that are explained; empty: encoder of each branch, and decoder"
    )

    @field_validator("roi")
    @classmethod
    def _check_roi(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 1:
            raise UsageError(f"{list(value)} holds a size below 1", where="task.roi")
        return value
