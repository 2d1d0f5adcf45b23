"""Peaks against bytes counted by hand on networks of a few layers."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neurocli.core.cost.memory import STORAGES, StorageMeter, memory_method, peak_bytes

CPU = torch.device("cpu")
N, D = 64, 256
BYTES = N * D * 4


def _stack(n_layers: int) -> nn.Sequential:
    return nn.Sequential(*[nn.Linear(D, D, bias=False) for _ in range(n_layers)])


def test_inference_holds_two_activations_whatever_the_depth() -> None:
    example = torch.randn(N, D)
    for n_layers in (2, 6):
        model = _stack(n_layers)
        with torch.no_grad():
            resident = [*model.parameters(), example]
            forward = partial(model, example)
            assert peak_bytes(forward, device=CPU, resident=resident) == 2 * BYTES


def test_training_keeps_every_activation() -> None:
    example = torch.randn(N, D)

    def step(model: nn.Module) -> None:
        model(example).sum().backward()

    peaks = []
    for n_layers in (3, 5, 7):
        model = _stack(n_layers)
        step(model)
        resident = [*model.parameters(), example, *[p.grad for p in model.parameters()]]  # type: ignore[list-item]
        peaks.append(peak_bytes(partial(step, model), device=CPU, resident=resident))
    # Each further layer keeps one more activation until its gradient has passed.
    assert peaks[1] - peaks[0] == peaks[2] - peaks[1] == 2 * BYTES


def test_checkpointing_is_seen() -> None:
    example = torch.randn(N, D, requires_grad=True)
    model = _stack(12)

    def whole() -> None:
        model(example).sum().backward()

    def in_halves() -> None:
        half = checkpoint(model[:6], example, use_reentrant=False)
        checkpoint(model[6:], half, use_reentrant=False).sum().backward()

    whole()
    leaves = [*model.parameters(), example]
    resident = [*leaves, *(leaf.grad for leaf in leaves if leaf.grad is not None)]
    plain, halved = (peak_bytes(f, device=CPU, resident=resident) for f in (whole, in_halves))
    # Six of the twelve activations are not kept, but computed again; the border of halves is.
    assert plain - halved > 3.9 * BYTES


def test_views_and_work_in_place_cost_nothing() -> None:
    example = torch.zeros(N, D)

    def work() -> None:
        example.view(-1)[3:].add_(1)
        example.t()

    assert peak_bytes(work, device=CPU, resident=[example]) == 0


def test_what_dies_is_taken_away_and_what_lives_stays() -> None:
    with StorageMeter() as meter:
        kept = torch.zeros(N, D)
        for _ in range(5):
            torch.zeros(N, D)
    assert meter.peak == 2 * BYTES
    assert meter.current == BYTES
    del kept
    assert meter.current == 0


def test_the_method_is_named() -> None:
    assert memory_method(CPU) == STORAGES
    assert memory_method(torch.device("cuda")) == "torch allocator"
