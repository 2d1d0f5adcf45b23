"""Where a network looks for a region: class activation maps by gradients, in 3D.

After Selvaraju et al. 2017 (arXiv 1610.02391), for segmentation: the score is the sum of the
region's logits over the voxels of that region, predicted or labelled. A mean over the volume would
explain the background, which fills it. A map is the positive part of a stage's channels, each
weighted by the spatial mean of its gradient, brought to the volume's grid by trilinear
interpolation. In a U-net skips do much of the work, and a mean over space says little of a small
region; weighting each voxel by its own gradient (Draelos and Carin 2020, arXiv 2011.08891) is the
other choice. A network with branches gives one map for each branch, on one scale, so that they
can be compared.

Letters: B volumes, C modalities, K classes, D H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.infer.sliding_window import sliding_window_logits
from neurocli.core.metrics.segmentation import REGIONS
from neurocli.core.names import lookup
from neurocli.systems.brats.models.branchnet import BranchNet
from neurocli.systems.brats.models.routing import Routed, cut_grid

SMALLEST_GRID = 8**3
"""Voxels below which a stage is too coarse to show a place."""


WEIGHTINGS = {
    "mean": "channels by the spatial mean of their gradient",
    "voxel": "each voxel by its own gradient",
}


@dataclass(frozen=True)
class CamResult:
    """Hold the maps of one region.

    Args:
        region: wt, tc or et.
        maps: (D,H,W) by stage, from 0 to 1 over all stages together.
        n_voxels: Voxels of the region that a window or more explained; 0 leaves all maps at 0.
        scale: What 1 stands for in the network's own units.
    """

    region: str
    maps: dict[str, Tensor]
    n_voxels: int
    scale: float


def default_stages(model: nn.Module, grid: Sequence[int]) -> list[str]:
    """Return the deepest stage of each branch that is fine enough to show a place.

    Args:
        model: A `BranchNet`; other networks have no such names.
        grid: Voxels of the volume or of a window.

    Raises:
        UsageError: The stages of this network must be named.
    """
    if not isinstance(model, BranchNet):
        raise UsageError(
            f"which layers of a {type(model).__name__} are explained must be said",
            where="stages",
            hint="names of model.named_modules(), such as 'encoder.stages.3'",
        )
    filled = model.config.filled(grid)
    fine = [
        level
        for level in range(model.config.branch_stages + 1)
        if prod(size // 2**level for size in filled) >= SMALLEST_GRID
    ]
    return [names[max(fine, default=0)] for names in model.branch_names]


def grad_cam(
    model: nn.Module,
    volume: Tensor,
    region: str = "et",
    *,
    stages: Sequence[str] | None = None,
    labels: Tensor | None = None,
    weighting: str = "mean",
    roi: Sequence[int] | None = None,
    overlap: float = 0.5,
) -> CamResult:
    """Explain where a network finds a region.

    Args:
        model: Gives logits (1,K,D,H,W); it is put into evaluation mode.
        volume: (C,D,H,W), normalised as for training.
        region: wt, tc or et.
        stages: Names of modules whose outputs (1,C',d,h,w) are explained; None takes
            `default_stages`.
        labels: (D,H,W) classes whose region is explained; None takes what the model predicts.
        weighting: A name of `WEIGHTINGS`.
        roi: Explain windows of this size and blend them; None explains the volume in one pass.
        overlap: Share of a window that the next one repeats.

    Returns:
        One map for each stage.

    Raises:
        UsageError: No such region, stage or weighting.
    """
    classes = lookup("region", region, REGIONS)
    lookup("weighting", weighting, WEIGHTINGS)
    names = list(stages or default_stages(model, roi or volume.shape[1:]))
    explainer = _Explainer(model.eval(), names, classes, weighting)
    if roi is None:
        found = explainer(volume[None], None if labels is None else labels[None, None])
    else:
        # Labels ride along as one more channel, cut into the same windows.
        stacked = volume if labels is None else torch.cat([volume, labels[None].to(volume)])
        explain = explainer if labels is None else explainer.split
        found = sliding_window_logits(
            stacked[None], explain, tuple(roi), overlap, "gaussian", skip_empty=False
        )
    maps, n_voxels = found[0, :-1], int((found[0, -1] > 0).sum())
    largest = float(maps.max())
    scaled = maps / largest if largest > 0 else maps
    return CamResult(region, dict(zip(names, scaled, strict=True)), n_voxels, largest)


class _Explainer:
    """Give the unscaled maps of a window, one channel per stage, and last what was explained."""

    def __init__(
        self, model: nn.Module, stages: Sequence[str], classes: Sequence[int], weighting: str
    ) -> None:
        known = dict(model.named_modules())
        self.modules = [lookup("stage", name, known) for name in stages]
        self.model, self.classes = model, list(classes)
        self.by_voxel = weighting == "voxel"

    def split(self, stacked: Tensor) -> Tensor:
        """Explain a window whose last channel holds labels."""
        return self(stacked[:, :-1], stacked[:, -1:])

    def __call__(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        # A caller who predicts has switched gradients off.
        with torch.inference_mode(False), torch.enable_grad():
            return self._maps(x.clone().requires_grad_(), labels)

    def _maps(self, x: Tensor, labels: Tensor | None) -> Tensor:
        outputs: dict[nn.Module, Tensor] = {}

        def keep(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs[module] = output

        hooks = [module.register_forward_hook(keep) for module in self.modules]
        try:
            logits = self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        found = logits.detach().argmax(1, keepdim=True) if labels is None else labels
        inside = torch.isin(found, torch.tensor(self.classes, device=x.device).to(found))
        if not inside.any():
            return x.new_zeros(1, len(self.modules) + 1, *x.shape[2:])
        score = (logits[:, self.classes] * inside).sum()
        features = [outputs[module] for module in self.modules]
        gradients = torch.autograd.grad(score, features)
        maps = []
        for part, gradient in zip(features, gradients, strict=True):
            weights = gradient if self.by_voxel else gradient.mean((2, 3, 4), keepdim=True)
            coarse = (weights * part).sum(1, keepdim=True).clamp_min(0).detach()
            maps.append(_spread(coarse, x.shape[2:], self._voxels(x.shape[2:], coarse)))
        return torch.cat([*maps, inside.to(maps[0])], 1)

    def _voxels(self, grid: Sequence[int], coarse: Tensor) -> int:
        """Return how many voxels of the input a voxel of a stage covers along each axis."""
        # A network fills its input behind each axis, so a stage covers the filled grid.
        if isinstance(self.model, BranchNet):
            grid = self.model.config.filled(grid)
        sizes = zip(grid, coarse.shape[2:], strict=True)
        times = max(1, *(-(-size // part) for size, part in sizes))
        # The room's other networks fill too, and all of them halve.
        return 1 << (times - 1).bit_length() if isinstance(self.model, Routed) else times


def _spread(coarse: Tensor, grid: Sequence[int], times: int) -> Tensor:
    """Return a stage's map (1,1,d,h,w), each voxel `times` wide, on the grid of the input."""
    covered = [part * times for part in coarse.shape[2:]]
    fine = F.interpolate(coarse, size=covered, mode="trilinear", align_corners=False)
    return cut_grid(fine, grid)


def share_inside(cam: Tensor, mask: Tensor, *, dilate: int = 2) -> float:
    """Return the share of a map that lies in a region or next to it.

    Args:
        cam: (D,H,W), >= 0.
        mask: (D,H,W), true in the region.
        dilate: Voxels around the region that still count.

    >>> share_inside(torch.ones(1, 1, 4), torch.tensor([[[True, False, False, False]]]), dilate=1)
    0.5
    """
    inside = mask.detach().cpu().numpy().astype(bool)
    if dilate:
        inside = ndimage.binary_dilation(inside, iterations=dilate)
    total = float(cam.sum())
    return float(cam[torch.from_numpy(inside).to(cam.device)].sum()) / total if total > 0 else 0.0
