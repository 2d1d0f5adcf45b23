"""One sequence over several processes: each rank holds a run of its tokens.

A state-space layer needs of the tokens before a share only what they leave: the scan's state and
the convolution's last inputs, a few kilobytes whatever the length (Dao and Gu 2024, arXiv
2405.21060, section 8.2). It goes from rank to rank forwards and its gradient backwards, so ranks
work as a pipeline over the layers: a causal model idles for one layer per rank and pass.

Conventions: every rank is given the same batch and returns the same loss. Each function here is
the exact adjoint of its backward pass when the loss is the mean of the ranks' losses; so the mean
of the ranks' gradients, as data-parallel training takes it, is the gradient of one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from neurocli.core.errors import NeuroError

Direction = Literal["forth", "back"]
_MOST_PENDING = 256  # messages under way at once; each is a few kilobytes


class Carry(NamedTuple):
    """Hold what tokens leave for those after them, in the dtype of the weights.

    `tail` (b,K-1,C) are the convolution's last inputs, `state` (b,G,N,I/G) is the scan's.
    """

    tail: Tensor
    state: Tensor


class SequenceGroup:
    """Divide sequences over the ranks of a process group; without one, over this process alone.

    Args:
        forth: Group whose ranks hold a sequence in their order; None for one process.
        back: A second group of the same ranks, for messages of a scan that runs from the end: a
            device's messages between two ranks are handled in order, so both ways need a channel
            of their own. None where nothing is scanned from the end, or on gloo.
    """

    def __init__(
        self, forth: dist.ProcessGroup | None = None, back: dist.ProcessGroup | None = None
    ) -> None:
        self._groups = {"forth": forth, "back": back if back is not None else forth}
        self.size = 1 if forth is None else dist.get_world_size(forth)
        self.rank = 0 if forth is None else dist.get_rank(forth)
        self._pending: deque[tuple[Any, Tensor]] = deque()

    def rows(self, n_tokens: int) -> slice:
        """Return which of `n_tokens` this rank holds; shares differ by at most one token.

        Raises:
            NeuroError: There are fewer tokens than ranks; all ranks raise it.

        >>> SequenceGroup().rows(7)
        slice(0, 7, None)
        """
        if n_tokens < self.size:
            raise NeuroError(
                f"{n_tokens} tokens cannot be divided over {self.size} processes",
                where="train.sequence_parallel",
                hint="start fewer processes, or give longer clips",
            )
        return slice(n_tokens * self.rank // self.size, n_tokens * (self.rank + 1) // self.size)

    def total(self, own: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks, with gradient; all give the same shape."""
        if self.size == 1:
            return own
        found: Tensor = _Total.apply(own, self)  # type: ignore[no-untyped-call]
        return found

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all values of all ranks, a scalar; NaN where there is none."""
        if self.size == 1:
            return values.mean()
        count = values.new_tensor(float(values.numel()))
        return self.total(values.sum()) / self.total(count)

    def count(self, mask: Tensor) -> int:
        """Return how many values of a mask are true on all ranks together."""
        own = mask.sum()
        return int(own if self.size == 1 else self.total(own))

    def gather(self, own: Tensor, n_tokens: int) -> Tensor:
        """Return all tokens (b,M,F) of a sequence that is divided by `rows`, with gradient.

        Args:
            own: This rank's tokens (b,L,F).
            n_tokens: Tokens M of the whole sequence.
        """
        if self.size == 1:
            return own
        found: Tensor = _Gather.apply(own, n_tokens, self)  # type: ignore[no-untyped-call]
        return found

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their means over the ranks; called once per optimiser step.

        Args:
            parameters: Those that are trained, in the same order on every rank.
        """
        if self.size == 1:
            return
        self.finish()
        grads = [p.grad for p in parameters if p.grad is not None]
        for dtype in dict.fromkeys(grad.dtype for grad in grads):
            same = [grad for grad in grads if grad.dtype == dtype]
            flat = torch.cat([grad.flatten() for grad in same])
            dist.all_reduce(flat, group=self._groups["forth"])
            parts = torch.split(flat.div_(self.size), [grad.numel() for grad in same])
            for grad, part in zip(same, parts, strict=True):
                grad.copy_(part.view_as(grad))

    def finish(self) -> None:
        """Wait until all messages of this rank were taken."""
        while self._pending:
            self._pending.popleft()[0].wait()

    def comes_first(self, direction: Direction) -> bool:
        """Return whether this rank is met early by a scan that runs `direction`.

        Of two scans a rank does the one that reaches it earlier; then none waits for another in a
        circle, and with two ranks neither waits at all.
        """
        early = 2 * self.rank <= self.size - 1
        return early if direction == "forth" else not early

    def neighbour(self, step: int) -> int | None:
        """Return the rank `step` places further on, None beyond the ends."""
        other = self.rank + step
        return other if 0 <= other < self.size else None

    def post(self, parts: Iterable[Tensor], to: int, direction: Direction) -> None:
        """Send tensors to a rank without waiting for it."""
        message = torch.cat([part.detach().flatten() for part in parts])
        group = self._groups[direction]
        work = dist.isend(message, group=group, group_dst=to)
        self._pending.append((work, message))  # kept until it was taken
        if len(self._pending) > _MOST_PENDING:
            self._pending.popleft()[0].wait()

    def take(self, like: Carry, source: int, direction: Direction) -> Carry:
        """Wait for what a rank sends, shaped as `like`."""
        message = torch.cat([part.flatten() for part in like])
        dist.recv(message, group=self._groups[direction], group_src=source)
        tail, state = torch.split(message, [part.numel() for part in like])
        return Carry(tail.view_as(like.tail), state.view_as(like.state))

    def sum_in_place(self, values: Tensor) -> Tensor:
        """Replace a tensor by its sum over the ranks."""
        dist.all_reduce(values, group=self._groups["forth"])
        return values


