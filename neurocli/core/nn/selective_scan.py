"""The selective scan of Mamba-1 in plain torch: exact, any length, linear memory.

Per channel and state: h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t and y_t = sum_n C_t h_t (Gu and Dao
2023, arXiv 2312.00752). Every channel and state decays at its own rate, so unlike Mamba-2 there
is no form of matrix products. What keeps Python out of the tokens is two levels of time: all
chunks of a block take their q steps together from a zero state, the chunks' ends are chained, and
what entered a chunk is added to its tokens, decayed in closed form. The exponents are sums of
non-positive numbers at every level, so nothing overflows.

The states of one block exist at a time; the backward pass, written by hand, computes them again
from the state that entered the block.

Letters: b batch, L length, D channels, N states, c chunks of a block, q tokens of a chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurocli.core.nn.shapes import expect_shape
from neurocli.core.nn.sizes import (
    SELECTIVE_BLOCK_ELEMENTS,
    SELECTIVE_CHUNK,
    selective_block,
)

_DEVICE_BLOCK_ELEMENTS = SELECTIVE_BLOCK_ELEMENTS * 32  # what keeps a GPU busy


def selective_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Scan a sequence with the recurrence of Mamba-1, from a zero state.

    Args:
        x: Inputs (b,L,D), L >= 1.
        dt: Step sizes (b,L,D), not negative: after bias and softplus.
        A: Decay rates (D,N), negative.
        B: Input maps (b,L,N).
        C: Output maps (b,L,N).

    Returns:
        y (b,L,D) and the state after the last token (b,D,N), in float32, or float64 when an input
        is. The state carries no gradient.

    Raises:
        ShapeError: An argument's shape does not fit x.

    >>> one = torch.ones(1, 3, 1)
    >>> selective_scan(one, one, torch.zeros(1, 1), one, one)[0].flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    expect_shape("x", x, {"batch": None, "length": None, "channels": None}, "the scan")
    sizes = dict(zip(("batch", "length", "channels"), x.shape, strict=True))
    fits = f"x {tuple(x.shape)}"
    expect_shape("dt", dt, sizes, fits)
    expect_shape("A", A, {"channels": x.shape[2], "state": None}, fits)
    along = {"batch": x.shape[0], "length": x.shape[1], "state": A.shape[1]}
    for name, maps in (("B", B), ("C", C)):
        expect_shape(name, maps, along, f"{fits} and A {tuple(A.shape)}")
    dtype = torch.float32
    for tensor in (x, dt, A, B, C):
        dtype = torch.promote_types(dtype, tensor.dtype)
    with torch.autocast(x.device.type, enabled=False):
        parts = (tensor.to(dtype) for tensor in (x, dt, A.T, B, C))
        result: tuple[Tensor, Tensor] = _SelectiveScan.apply(*parts)  # type: ignore[no-untyped-call]
    return result


class _Block(NamedTuple):
    """Hold one block, step-major: dt and x (q,b,c,1,D), B and C (q,b,c,N,1)."""

    dt: Tensor
    x: Tensor
    B: Tensor
    C: Tensor

    def weighted(self) -> Tensor:
        """Return what each token adds to the state, (q,b,c,N,D)."""
        return (self.dt * self.x) * self.B


class _SelectiveScan(torch.autograd.Function):
    """Scan block after block and keep the state before each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, rates: Tensor, B: Tensor, C: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_states, channels = rates.shape
        state = x.new_zeros(x.shape[0], n_states, channels)
        outputs, entered = [], []
        for part in _parts(x, rates):
            block = _block(dt[:, part], x[:, part], B[:, part], C[:, part])
            entered.append(state)
            states, state = _states(block, rates, state)
            y = block.C.transpose(-1, -2) @ states
            outputs.append(_token_major(y.squeeze(-2))[:, : part.stop - part.start])
        ctx.save_for_backward(x, dt, rates, B, C, *entered)
        last = state.transpose(1, 2)
        ctx.mark_non_differentiable(last)
        return torch.cat(outputs, 1), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        x, dt, rates, B, C, *entered = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in (x, dt, B, C)]
        grad_rates = torch.zeros_like(rates)
        adjoint = torch.zeros_like(entered[0])
        for part, state in reversed(list(zip(_parts(x, rates), entered, strict=True))):
            block = _block(dt[:, part], x[:, part], B[:, part], C[:, part])
            own, rates_too, adjoint = _backward(block, rates, state, grad_y[:, part], adjoint)
            for whole, piece in zip(grads, own, strict=True):
                whole[:, part] = _token_major(piece)[:, : part.stop - part.start]
            grad_rates += rates_too
        grad_x, grad_dt, grad_B, grad_C = grads
        return grad_x, grad_dt, grad_rates, grad_B, grad_C


