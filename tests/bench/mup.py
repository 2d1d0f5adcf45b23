"""Where the best learning rate of FMamba lies at several widths, with muP and without.

Run: `python tests/bench/mup.py --json`. Two layers, next-token training on clips whose voxels are
first-order autoregressive in time, fresh ones in every step, AdamW at a constant rate; every rate
of a grid in steps of two, at every width, one thread. `loss_with_the_narrow_rate` is the widest
model's loss above the lowest that can be reached, at the rate that is best for the narrowest one:
without muP over with it, so above 1 means that muP carries the rate over. `..._drift_octaves` says
how far the best rate moves from the narrowest to the widest model.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from measure import arguments, show
from torch import Tensor

from neurocli.core.config.run import RunConfig, TrainBlock
from neurocli.core.engine.optim import build_optimizer
from neurocli.systems.fmri.config import FMambaConfig, FmriDataBlock, FmriTaskBlock
from neurocli.systems.fmri.models.build import build
from neurocli.systems.fmri.models.fmamba import FMamba

WIDTHS, BASE = (32, 64, 128, 256), 32
EXPONENTS = range(-10, -2)
N_STEPS, N_CLIPS, MEMORY = 40, 4, 0.9


def model_of(width: int, base: int | None) -> FMamba:
    """Return a fresh model."""
    torch.manual_seed(0)
    config = RunConfig(
        model=FMambaConfig(
            name="fmamba", embed_dim=width, depth=2, patch_size=(2, 2, 2, 1), token_mask="none",
            mup_base_dim=base,
        ),
        data=FmriDataBlock(sequence_length=8),
        task=FmriTaskBlock(objective="ar"),
    )  # fmt: skip
    return cast(FMamba, build(config, {"img_size": [4, 4, 4, 8], "scaling": "none"}))


def clips(generator: torch.Generator) -> Tensor:
    """Return clips (B,1,4,4,4,8) of unit variance, autoregressive in time."""
    frames = [torch.randn(N_CLIPS, 1, 4, 4, 4, generator=generator)]
    for _ in range(7):
        fresh = torch.randn(frames[0].shape, generator=generator)
        frames.append(MEMORY * frames[-1] + math.sqrt(1 - MEMORY**2) * fresh)
    return torch.stack(frames, -1)


def floor() -> float:
    """Return the lowest loss: 1 - MEMORY^2 at the same place, 1 at the first token of the next."""
    n_places, n_times = 8, 8
    same = n_places * (n_times - 1) * (1 - MEMORY**2)
    return (same + n_places - 1) / (n_places * n_times - 1)


def loss_of(width: int, base: int | None, rate: float) -> float:
    """Return the mean loss of the last steps of a short training."""
    model, generator = model_of(width, base), torch.Generator().manual_seed(1)
    optimizer = build_optimizer(model, TrainBlock(lr=rate, weight_decay=0.0))
    losses = []
    for _ in range(N_STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = model.ar_loss(clips(generator))
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    last = sum(losses[-10:]) / 10
    return last if math.isfinite(last) else math.inf


def sweep(base: int | None) -> dict[int, dict[int, float]]:
    """Return the loss above the lowest by width and exponent of the rate."""
    return {
        width: {e: loss_of(width, base, 2.0**e) - floor() for e in EXPONENTS} for width in WIDTHS
    }


def best(losses: dict[int, float]) -> int:
    """Return the exponent of the best rate."""
    return min(losses, key=lambda exponent: losses[exponent])


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=1)
    torch.set_num_threads(1)
    found = {"mup": sweep(BASE), "standard": sweep(None)}
    figures: dict[str, Any] = {"threads": 1, "steps": N_STEPS}
    narrow, wide, reached = WIDTHS[0], WIDTHS[-1], {}
    for name, losses in found.items():
        for width in WIDTHS:
            figures[f"{name}_best_rate_{width}"] = 2.0 ** best(losses[width])
        figures[f"{name}_drift_octaves"] = best(losses[wide]) - best(losses[narrow])
        reached[name] = losses[wide][best(losses[narrow])]
        figures[f"{name}_loss_with_the_narrow_rate"] = reached[name]
    ratios = {"loss_with_the_narrow_rate": reached["standard"] / reached["mup"]}
    show("mup", ratios, figures, options.json)


if __name__ == "__main__":
    main()