WHOLE = SequenceGroup()
"""All tokens in this process."""


@dataclass(frozen=True)
class Border:
    """Say where a share of tokens meets the shares before and after it, as one scan meets them.

    Args:
        group: The ranks that hold the sequence.
        direction: "forth" from rank 0 on, or "back", on reversed tokens, from the last rank on.
        before: `seq_idx` (b,K-1) of the tokens before the share, in the scan's order; anything
            where there are none. None where all tokens are one segment.
    """

    group: SequenceGroup
    direction: Direction = "forth"
    before: Tensor | None = None

    def with_before(self, seq_idx: Tensor) -> Tensor:
        """Return `seq_idx` (b,L) of the share behind that of the tokens before it (b,K-1+L)."""
        assert self.before is not None, "packed tokens need the segments before the share"
        return torch.cat([self.before.expand(len(seq_idx), -1), seq_idx], 1)

    def receive(self, tokens: Tensor, empty: Carry) -> tuple[Tensor, Carry]:
        """Wait for what the tokens before the share left.

        Args:
            tokens: This rank's tokens; passed on so that gradients leave after theirs are known.
            empty: The carry of a sequence's beginning.

        Returns:
            `tokens` and the carry.
        """
        tokens, tail, state = _Receive.apply(tokens, *empty, self)  # type: ignore[no-untyped-call]
        return tokens, Carry(tail, state)

    def send(self, tokens: Tensor, left: Carry) -> Tensor:
        """Send what the share leaves to the rank behind; returns `tokens`."""
        passed: Tensor = _Send.apply(tokens, *left, self)  # type: ignore[no-untyped-call]
        return passed

    @property
    def source(self) -> int | None:
        """Return the rank before this one, None at the beginning."""
        return self.group.neighbour(-1 if self.direction == "forth" else 1)

    @property
    def target(self) -> int | None:
        """Return the rank behind this one, None at the end."""
        return self.group.neighbour(1 if self.direction == "forth" else -1)


class _Receive(torch.autograd.Function):
    """Take the carry from the rank before, and send its gradient there."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, tail: Tensor, state: Tensor, border: Border
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.border, carry = border, Carry(tail.clone(), state.clone())
        if border.source is not None:
            carry = border.group.take(carry, border.source, border.direction)
        return tokens.view_as(tokens), carry.tail, carry.state

    @staticmethod
    def backward(ctx: Any, d_tokens: Tensor, *d_carry: Tensor) -> tuple[Tensor | None, ...]:
        border = ctx.border
        if border.source is not None:
            border.group.post(d_carry, border.source, border.direction)
        return d_tokens, None, None, None


class _Send(torch.autograd.Function):
    """Send the carry to the rank behind, and take its gradient from there."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, tail: Tensor, state: Tensor, border: Border) -> Tensor:
        ctx.border = border
        ctx.save_for_backward(tail[..., :0], state[..., :0])
        ctx.shapes = tail.shape, state.shape
        if border.target is not None:
            border.group.post((tail, state), border.target, border.direction)
        return tokens.view_as(tokens)

    @staticmethod
    def backward(ctx: Any, d_tokens: Tensor) -> tuple[Tensor | None, ...]:
        border, kinds = ctx.border, ctx.saved_tensors
        empty = Carry(*(k.new_zeros(shape) for k, shape in zip(kinds, ctx.shapes, strict=True)))
        if border.target is None:
            return d_tokens, *empty, None
        return d_tokens, *border.group.take(empty, border.target, border.direction), None


class _Total(torch.autograd.Function):
    """Sum over ranks; the gradients are summed the same way."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: SequenceGroup) -> Tensor:
        ctx.group = group
        return group.sum_in_place(own.detach().clone().contiguous())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum_in_place(grad.clone().contiguous()), None


class _Gather(torch.autograd.Function):
    """Lay all ranks' tokens side by side; each rank's gradient is the sum of all for its own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, n_tokens: int, group: SequenceGroup) -> Tensor:
        ctx.group, ctx.rows = group, group.rows(n_tokens)
        whole = own.new_zeros(own.shape[0], n_tokens, *own.shape[2:])
        whole[:, ctx.rows] = own
        return group.sum_in_place(whole)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.group.sum_in_place(grad.clone().contiguous())[:, ctx.rows], None, None
