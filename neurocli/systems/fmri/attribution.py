"""Which voxels carry an output: gradients integrated along paths, and cubes taken away.

Integrated gradients follow the straight line from a baseline to the clip; what the voxels get adds
up to the difference of the two outputs, and how far it does not is the measure of the numerical
error. Several baselines give the mean over their lines. Occlusion puts a baseline into one cube
after another and tells how much the output falls.

Source: Sundararajan et al. 2017 (integrated gradients), Erion et al. 2021 (many baselines), Zeiler
and Fergus 2014 (occlusion).
Letters: C channel, H W D space, T time, R cubes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Output = Callable[[Tensor], Tensor]
"""Takes clips (b, C, H, W, D, T) and returns one number of each, (b,)."""

TOLERANCE = 0.01
MAX_STEPS = 512
_SMALL = 1e-6  # outputs nearer to each other than this cannot be told from rounding


@dataclass(frozen=True)
class Attribution:
    """Hold what each voxel of a clip contributes.

    Args:
        values: (C, H, W, D, T) float64; their sum is near `output - baseline`.
        output: Of the clip.
        baseline: Of the baseline, the mean over baselines.
        error: |sum of values - difference| as a share of the difference.
        steps: Points of a line.
    """

    values: Tensor
    output: float
    baseline: float
    error: float
    steps: int


def integrated_gradients(
    output: Output,
    clip: Tensor,
    baselines: Sequence[Tensor],
    *,
    steps: int = 32,
    batch: int = 4,
    tolerance: float = TOLERANCE,
) -> Attribution:
    """Integrate the gradient of an output along the lines from baselines to a clip.

    Gauss-Legendre points, as many on each line; their number doubles until the error is small.

    Args:
        output: The model's number; each clip's must not depend on the other clips.
        clip: (C, H, W, D, T).
        baselines: The same shape, at least one.
        steps: Points of a line at first.
        batch: Points at once.
        tolerance: Wanted error as a share of the difference of the outputs.

    Returns:
        The mean over the lines; its error tells whether the tolerance was met by `MAX_STEPS`.
    """
    with torch.no_grad():
        end = float(output(clip.unsqueeze(0)))
        starts = [float(output(baseline.unsqueeze(0))) for baseline in baselines]
    start = sum(starts) / len(starts)
    while True:
        values = torch.zeros(clip.shape, dtype=torch.float64, device=clip.device)
        for baseline in baselines:
            values += _integral(output, clip, baseline, steps, batch) / len(baselines)
        error = abs(float(values.sum()) - (end - start)) / max(abs(end - start), _SMALL)
        if error <= tolerance or steps * 2 > MAX_STEPS:
            return Attribution(values, end, start, error, steps)
        steps *= 2


def _integral(output: Output, clip: Tensor, baseline: Tensor, steps: int, batch: int) -> Tensor:
    points, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.as_tensor((points + 1) / 2, dtype=clip.dtype, device=clip.device)
    shares = torch.as_tensor(weights / 2, dtype=torch.float64, device=clip.device)
    change = clip - baseline
    total = torch.zeros(clip.shape, dtype=torch.float64, device=clip.device)
    for first in range(0, steps, batch):
        alpha = alphas[first : first + batch].view(-1, *[1] * clip.ndim)
        with torch.enable_grad():
            between = (baseline + alpha * change).requires_grad_()
            (gradient,) = torch.autograd.grad(output(between).sum(), between)
        total += torch.einsum("b,b...->...", shares[first : first + batch], gradient.double())
    return total * change.double()


def occlusion(
    output: Output, clip: Tensor, baseline: Tensor, cubes: Tensor, *, batch: int = 4
) -> Tensor:
    """Return how much the output falls when the baseline stands in one cube, at all times.

    Args:
        output: The model's number; each clip's must not depend on the other clips.
        clip: (C, H, W, D, T).
        baseline: The same shape.
        cubes: (H, W, D) whole numbers: 0 is never taken away, else 1..R.
        batch: Cubes at once.

    Returns:
        (R,) float64: output of the whole clip minus that without the cube.
    """
    n_cubes = int(cubes.max())
    without: list[Tensor] = []
    with torch.no_grad():
        whole = output(clip.unsqueeze(0)).double()
        for first in range(1, n_cubes + 1, batch):
            names = torch.arange(first, min(first + batch, n_cubes + 1), device=clip.device)
            gone = cubes == names.view(-1, 1, 1, 1)
            clips = torch.where(gone[:, None, ..., None], baseline, clip)
            without.append(output(clips).double())
    return whole - torch.cat(without)
