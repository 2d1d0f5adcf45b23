"""Turn stored numbers into float32, float16 the fast way."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def copy_as_float32(stored: npt.NDArray[Any], target: npt.NDArray[np.float32]) -> None:
    """Copy numbers into a float32 array of the same shape.

    numpy takes ten times as long as torch to widen float16. Importing torch for it would cost more
    than it saves, so it is used where it is loaded already; the values are the same.

    Args:
        stored: Any real dtype.
        target: Is filled.
    """
    torch = sys.modules.get("torch")
    if stored.dtype == np.float16 and torch is not None and stored.flags.writeable:
        torch.from_numpy(target).copy_(torch.from_numpy(stored))
    else:
        np.copyto(target, stored, casting="same_kind" if stored.dtype.kind == "f" else "unsafe")


def as_float32(stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return numbers as float32, themselves where they are that already.

    Args:
        stored: Any real dtype.
    """
    if stored.dtype == np.float32:
        return stored
    target = np.empty(stored.shape, dtype=np.float32)
    copy_as_float32(stored, target)
    return target
