"""Depthwise 13^3 convolution of large-kernel networks, forwards and backwards, against torch.

Run: `python tests/bench/depthwise.py --json`. One sample, float32, one thread, CPU time in turns.
A ratio is the time of `torch.nn.functional.conv3d` over ours. Errors of gradients are against
float64, relative to the largest gradient. The second part is a dense convolution that torch would
take on its slow path (one sample, C*D*H <= 20480).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import arguments, seconds_in_turns, show
from torch import Tensor
from torch.nn import functional

from neurocli.core.nn.conv3d import conv3d
from neurocli.core.nn.depthwise3d import depthwise_conv3d

KERNEL, PADDING = 13, (6, 6, 6)
SHAPES = ((64, 16), (32, 32))
# (channels in, out, grid) of layers below the limit.
DENSE = ((4, 16, 64), (64, 64, 16))


def ours(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve by our function."""
    return depthwise_conv3d(x, weight, padding=PADDING)


def peer(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve by torch's function."""
    return functional.conv3d(x, weight, padding=PADDING, groups=weight.shape[0])


def gradients(
    convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of a sum of squares."""
    y = convolve(x, weight)
    return torch.autograd.grad(y, (x, weight), y.detach())


def error(x: Tensor, weight: Tensor) -> float:
    """Return the largest error of a gradient, relative to the largest gradient in float64."""
    exact = gradients(peer, *(part.detach().double().requires_grad_() for part in (x, weight)))
    found = gradients(ours, x, weight)
    return max(
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip(found, exact, strict=True)
    )


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {"threads": 1, "kernel": KERNEL}
    for channels, grid in SHAPES:
        x = torch.randn(1, channels, grid, grid, grid, requires_grad=True)
        weight = torch.randn(channels, 1, KERNEL, KERNEL, KERNEL, requires_grad=True)
        times = seconds_in_turns(
            {
                "ours": lambda x=x, w=weight: gradients(ours, x, w),
                "torch": lambda x=x, w=weight: gradients(peer, x, w),
            },
            options.runs,
        )
        name = f"{channels}ch_{grid}"
        ratios[f"torch_train_{name}"] = times["torch"] / times["ours"]
        figures |= {f"{who}_{name}_ms": 1e3 * taken for who, taken in times.items()}
        if grid <= 16:  # float64 on the larger grid takes minutes
            figures[f"gradient_error_{name}"] = error(x, weight)
    for c_in, c_out, grid in DENSE:
        x = torch.randn(1, c_in, grid, grid, grid, requires_grad=True)
        weight = torch.randn(c_out, c_in, 3, 3, 3, requires_grad=True)
        times = seconds_in_turns(
            {
                "ours": lambda x=x, w=weight: gradients(
                    lambda a, b: conv3d(a, b, padding=(1, 1, 1)), x, w
                ),
                "torch": lambda x=x, w=weight: gradients(
                    lambda a, b: functional.conv3d(a, b, padding=1), x, w
                ),
            },
            2 * options.runs,
        )
        ratios[f"torch_dense_{c_in}_{c_out}_{grid}"] = times["torch"] / times["ours"]
    show("depthwise", ratios, figures, options.json)


if __name__ == "__main__":
    main()
