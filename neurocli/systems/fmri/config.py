"""Config blocks of the fMRI room: how runs are prepared, read, modelled and judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from neurocli.core.config.base import Block, IntQuad, IntTriple, as_texts
from neurocli.core.config.run import DataBlock, ModelBlock, RunConfig, TaskBlock
from neurocli.core.errors import UsageError

# The grid of the published models; used when no data say otherwise.
_PUBLISHED_GRID = (96, 96, 96)
# The names of core/data/scaling.SCALINGS, spelled again because that module loads numpy and this
# one must not; a test holds them equal.
StoredScaling = Literal[
    "none", "znorm_zeroback", "znorm_minback", "minmax", "robust", "voxel-z", "psc"
]
Scaling = Literal["auto"] | StoredScaling


class PreprocessOptions(Block):
    """Say how raw runs become standard files."""

    space: Literal["native", "mni2mm"] = Field("native", description="grid of the output")
    scaling: StoredScaling = Field(
        "none", description="none keeps raw intensities; training scales when it reads"
    )
    mask: str = Field("auto", description="auto, none, or a mask file on the run's own grid")
    tr_s: float | None = Field(None, gt=0, description="repetition time; wins over the header")
    dtype: Literal["auto", "float32", "float16"] = Field(
        "auto", description="auto keeps whole numbers as they are stored, else float32"
    )
    frames: Literal["pt", "none"] = Field("none", description="also write frame_{i}.pt files")
    figure: Literal["none", "svg"] = Field("none", description="also draw qc.svg of each run")
    confounds: str = Field(
        "none", description="none, 6p, 8p, 9p, 24p, 36p, acompcor, or columns with commas"
    )
    high_pass_hz: float | None = Field(None, gt=0, description="slower changes are taken out")
    low_pass_hz: float | None = Field(None, gt=0, description="faster changes are taken out")
    nonfinite: Literal["error", "zero"] = Field("error", description="NaN and Inf voxels")
    metadata: str | None = Field(None, description="folder or table of a cohort's phenotypes")
    seed: int = Field(0, ge=0, description="of the built-in cohort")
    n_subjects: int = Field(96, ge=4, description="of the built-in cohort")
    n_frames: int = Field(40, ge=4, description="of the built-in cohort")

    @property
    def is_cleaned(self) -> bool:
        """Tell whether time courses are changed."""
        return self.confounds != "none" or bool(self.high_pass_hz or self.low_pass_hz)


class JoinedData(Block):
    """Name one of several datasets that are one training set."""

    path: str = Field(description="dataset folder")
    name: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]+$",
        description="stands before its ids, as in name.sub-01; null takes the folder's name",
    )
    weight: float | None = Field(
        None, gt=0, description="its share of the training clips of an epoch, over all weights"
    )
    split: str | None = Field(
        None, description="split file with its own ids; data.split, with name.id, wins"
    )
    table: str | None = Field(None, description="phenotype table; null takes participants.tsv")


def _as_joined(value: Any) -> Any:
    entries = as_texts(value)
    if not isinstance(entries, tuple):
        return entries
    return tuple({"path": entry} if isinstance(entry, str) else entry for entry in entries)


class FmriDataBlock(DataBlock):
    """Say which clips a model sees."""

    join: Annotated[tuple[JoinedData, ...], BeforeValidator(_as_joined)] = Field(
        (), description="several datasets instead of path: folders, or path, name, weight, split"
    )
    mixed_grids: bool = Field(
        False, description="join datasets of different voxel sizes or orientations all the same"
    )
    sequence_length: int = Field(20, ge=1, description="frames in a clip")
    stride_within: int = Field(1, ge=1, description="frames from one to the next in a clip")
    stride_between: float = Field(1.0, gt=0, description="start to start, in clip durations")
    scaling: Scaling = Field("auto", description="auto: as stored when scaled, else voxel-z")
    img_size: IntTriple | None = Field(
        None, description="grid in voxels; null pads each axis to a multiple of the patch"
    )
    augment: Literal["none", "affine", "intensity", "all"] = Field(
        "none", description="random changes of training clips; intensity is noise and blur"
    )
    augment_strength: float = Field(
        1.0, ge=1, le=10, description="above 1: wider turns, more noise, more often"
    )
    events: str | None = Field(
        None, description="table or folder of onset, duration, trial_type: windows get labels"
    )
    event_lag_s: float = Field(5.0, ge=0, description="seconds from an event to its window")

    @model_validator(mode="after")
    def _check_joined(self) -> FmriDataBlock:
        if not self.join:
            return self
        for key in ("path", "table", "events"):
            if getattr(self, key) is not None:
                raise UsageError(
                    f"data.{key} and data.join are both given",
                    hint="path and table of each dataset stand in its entry of data.join; "
                    "events label the windows of one dataset alone",
                )
        if len({entry.weight is None for entry in self.join}) > 1:
            bare = next(entry.path for entry in self.join if entry.weight is None)
            raise UsageError(
                f"data.join: {bare} has no weight while others have one",
                hint="give every dataset a weight, or none to draw every clip once an epoch",
            )
        return self


def clip_size(data: FmriDataBlock, info: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return H, W, D in voxels and T in frames of a clip.

    Args:
        data: The data block.
        info: What opened data tell; without `img_size` the block decides, else the published 96^3.
    """
    default = (*(data.img_size or _PUBLISHED_GRID), data.sequence_length)
    height, width, depth, frames = info.get("img_size", default)
    return int(height), int(width), int(depth), int(frames)


