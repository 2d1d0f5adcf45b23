"""Peak activation memory: what a pass holds at its worst moment beyond the model and its input.

On CUDA torch's allocator is asked. Elsewhere every operation of the pass is watched: the bytes of
each new storage are added when it appears and taken away when it dies, forwards and backwards.
Buffers that live inside a single operation are not seen by the second way. Gradients of the
parameters are made beforehand, so they count as part of the model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATOR = "torch allocator"
STORAGES = "storages alive between operations"
SHADOWS = "storages alive between operations, of tensors without numbers"


def memory_method(device: torch.device) -> str:
    """Return how `peak_bytes` measures on a device."""
    return ALLOCATOR if device.type == "cuda" else STORAGES


def peak_bytes(
    call: Callable[[], object], *, device: torch.device, resident: Iterable[Tensor] = ()
) -> int:
    """Return the most bytes that a call holds at once beyond what was there before.

    Args:
        call: What is measured.
        device: Device it computes on.
        resident: Tensors that were there before and do not count: parameters, gradients, input.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return int(torch.cuda.max_memory_allocated(device)) - int(before)
    with StorageMeter(resident) as meter:
        call()
    return int(meter.peak)


class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow the bytes of all storages that operations make while the mode is on.

    Args:
        resident: Tensors whose storages do not count.

    Attributes:
        current: Bytes alive now.
        peak: Most bytes alive at once.
        since: Most bytes alive at once since the last `mark`.
    """

    def __init__(self, resident: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = 0
        self.peak = 0
        self.since = 0
        # Held, so that their addresses are not given to a new storage meanwhile.
        self._resident = {storage._cdata: storage for storage in map(_storage, resident)}
        self._alive: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(_storage(leaf))
        return result

    def mark(self) -> None:
        """Begin a stretch of work whose own peak is asked for."""
        self.since = self.current

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._alive or key in self._resident:
            return
        # A view shares its storage and adds nothing; only a new storage comes here.
        n_bytes = storage.nbytes()
        self._alive[key] = weakref.finalize(storage, self._drop, key, n_bytes)
        self.current += n_bytes
        self.peak = max(self.peak, self.current)
        self.since = max(self.since, self.current)

    def _drop(self, key: int, n_bytes: int) -> None:
        del self._alive[key]
        self.current -= n_bytes


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