def _parts(x: Tensor, rates: Tensor) -> list[slice]:
    """Cut the length into blocks of bounded size."""
    limit = SELECTIVE_BLOCK_ELEMENTS if x.device.type == "cpu" else _DEVICE_BLOCK_ELEMENTS
    size = selective_block(x.shape[0] * rates.numel(), elements=limit)
    length = x.shape[1]
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _block(dt: Tensor, x: Tensor, B: Tensor, C: Tensor) -> _Block:
    rows = (_step_major(tensor).unsqueeze(-2) for tensor in (dt, x))
    columns = (_step_major(tensor).unsqueeze(-1) for tensor in (B, C))
    return _Block(*rows, *columns)


def _step_major(tokens: Tensor) -> Tensor:
    """Turn (b,L,F) into (q,b,c,F); a padded tail has dt = 0 and so leaves the state alone."""
    chunk = min(SELECTIVE_CHUNK, tokens.shape[1])
    tokens = F.pad(tokens, (0, 0, 0, -tokens.shape[1] % chunk))
    return torch.unflatten(tokens, 1, (-1, chunk)).permute(2, 0, 1, 3).contiguous()


def _token_major(steps: Tensor) -> Tensor:
    """Turn (q,b,c,F) back into (b,L,F)."""
    return steps.permute(1, 2, 0, 3).flatten(1, 2)


def _states(block: _Block, rates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after every token (q,b,c,N,D), and the last one (b,N,D)."""
    decay = (block.dt * rates).exp_()
    states = block.weighted()
    for step in range(1, states.shape[0]):
        states[step].addcmul_(decay[step], states[step - 1])
    since_start = (block.dt.cumsum(0) * rates).exp_()
    entering = torch.empty_like(states[0])
    for chunk in range(states.shape[2]):
        entering[:, chunk] = state
        state = torch.addcmul(states[-1, :, chunk], since_start[-1, :, chunk], state)
    return states.addcmul_(since_start, entering), state


def _backward(
    block: _Block, rates: Tensor, state: Tensor, grad_y: Tensor, adjoint: Tensor
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Return the gradients of x, dt, B, C (q,b,c,.), of the rates, and of the state before."""
    states, _ = _states(block, rates, state)
    grad_y = _step_major(grad_y).unsqueeze(-2)
    adjoints, before = _adjoints(block, rates, grad_y, adjoint)

    grad_C = (states @ grad_y.transpose(-1, -2)).squeeze(-1)
    grad_B = (adjoints @ (block.dt * block.x).transpose(-1, -2)).squeeze(-1)
    grad_added = block.B.transpose(-1, -2) @ adjoints
    # d/d(dt A) is the adjoint times the decayed state before; shift the states by one token.
    previous = torch.empty_like(states)
    previous[1:] = states[:-1]
    previous[0, :, 1:] = states[-1, :, :-1]
    previous[0, :, 0] = state
    grad_exponent = previous.mul_((block.dt * rates).exp_()).mul_(adjoints)
    grad_rates = (grad_exponent * block.dt).sum((0, 1, 2))
    grad_dt = (grad_exponent * rates).sum(-2) + (grad_added * block.x).squeeze(-2)
    return ((grad_added * block.dt).squeeze(-2), grad_dt, grad_B, grad_C), grad_rates, before


def _adjoints(
    block: _Block, rates: Tensor, grad_y: Tensor, adjoint: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient of every state (q,b,c,N,D), and of the state before the block."""
    decay = (block.dt * rates).exp_()
    adjoints = block.C * grad_y
    for step in range(adjoints.shape[0] - 2, -1, -1):
        adjoints[step].addcmul_(decay[step + 1], adjoints[step + 1])
    sums = block.dt.cumsum(0)
    to_end = ((sums[-1:] - sums) * rates).exp_()
    leaving = torch.empty_like(adjoints[0])
    for chunk in range(adjoints.shape[2] - 1, -1, -1):
        leaving[:, chunk] = adjoint
        first = torch.addcmul(adjoints[0, :, chunk], to_end[0, :, chunk], adjoint)
        adjoint = first * decay[0, :, chunk]
    return adjoints.addcmul_(to_end, leaving), adjoint