def objective_of(config: RunConfig, info: Mapping[str, Any]) -> str | None:
    """Return what a model is trained for.

    Args:
        config: The run's configuration.
        info: What opened data tell; without `objective` the task block decides.
    """
    objective: str | None = info.get("objective", config.task.objective)
    return objective


class FMambaConfig(ModelBlock):
    """Size an FMamba: a Mamba-2 model over the patches of a 4D clip."""

    embed_dim: int = Field(128, ge=8, description="E, width of a token")
    depth: int = Field(12, ge=1, description="Mamba-2 layers")
    d_state: int | None = Field(None, ge=1, description="N, state per head; null is E/4")
    d_conv: int = Field(4, ge=2, le=4)
    expand: int = Field(2, ge=1)
    patch_size: IntQuad = Field((6, 6, 6, 1), description="H, W, D in voxels, T in frames")
    pe_method: Literal["nerf", "ff", "cpe", "none"] = Field("nerf", description="position code")
    token_mask: Literal["per-sample", "union", "none"] = Field(
        "per-sample",
        description="drop patches without brain: in each clip, in all clips of a batch, or never",
    )
    chunk_size: int = Field(64, ge=1, description="tokens per chunk of the scan; speed only")
    bidirectional: bool = Field(
        False, description="also scan the reversed tokens and add both; for mim and heads"
    )
    pe_seed: int = Field(0, ge=0, description="of the fixed random projection of positions")
    mup_base_dim: int | None = Field(
        None,
        ge=8,
        description="muP: embed_dim that train.lr was tuned at; null is off",
    )

    @property
    def state_size(self) -> int:
        """Return N, a quarter of the width unless it is given."""
        return self.d_state if self.d_state is not None else max(1, self.embed_dim // 4)

    @field_validator("patch_size")
    @classmethod
    def _check_patch(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise UsageError(f"{list(value)} holds a size below 1", where="model.patch_size")
        return value


class FMambaHeadConfig(FMambaConfig):
    """Size an FMamba with a head over its tokens."""

    head: Literal["mlp", "conv", "mamba", "mamba_fn"] = Field(
        "mlp",
        description="mean token, strided convolutions, or Mamba-1 layers and the last token",
    )
    keep_dt_init: bool = Field(
        False, description="mamba_fn: start step sizes at 0.001-0.1, not at 0.69 as the family does"
    )


class FmriTaskBlock(TaskBlock):
    """Say what is learned from the clips."""

    target: str | None = Field(None, description="phenotype column, such as sex or age")
    target_type: Literal["classification", "regression"] | None = Field(
        None, description="null: numbers with more than ten values are regressed"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    target_scaling: Literal["standardize", "minmax"] = Field(
        "standardize", description="of a regressed number; fitted on the training part"
    )
    scale_by: Literal["subjects", "windows"] = Field(
        "subjects", description="windows weighs people by their clips, as the family's code does"
    )
    threshold: Literal["half", "validation"] = Field(
        "half", description="of two classes: 0.5, or what suits the validation part best"
    )
    site_column: str | None = Field("site", description="column of the per-site table, if present")
    baselines: Annotated[
        tuple[Literal["fc", "fc_partial", "fc_tangent", "roi"], ...], BeforeValidator(as_texts)
    ] = Field(("fc", "roi"), description="fitted on the training part and judged beside the model")
    explain_baselines: int = Field(
        4, ge=0, description="clips of others that gradients start from; 0 starts from nothing"
    )
    explain_steps: int = Field(
        4, ge=2, le=512, description="points of a piece of a line; pieces are halved as needed"
    )
    explain_smooth: float = Field(
        1.5, ge=0, le=10, description="voxels, SD of the smoothing of abs and snr maps; 0 is none"
    )
    explain_cubes: int = Field(100, ge=2, description="most cubes that occlusion takes away")
    atlas: str | None = Field(
        None, description="parcellation on the runs' grid for baselines; null takes cubes"
    )
    loss: Literal["mse", "l1", "smooth_l1", "huber", "charbonnier", "cauchy"] | None = Field(
        None, description="of ar and mim; null is mse for ar and l1 for mim"
    )
    ar_target: Literal["raw", "residual", "voxel"] = Field(
        "raw", description="ar: next patch, its change, or the patch scaled per voxel over the clip"
    )
    place_jumps: bool = Field(True, description="ar: also predict across jumps to the next place")
    mask_ratio: float = Field(0.6, gt=0, lt=1, description="mim: share of masked patches")
    mask_type: Literal["random", "tube", "temporal"] = Field("random", description="mim")
    mask_patch_size: IntQuad | None = Field(
        None, description="mim: patch that is masked as one; a multiple of the model's, or null"
    )
    contrast: Literal["instance", "local", "both"] = Field(
        "instance", description="contrastive: two clips of a person, two views of a clip, or both"
    )
    temperature: float = Field(0.1, gt=0, description="contrastive")
    projection_dim: int = Field(128, ge=1, description="contrastive: width of the compared vector")
