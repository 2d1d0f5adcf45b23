"""How long a call takes: warmed up, repeated, its spread beside its middle."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

N_WARMUP = 2


@dataclass(frozen=True)
class Latency:
    """Hold the times of repeated calls in milliseconds, and the CPU threads they ran on."""

    times_ms: tuple[float, ...]
    n_warmup: int
    n_threads: int

    def record(self) -> dict[str, Any]:
        """Return median, mean, std (0 for one run), min and how it was measured."""
        return {
            "median": statistics.median(self.times_ms),
            "mean": statistics.fmean(self.times_ms),
            "std": statistics.stdev(self.times_ms) if len(self.times_ms) > 1 else 0.0,
            "min": min(self.times_ms),
            "runs": len(self.times_ms),
            "warmup": self.n_warmup,
            "threads": self.n_threads,
        }


def time_calls(
    call: Callable[[], object], *, runs: int, device: torch.device, n_warmup: int = N_WARMUP
) -> Latency:
    """Time a call.

    Args:
        call: What is timed; its result is dropped.
        runs: Timed calls, >= 1.
        device: Device whose queued work must end before the clock is read.
        n_warmup: Calls before, which are not timed.
    """
    for _ in range(n_warmup):
        call()
    times = []
    for _ in range(runs):
        # What was queued before must not be charged to this call.
        wait_for(device)
        start = perf_counter()
        call()
        wait_for(device)
        times.append((perf_counter() - start) * 1e3)
    return Latency(tuple(times), n_warmup, torch.get_num_threads())


def wait_for(device: torch.device) -> None:
    """Wait until an accelerator has done all work that was handed to it."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
