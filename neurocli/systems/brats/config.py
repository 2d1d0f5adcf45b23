"""Config blocks of the tumour room's models: every axis in which the networks differ.

All multi-branch networks are one class with these axes; a model name is a row of values. Channels
are told by one number, the width w of a branch's stem: a branch doubles its channels at each
stage, and what is fused goes on doubling the channels of all branches together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from neurocli.core.config.base import IntTuple, TextTuple, as_texts
from neurocli.core.config.run import ModelBlock
from neurocli.core.errors import UsageError
from neurocli.systems.brats.stages import STEM_NAMES, StagePlan, parse_stage, parse_stages

N_CLASSES = 4
"""Background, necrotic core, edema, enhancing tumour."""
_SWIN_STAGES = 4
Modality = Literal["t1", "t1ce", "t2", "flair"]
Modalities = Annotated[tuple[Modality, ...], BeforeValidator(as_texts)]
Norm = Literal["bn", "in", "gn"]


class SegmentationConfig(ModelBlock):
    """Say which modalities a network reads, by name."""

    modalities: Modalities = Field(
        ("flair", "t1ce"), description="read by name: their order in the data does not matter"
    )

    @model_validator(mode="after")
    def _check_modalities(self) -> SegmentationConfig:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise UsageError(
                f"'{','.join(self.modalities)}' must name each modality once",
                where="model.modalities",
            )
        return self


class BranchNetConfig(SegmentationConfig):
    """Put a U-shaped network together: branches, blocks per stage, channels, decoder."""

    width: int = Field(16, ge=4, multiple_of=4, description="channels of each branch's stem")
    branches: Literal["one", "per-modality"] = Field(
        "per-modality", description="one encoder for all modalities, or one for each"
    )
    branch_stages: int = Field(2, ge=1, description="stages of a branch behind its stem")
    stem: str = Field("conv", description="block at full size, as block[*repeats][@reduction]")
    encoder: TextTuple = Field(
        ("stride",), description="blocks of each branch, stages joined by /; one is for all"
    )
    fused: str = Field("stride", description="blocks behind the fusion, stages joined by /")
    fused_widths: IntTuple = Field(
        (8, 16), description="channels behind the fusion, in widths of all stems together"
    )
    decoder: IntTuple = Field(
        (8, 4, 1, 1), description="channels from deep to fine, in widths of all stems together"
    )
    decoder_attention: IntTuple = Field(
        (), description="reduction of a channel attention at each decoder stage; empty has none"
    )
    skip_width: int | None = Field(
        None, ge=1, description="narrow all skips to so many widths of all stems; null does not"
    )
    modality_attention: IntTuple = Field(
        (), description="stages behind which each modality is weighed by all; the stem is 1"
    )
    norm: Norm = Field("bn", description="batch, instance or group norm")
    act: Literal["relu", "relu6", "hardswish", "gelu", "silu"] = Field(
        "relu", description="activation of branches and what is fused"
    )
    expand: int = Field(4, ge=1, le=8, description="widening of inverted residuals")
    ffn_ratio: int = Field(2, ge=1, le=8, description="widening behind a large kernel")
    large_kernel: int = Field(13, ge=5, le=31, description="taps of replk along an axis, odd")
    mvit_fusion: Literal["3x3", "1x1"] = Field(
        "3x3", description="how mobilevit joins its halves; 1x1 has far fewer parameters"
    )
    deep_supervision: bool = Field(
        False, description="also predict from the coarser decoder stages, while training"
    )

    @model_validator(mode="after")
    def _check_axes(self) -> BranchNetConfig:
        if self.large_kernel % 2 == 0:
            raise UsageError(f"{self.large_kernel} is even", where="model.large_kernel")
        parse_stage(self.stem, STEM_NAMES, "model.stem")
        self.branch_plans()
        self.fused_plans()
        self._check_decoder()
        bad = [at for at in self.modality_attention if not 1 <= at <= self.branch_stages + 1]
        if bad or (self.modality_attention and self.n_branches < 2):
            raise UsageError(
                f"{list(self.modality_attention)} are no stages of branches of their own",
                where="model.modality_attention",
                hint=f"1 to {self.branch_stages + 1}, with branches per-modality",
            )
        return self

    def _check_decoder(self) -> None:
        for key, sizes in (("decoder", self.decoder), ("fused_widths", self.fused_widths)):
            if any(size < 1 for size in sizes):
                raise UsageError(f"{list(sizes)} holds a size below 1", where=f"model.{key}")
        if len(self.decoder) != self.n_stages - 1:
            raise UsageError(
                f"{len(self.decoder)} decoder stages for {self.n_stages} encoder stages",
                where="model.decoder",
                hint=f"{self.n_stages - 1} sizes: one for each halving",
            )
        if len(self.decoder_attention) not in (0, len(self.decoder)):
            raise UsageError(
                f"{len(self.decoder_attention)} reductions for {len(self.decoder)} decoder stages",
                where="model.decoder_attention",
            )

    @property
    def n_branches(self) -> int:
        """Return how many encoders run side by side."""
        return 1 if self.branches == "one" else len(self.modalities)

    @property
    def total_width(self) -> int:
        """Return the channels of all stems together."""
        return self.width * self.n_branches

    @property
    def n_stages(self) -> int:
        """Return the levels of the U, full size included."""
        return 1 + self.branch_stages + len(self.fused_widths)

    @property
    def divisor(self) -> int:
        """Return what the network divides each axis by; inputs are filled to a multiple of it."""
        return int(2 ** (self.n_stages - 1))

    def filled(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return the grid that the network works on: a multiple of `divisor`, never one voxel."""
        sizes = [-(-size // self.divisor) * self.divisor for size in grid]
        if all(size == self.divisor for size in sizes):
            sizes[-1] += self.divisor
        return tuple(sizes)

    def stem_plan(self) -> StagePlan:
        """Return the stage at full size."""
        return parse_stage(self.stem, STEM_NAMES, "model.stem")

    def branch_plans(self) -> list[tuple[StagePlan, ...]]:
        """Return the stages of each branch.

        Raises:
            UsageError: The encoder names other numbers of branches or stages.
        """
        texts = self.encoder * self.n_branches if len(self.encoder) == 1 else self.encoder
        if len(texts) != self.n_branches:
            raise UsageError(
                f"{len(texts)} branches are described, the network has {self.n_branches}",
                where="model.encoder",
                hint="one for each modality, or one for all",
            )
        return [parse_stages(text, self.branch_stages, "model.encoder") for text in texts]

    def fused_plans(self) -> tuple[StagePlan, ...]:
        """Return the stages behind the fusion; none for a network that fuses at its bottom."""
        if not self.fused_widths:
            return ()
        return parse_stages(self.fused, len(self.fused_widths), "model.fused")

    def skip_channels(self) -> list[int]:
        """Return the channels of every level's map, full size first, the bottom last."""
        joined = [self.total_width * 2**level for level in range(self.branch_stages + 1)]
        return joined + [self.total_width * size for size in self.fused_widths]


class UnetrConfig(SegmentationConfig):
    """Size a UNETR: a vision transformer whose layers feed a convolutional decoder."""

    img_size: IntTuple = Field(
        (128, 128, 128), description="voxels that positions are learned for; others interpolate"
    )
    feature_size: int = Field(16, ge=4)
    hidden_size: int = Field(768, ge=12)
    mlp_dim: int = Field(3072, ge=4)
    num_heads: int = Field(12, ge=1)

    @model_validator(mode="after")
    def _check_sizes(self) -> UnetrConfig:
        if len(self.img_size) != 3 or any(size < 16 or size % 16 for size in self.img_size):
            raise UsageError(
                f"{list(self.img_size)} are no three multiples of 16", where="model.img_size"
            )
        if self.hidden_size % self.num_heads:
            raise UsageError(
                f"{self.hidden_size} is not divided by {self.num_heads} heads",
                where="model.num_heads",
            )
        return self


class SwinUnetrConfig(SegmentationConfig):
    """Size a Swin UNETR: attention in shifted windows, convolutional decoder."""

    feature_size: int = Field(24, ge=12, multiple_of=12)
    depths: IntTuple = (2, 2, 2, 2)
    num_heads: IntTuple = (3, 6, 12, 24)
    window_size: int = Field(7, ge=2)
    use_v2: bool = Field(False, description="a residual convolution before each stage")

    @model_validator(mode="after")
    def _check_stages(self) -> SwinUnetrConfig:
        for key, sizes in (("depths", self.depths), ("num_heads", self.num_heads)):
            if len(sizes) != _SWIN_STAGES or min(sizes) < 1:
                raise UsageError(
                    f"{list(sizes)} are no {_SWIN_STAGES} sizes of 1 or more",
                    where=f"model.{key}",
                    hint=f"one for each of {_SWIN_STAGES} stages",
                )
        for level, heads in enumerate(self.num_heads):
            width = self.feature_size * 2**level
            if width % heads:
                raise UsageError(
                    f"{heads} heads do not divide the {width} channels of stage {level + 1}",
                    where="model.num_heads",
                )
        return self


class MobileUnetrConfig(SegmentationConfig):
    """Size a MobileUNETR: MobileViT encoder, light decoder of the same blocks."""

    variant: Literal["xxs", "xs", "s"] = Field("s", description="widths of encoder and decoder")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the output layer")


class MobileUnetr2dConfig(MobileUnetrConfig):
    """Size the 2D MobileUNETR, which reads slices."""

    slice_axis: Literal[0, 1, 2] = Field(
        2, description="axis of a volume along which slices are taken; 2 is axial"
    )
