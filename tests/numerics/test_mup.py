"""muP of FMamba: a step changes activations alike at all widths, and one rate serves them."""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurocli.core.config.run import RunConfig, TrainBlock
from neurocli.core.engine.optim import build_optimizer, rate_factors
from neurocli.core.errors import UsageError
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FMambaHeadConfig,
    FmriDataBlock,
    FmriTaskBlock,
)
from neurocli.systems.fmri.models.build import build, build_with_head
from neurocli.systems.fmri.models.fmamba import FMamba

WIDTHS, BASE = (64, 128, 256, 512), 64
INFO = {"img_size": [4, 4, 4, 8], "scaling": "none"}


def configuration(
    width: int, base: int | None, *, head: str | None = None, **more: Any
) -> RunConfig:
    sizes: dict[str, Any] = {"name": "fmamba", "embed_dim": width, "depth": 2}
    sizes |= {"patch_size": (2, 2, 2, 1), "token_mask": "none", "mup_base_dim": base}
    model = FMambaConfig(**sizes) if head is None else FMambaHeadConfig(head=head, **sizes)  # type: ignore[arg-type]
    task = FmriTaskBlock(objective=None if head else more.pop("objective", "ar"))
    return RunConfig(model=model, data=FmriDataBlock(sequence_length=8), task=task, **more)


def built(width: int, base: int | None, seed: int = 0, **more: Any) -> FMamba:
    torch.manual_seed(seed)
    return cast(FMamba, build(configuration(width, base, **more), INFO))


def activations(model: FMamba, x: Tensor) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    handles = [
        layer[1].register_forward_hook(  # type: ignore[index]
            lambda _m, _i, out, name=f"layer {i}": kept.__setitem__(name, out)
        )
        for i, layer in enumerate(model.mamba_layers)
    ]
    with torch.no_grad():
        output = model(x)
    for handle in handles:
        handle.remove()
    return kept | {"features": output["features"], "pred": output["pred"]}


@functools.cache
def changes(base: int | None) -> dict[str, list[float]]:
    """Return the RMS of what three small AdamW steps change, by activation and width."""
    found: dict[str, list[float]] = {}
    for width in WIDTHS:
        model = built(width, base)
        x = torch.randn(2, 1, 4, 4, 4, 8, generator=torch.Generator().manual_seed(0))
        before = activations(model, x)
        optimizer = build_optimizer(model, TrainBlock(lr=1e-4, weight_decay=0.0))
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(model.ar_loss(x))
            optimizer.step()
        for name, after in activations(model, x).items():
            size = float((after - before[name]).square().mean())
            found.setdefault(name, []).append(math.sqrt(size))
    return found


def growth(sizes: list[float]) -> float:
    """Return the exponent of growth with the width."""
    return float(np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0])


def test_coordinate_check() -> None:
    # Expected by theory: exponents of 0 under muP and of 1 with the usual start and one rate.
    mup, standard = changes(BASE), changes(None)
    for name, sizes in mup.items():
        assert abs(growth(sizes)) <= 0.15, name
        assert growth(standard[name]) >= 0.7, name


def test_nothing_changes_at_the_base_width() -> None:
    plain, mup = built(64, None), built(64, 64)
    for one, other in zip(plain.state_dict().values(), mup.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert rate_factors(mup) == {}


def test_names_and_forward_pass_are_those_of_every_model() -> None:
    plain, mup = built(128, None), built(128, 64)
    plain.load_state_dict(mup.state_dict())
    x = torch.randn(1, 1, 4, 4, 4, 8)
    assert torch.equal(plain(x)["pred"], mup(x)["pred"])


def test_rates_and_decay_of_each_kind() -> None:
    # Expected: table 3 of arXiv 2203.03466 at four times the base width, 16 against 64 states.
    model = built(256, 64)
    optimizer = build_optimizer(model, TrainBlock(lr=1e-2, weight_decay=0.1))
    rates = {
        id(p): (group["lr"], group["weight_decay"], group["initial_lr"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    want = {
        "embedder.projection": (1e-2, 0.1),
        "mamba_layers.0.0.weight": (1e-2, 0.0),
        "mamba_layers.0.1.in_proj.weight": (2.5e-3, 0.4),
        "mamba_layers.1.1.out_proj.weight": (2.5e-3, 0.4),
        "mamba_layers.0.1.conv1d.weight": (1e-2, 0.1),
        "mamba_layers.0.1.A_log": (1e-2, 0.0),
        "mamba_layers.0.1.D": (4e-2, 0.0),
        "output_layer.weight": (2.5e-3, 0.4),
        "output_layer.bias": (1e-2, 0.0),
    }
    named = dict(model.named_parameters())
    for name, (rate, decay) in want.items():
        assert rates[id(named[name])] == pytest.approx((rate, decay, rate)), name
    assert model.mamba_layers[0][1].D[0] == 4.0  # type: ignore[index]
    spread = float(model.output_layer.weight.detach().std())  # type: ignore[union-attr]
    # Uniform in +-1/sqrt(fan-in) has SD 1/sqrt(3 fan-in); muP halves it at four times the base.
    assert spread == pytest.approx(0.5 / math.sqrt(3 * 256), rel=0.05)


def test_heads() -> None:
    model = build_with_head(configuration(128, 64, head="conv"), INFO)
    factors = rate_factors(nn.Sequential(model))  # found below a wrapper, under its names
    assert factors["0.output_head.head.weight"] == 0.5
    assert factors["0.output_head.conv_blocks.2.weight"] == 0.5
    assert factors["0.model.mamba_layers.0.1.D"] == 2.0
    with pytest.raises(UsageError, match="do not cover the Mamba-1 layers"):
        build_with_head(configuration(128, 64, head="mamba"), INFO)


def test_sgd_is_refused() -> None:
    with pytest.raises(UsageError, match="for adamw, not for sgd"):
        build_optimizer(built(128, 64), TrainBlock(optimizer="sgd"))
