"""A few small arrays that a judgement keeps so that a report can draw them.

A task that is asked for pictures puts them under `picture` into its first rows, name -> array. They
are taken out before rows become tables, and never grow with the data.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from neurocli.core.engine.task import Rows

FOLDER = "pictures"
KEY = "picture"
MOST = 3
_MOST_BYTES = 8 << 20


def take_pictures(rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """Take the pictures out of rows.

    Args:
        rows: Of a judgement; they lose their `picture`.

    Returns:
        Name -> array, 8 MiB in all at most; what would be more is left out.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    n_bytes = 0
    drawn = [picture for row in rows if (picture := row.pop(KEY, None)) is not None]
    for picture in drawn[:MOST]:  # every rank drew some
        for name, array in picture.items():
            n_bytes += array.nbytes
            if n_bytes <= _MOST_BYTES:
                found[name] = array
    return found
