"""A moving average of the trained weights, which is what is judged and stored when it is on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from neurocli.core.engine.parallel.holder import Holder


class Ema:
    """Average the trained parameters of a model.

    After update n (from 0): shadow <- d shadow + (1 - d) weight, d = min(decay, (1 + n)/(10 + n)).
    The ramp lets a short run forget its random start. Buffers and frozen weights are not averaged:
    the former are running values already, the latter do not move.

    Args:
        model: The model being trained, already on its device and frozen as it will be.
        decay: Upper limit of d, in (0, 1).
        holder: How ranks hold the model; each averages what it holds. None for one process.
    """

    def __init__(self, model: nn.Module, decay: float, holder: Holder | None = None) -> None:
        self.decay, self._holder = decay, holder
        self.n_updates = 0
        self._live = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._shadow = {n: self._piece(p).clone() for n, p in self._live.items()}
        self._held: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's weights of now."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        # One call over all tensors; a loop would cost more than the arithmetic.
        live = [self._piece(p) for p in self._live.values()]
        torch._foreach_lerp_(list(self._shadow.values()), live, 1.0 - decay)
        self.n_updates += 1

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model, keeping its own weights aside."""
        self._held = {n: self._piece(p).clone() for n, p in self._live.items()}
        for name, parameter in self._live.items():
            self._piece(parameter).copy_(self._shadow[name])

    @torch.no_grad()
    def restore(self) -> None:
        """Put the model's own weights back after `apply`."""
        for name, value in self._held.items():
            self._piece(self._live[name]).copy_(value)
        self._held = {}

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Hold the average in the model while the context is open."""
        self.apply()
        try:
            yield
        finally:
            self.restore()

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs while the average is applied; all ranks call it.

        A checkpoint's own weights are the average, since they are the ones to use; here are the
        count and the model's weights that go on being trained.
        """
        trained = dict(self._held)
        if self._holder is not None:
            trained = {n: self._holder.join(self._live[n], v) for n, v in trained.items()}
        return {"decay": self.decay, "n_updates": self.n_updates, "trained": trained}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the model's weights of now as the average and put back the trained ones."""
        self.n_updates = int(state["n_updates"])
        for name, parameter in self._live.items():
            trained, piece = state["trained"][name], self._piece(parameter)
            self._shadow[name].copy_(piece)
            if self._holder is not None:
                trained = self._holder.divide(parameter, trained)
            piece.copy_(trained)

    def _piece(self, parameter: nn.Parameter) -> torch.Tensor:
        return parameter.detach() if self._holder is None else self._holder.piece(parameter)
