"""Cut a run of frames into windows of equal length.

A window spans `length * stride_within` frames of the run and takes every `stride_within`-th.
"""

from __future__ import annotations

from neurocli.core.errors import UsageError


def window_starts(
    n_frames: int,
    length: int,
    *,
    stride_within: int = 1,
    stride_between: float = 1.0,
    max_windows: int | None = None,
) -> list[int]:
    """Return the first frame of every window of a run.

    With span d = length * stride_within and step = max(round(stride_between * d), 1), the starts
    are p, p + step, ... <= n_frames - d for each phase p = 0 .. stride_within - 1, phase by phase.

    Args:
        n_frames: Frames of the run.
        length: Frames of a window, >= 1.
        stride_within: Distance of two frames of one window, >= 1.
        stride_between: Distance of two windows as a share of the span, > 0; below 1 they overlap.
        max_windows: Keep only the first so many; None for all.

    Returns:
        Starts in the order above; empty when the run is shorter than one span, which the caller
        should count and report.

    Raises:
        UsageError: An argument is out of its range.

    >>> window_starts(10, 4)
    [0, 4]
    >>> window_starts(10, 4, stride_between=0.5)
    [0, 2, 4, 6]
    """
    for name, value, least in (
        ("length", length, 1),
        ("stride_within", stride_within, 1),
        ("max_windows", max_windows, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name} is {value}", where=name, hint=f"give {least} or more")
    if not 0 < stride_between < float("inf"):
        raise UsageError(
            f"stride_between is {stride_between}",
            where="stride_between",
            hint="give a share of the window above 0, e.g. 1.0",
        )
    span = length * stride_within
    step = max(round(stride_between * span), 1)
    starts = [
        start for phase in range(stride_within) for start in range(phase, n_frames - span + 1, step)
    ]
    return starts[:max_windows]


def window_frames(start: int, length: int, stride_within: int = 1) -> slice:
    """Return the frames of one window as a slice over the time axis.

    >>> window_frames(2, 3, 2)
    slice(2, 8, 2)
    """
    return slice(start, start + length * stride_within, stride_within)
