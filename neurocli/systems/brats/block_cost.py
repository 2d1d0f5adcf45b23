"""What the blocks of the encoders and decoders cost, in closed form; no torch.

The same blocks as in `core/nn/blocks3d`, layer by layer: learned numbers, and multiply-adds of
convolutions, linear layers and attention; norms, activations and pooling are free. A test holds
every sum equal to the built network and to torch's counter.

Letters: V voxels of a map, k taps along an axis, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from neurocli.systems.brats.stages import StagePlan

Grid = tuple[int, ...]

_RATES = 3
_VIT_DEPTH = 2
_VIT_PATCH = 2
_WIDENING = 1.5
_CONVNEXT_WIDENING = 4
_CONVNEXT_KERNEL = 7
_LARGE_SHUFFLE = 7
_DILATED_SHUFFLE = 5


@dataclass(frozen=True)
class Widening:
    """Hold the axes of a network that change what its blocks cost.

    Args:
        expand: Of inverted residuals.
        ffn_ratio: Behind a large kernel.
        large_kernel: Taps of the large kernel along an axis.
        fusion: How a MobileViT block joins its halves.
    """

    expand: int
    ffn_ratio: int
    large_kernel: int
    fusion: str


class Tally:
    """Add up learned numbers and multiply-adds.

    Attributes:
        params: Learned numbers.
        macs: Multiply-adds of a forward pass of one sample.
        first_macs: Those of layers that read the input itself, whose gradient nobody needs.
    """

    def __init__(self) -> None:
        self.params = 0
        self.macs = 0
        self.first_macs = 0

    def add(self, other: Tally) -> None:
        """Add what another tally holds."""
        self.params += other.params
        self.macs += other.macs
        self.first_macs += other.first_macs

    def conv(self, c_in: int, c_out: int, kernel: int, grid: Grid, *, bias: bool = False) -> None:
        """Count a dense convolution by its output grid."""
        self.params += c_in * c_out * kernel**3 + (c_out if bias else 0)
        self.macs += c_in * c_out * kernel**3 * prod(grid)

    def depthwise(self, channels: int, kernel: int, grid: Grid, *, bias: bool = False) -> None:
        """Count a depthwise convolution by its output grid, as the sum over taps that it is."""
        self.params += channels * (kernel**3 + bias)
        self.macs += channels * kernel**3 * prod(grid)

    def norm(self, *channels: int) -> None:
        """Count norms: a scale and an offset per channel."""
        self.params += 2 * sum(channels)

    def conv_norm(self, c_in: int, c_out: int, kernel: int, grid: Grid) -> None:
        """Count a convolution and its norm."""
        self.conv(c_in, c_out, kernel, grid)
        self.norm(c_out)

    def depthwise_norm(self, channels: int, kernel: int, grid: Grid) -> None:
        """Count a depthwise convolution and its norm."""
        self.depthwise(channels, kernel, grid)
        self.norm(channels)

    def linear(self, c_in: int, c_out: int, rows: int, *, bias: bool = True) -> None:
        """Count a linear layer over rows."""
        self.params += c_in * c_out + (c_out if bias else 0)
        self.macs += c_in * c_out * rows

    def double_conv(self, c_in: int, c_out: int, grid: Grid) -> None:
        """Count two 3x3x3 convolutions with their norms."""
        self.conv_norm(c_in, c_out, 3, grid)
        self.conv_norm(c_out, c_out, 3, grid)

    def attention(self, channels: int, reduction: int) -> None:
        """Count a channel attention: one pair of layers over the mean and over the maximum."""
        hidden = max(1, channels // reduction)
        self.params += 2 * channels * hidden
        self.macs += 4 * channels * hidden

    def mark_first(self, c_in: int, c_out: int, kernel: int, grid: Grid) -> None:
        """Remember a convolution that was counted as one that reads the input itself."""
        self.first_macs += c_in * c_out * kernel**3 * prod(grid)


def _residuals(
    tally: Tally, c_in: int, c_out: int, grids: tuple[Grid, Grid], plan: StagePlan, wide: Widening
) -> None:
    """Count a chain of inverted residuals; the first one reads `grids[0]`."""
    before, grid = grids
    for place in range(plan.repeats):
        source = c_out if place else c_in
        hidden = max(c_out, source * wide.expand)
        if hidden != source:
            tally.conv_norm(source, hidden, 1, grid if place else before)
        rates = plan.rates if place == plan.repeats - 1 else (1,)
        for _ in rates:
            tally.depthwise_norm(hidden, 3, grid)
        if plan.reduction is not None:
            tally.attention(hidden, plan.reduction)
        tally.conv_norm(hidden, c_out, 1, grid)


def _ghost(tally: Tally, c_in: int, c_out: int, grid: Grid) -> None:
    half = c_out // 2
    tally.conv_norm(c_in, half, 3, grid)
    tally.depthwise_norm(half, 3, grid)


def _shuffle_unit(tally: Tally, channels: int, grid: Grid, block: str) -> None:
    half = channels // 2
    if block == "shufflenetv2_dilated":
        kernel, times = _DILATED_SHUFFLE, _RATES
    else:
        kernel, times = (_LARGE_SHUFFLE if block == "shufflenetv2_lk" else 3), 2
    for _ in range(times):
        tally.depthwise_norm(half, kernel, grid)
        tally.conv_norm(half, half, 1, grid)


def _convnext(tally: Tally, channels: int, grid: Grid) -> None:
    hidden = _CONVNEXT_WIDENING * channels
    tally.depthwise(channels, _CONVNEXT_KERNEL, grid, bias=True)
    tally.norm(channels)
    tally.conv(channels, hidden, 1, grid, bias=True)
    tally.conv(hidden, channels, 1, grid, bias=True)
    tally.params += channels  # the scale of each channel


def _transition(tally: Tally, c_in: int, c_out: int, before: Grid, grid: Grid) -> None:
    tally.conv_norm(c_in, c_out, 1, before)
    tally.depthwise_norm(c_out, 3, grid)


def _replk(tally: Tally, channels: int, grid: Grid, wide: Widening) -> None:
    hidden = round(_WIDENING * channels)
    tally.norm(channels)
    tally.conv_norm(channels, hidden, 1, grid)
    tally.depthwise_norm(hidden, wide.large_kernel, grid)
    tally.depthwise_norm(hidden, 3, grid)
    tally.conv_norm(hidden, channels, 1, grid)
    tally.norm(channels)
    tally.conv_norm(channels, channels * wide.ffn_ratio, 1, grid)
    tally.conv_norm(channels * wide.ffn_ratio, channels, 1, grid)


def _mobilevit(tally: Tally, channels: int, grid: Grid, wide: Widening) -> None:
    tally.conv_norm(channels, channels, 3, grid)
    tally.conv_norm(channels, channels, 1, grid)
    places = _VIT_PATCH ** len(grid)
    n_tokens = prod(-(-size // _VIT_PATCH) for size in grid)
    for _ in range(_VIT_DEPTH):
        tally.norm(channels, channels)
        tally.linear(channels, 3 * channels, places * n_tokens)
        tally.macs += 2 * places * n_tokens**2 * channels
        tally.linear(channels, channels, places * n_tokens)
        tally.linear(channels, 2 * channels, places * n_tokens)
        tally.linear(2 * channels, channels, places * n_tokens)
    tally.conv_norm(channels, channels, 1, grid)
    tally.conv_norm(2 * channels, channels, 1 if wide.fusion == "1x1" else 3, grid)


def stem_cost(plan: StagePlan, c_in: int, c_out: int, grid: Grid, wide: Widening) -> Tally:
    """Return what a stem costs; its first convolution reads the input itself.

    Args:
        plan: The stage.
        c_in: Modalities it reads.
        c_out: Channels it gives.
        grid: Voxels of its map.
        wide: The network's axes.
    """
    tally = Tally()
    block = plan.block
    if block == "conv":
        tally.double_conv(c_in, c_out, grid)
        tally.mark_first(c_in, c_out, 3, grid)
    elif block == "mobilenetv2":
        _residuals(tally, c_in, c_out, (grid, grid), plan, wide)
        hidden = max(c_out, c_in * wide.expand)
        if hidden != c_in:
            tally.mark_first(c_in, hidden, 1, grid)
        else:  # nothing is widened: the depthwise convolution comes first
            tally.mark_first(1, hidden, 3, grid)
    elif block == "ghost":
        _ghost(tally, c_in, c_out // 2, grid)
        _ghost(tally, c_out // 2, c_out, grid)
        tally.mark_first(c_in, c_out // 4, 3, grid)
    elif block == "convnext":
        tally.conv(c_in, c_out, 3, grid, bias=True)
        _convnext(tally, c_out, grid)
        tally.mark_first(c_in, c_out, 3, grid)
    else:
        tally.conv_norm(c_in, c_out, 3, grid)
        _shuffle_unit(tally, c_out, grid, block)
        tally.mark_first(c_in, c_out, 3, grid)
    return tally


def _down_ghost(tally: Tally, c_in: int, c_out: int, grid: Grid) -> None:
    _ghost(tally, c_in, c_out // 2, grid)
    _ghost(tally, c_out // 2, c_out, grid)
    tally.depthwise_norm(c_in, 3, grid)
    tally.conv_norm(c_in, c_out, 1, grid)


def _down_shuffle(
    tally: Tally, c_in: int, c_out: int, grids: tuple[Grid, Grid], block: str
) -> None:
    before, grid = grids
    kernel = _LARGE_SHUFFLE if block == "shufflenetv2_lk" else 3
    tally.conv_norm(c_in, c_in, 1, before)
    for _ in range(2):
        tally.depthwise_norm(c_in, kernel, grid)
        tally.conv_norm(c_in, c_out // 2, 1, grid)
    _shuffle_unit(tally, c_out, grid, block)


def down_cost(plan: StagePlan, c_in: int, c_out: int, before: Grid, wide: Widening) -> Tally:
    """Return what a stage that halves the grid costs.

    Args:
        plan: The stage.
        c_in: Channels it reads.
        c_out: Channels it gives.
        before: Voxels of the map it reads, even along each axis.
        wide: The network's axes.
    """
    tally, block = Tally(), plan.block
    grid = tuple(size // 2 for size in before)
    if block in ("conv", "stride"):
        tally.double_conv(c_in, c_out, grid)
    elif block == "dilated":
        tally.double_conv(c_in, c_out, grid)
        tally.conv_norm(c_out, c_out, 3, grid)
    elif block in ("replk", "mobilevit"):
        _transition(tally, c_in, c_out, before, grid)
        (_replk if block == "replk" else _mobilevit)(tally, c_out, grid, wide)
    elif block == "mobilenetv2":
        _residuals(tally, c_in, c_out, (before, grid), plan, wide)
    elif block == "ghost":
        _down_ghost(tally, c_in, c_out, grid)
    elif block == "convnext":
        tally.norm(c_in)
        tally.conv(c_in, c_out, 2, grid, bias=True)
        _convnext(tally, c_out, grid)
        _convnext(tally, c_out, grid)
    else:
        _down_shuffle(tally, c_in, c_out, (before, grid), block)
    return tally


def up_cost(
    c_in: int,
    c_skip: int,
    c_out: int,
    before: Grid,
    *,
    reduction: int | None,
    c_squeezed: int | None,
) -> Tally:
    """Return what a decoder stage costs.

    Args:
        c_in: Channels from below.
        c_skip: Channels of the skip.
        c_out: Channels it gives.
        before: Voxels of the map from below.
        reduction: Of the channel attention over what was joined; None has none.
        c_squeezed: Channels the skip is narrowed to; None leaves it.
    """
    tally = Tally()
    grid = tuple(2 * size for size in before)
    # One block of 2x2x2 outputs per voxel from below.
    tally.params += 8 * c_in * (c_in // 2) + c_in // 2
    tally.macs += 8 * c_in * (c_in // 2) * prod(before)
    if c_squeezed is not None:
        tally.conv_norm(c_skip, c_squeezed, 1, grid)
        c_skip = c_squeezed
    joined = c_skip + c_in // 2
    if reduction is not None:
        tally.attention(joined, reduction)
    tally.double_conv(joined, c_out, grid)
    return tally


def total(stages: Mapping[str, Tally]) -> Tally:
    """Return the sum over all stages."""
    result = Tally()
    for tally in stages.values():
        result.add(tally)
    return result
