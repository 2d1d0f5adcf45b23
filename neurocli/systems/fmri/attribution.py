"""Which voxels carry an output: gradients integrated along paths, and cubes taken away.

Integrated gradients follow the straight line from a baseline to the clip; what the voxels get adds
up to the difference of the two outputs, and how far it does not is the measure of the numerical
error. Several baselines give the mean over their lines. Occlusion puts a baseline into one cube
after another and tells how much the output falls.

An output changes along a line in few places, where the model changes its mind. The outputs at both
ends of a piece of a line tell what its gradients must add up to, so pieces are halved where they
do not, and the points go where they are needed.

Source: Sundararajan et al. 2017 (integrated gradients), Erion et al. 2021 (many baselines), Zeiler
and Fergus 2014 (occlusion).
Letters: C channel, H W D space, T time, K lines, R cubes.
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
SHORTEST = 1 / 128  # piece of a line that is not halved again
_SMALL = 1e-6  # outputs nearer to each other than this cannot be told from rounding


@dataclass(frozen=True)
class Attribution:
    """Hold what each voxel of a clip contributes.

    Args:
        values: (C, H, W, D, T) float64; their sum is near `output - baseline`.
        lines: (K, C, H, W, D) float64, the same of every line, summed over time; `values` is the
            mean over lines.
        output: Of the clip.
        baseline: Of the baseline, the mean over baselines.
        error: |sum of values - difference| as a share of the difference.
        steps: Gradients that were taken, over all lines.
    """

    values: Tensor
    lines: Tensor
    output: float
    baseline: float
    error: float
    steps: int


def integrated_gradients(
    output: Output,
    clip: Tensor,
    baselines: Sequence[Tensor],
    *,
    points: int = 4,
    tolerance: float = TOLERANCE,
) -> Attribution:
    """Integrate the gradient of an output along the lines from baselines to a clip.

    Args:
        output: The model's number; each clip's must not depend on the other clips.
        clip: (C, H, W, D, T).
        baselines: The same shape, at least one.
        points: Gauss-Legendre points of a piece of a line, which go through the model at once. A
            line is one piece at first.
        tolerance: Wanted error as a share of the difference of the outputs.

    Returns:
        The mean over the lines; its error tells whether the tolerance was met with pieces of
        `SHORTEST`.
    """
    with torch.no_grad():
        end = float(output(clip.unsqueeze(0)))
        starts = [float(output(baseline.unsqueeze(0))) for baseline in baselines]
    start = sum(starts) / len(starts)
    values = torch.zeros(clip.shape, dtype=torch.float64, device=clip.device)
    lines, steps = [], 0
    for baseline, own_start in zip(baselines, starts, strict=True):
        line = _Line(output, clip, baseline, points)
        whole = line.integral(own_start, end, tolerance * abs(end - start))
        values += whole / len(baselines)
        lines.append(whole.sum(-1))
        steps += line.steps
    error = abs(float(values.sum()) - (end - start)) / max(abs(end - start), _SMALL)
    return Attribution(values, torch.stack(lines), end, start, error, steps)


class _Line:
    """Integrate along one line; alpha is 0 at the baseline and 1 at the clip."""

    def __init__(self, output: Output, clip: Tensor, baseline: Tensor, points: int) -> None:
        self._output, self._baseline, self._change = output, baseline, clip - baseline
        places, weights = np.polynomial.legendre.leggauss(points)
        self._places = torch.as_tensor((places + 1) / 2, device=clip.device)
        self._shares = torch.as_tensor(weights / 2, device=clip.device)
        self.steps = 0

    def integral(self, start: float, end: float, allowed: float) -> Tensor:
        """Return what the voxels get, (C, H, W, D, T) float64.

        The gaps of all pieces add up to what is allowed at most, whatever their signs: a piece may
        use half of what the pieces before it left.

        Args:
            start: Output of the baseline.
            end: Output of the clip.
            allowed: Gap between the sum of the values and the difference of the outputs.
        """
        total = torch.zeros(self._change.shape, dtype=torch.float64, device=self._change.device)
        rounding = _SMALL * max(abs(start), abs(end))
        pieces = [(0.0, 1.0, start, end)]
        while pieces:
            first, last, at_first, at_last = pieces.pop()
            values = self._piece(first, last)
            gap = abs(float(values.sum()) - (at_last - at_first))
            if gap <= max(allowed / 2, rounding) or last - first <= SHORTEST:
                total += values
                allowed -= min(gap, allowed)
                continue
            middle = (first + last) / 2
            at_middle = self._at(middle)
            pieces += [(middle, last, at_middle, at_last), (first, middle, at_first, at_middle)]
        return total

    def _at(self, alpha: float) -> float:
        with torch.no_grad():
            return float(self._output((self._baseline + alpha * self._change).unsqueeze(0)))

    def _piece(self, first: float, last: float) -> Tensor:
        alphas = (first + (last - first) * self._places).to(self._change.dtype)
        with torch.enable_grad():
            between = self._baseline + alphas.view(-1, *[1] * self._change.ndim) * self._change
            between.requires_grad_()
            (gradient,) = torch.autograd.grad(self._output(between).sum(), between)
        self.steps += len(alphas)
        mean = torch.einsum("b,b...->...", self._shares, gradient.double())
        return (last - first) * mean * self._change.double()


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
