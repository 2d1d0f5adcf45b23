"""One session of any layout into a stored one, in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Item
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.session import frames_in
from neurocli.systems.calcium.store import write_stored

FORMAT_VERSION = "neuro/calcium-session/1"


def process_session(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write one session as `session.json`, `traces.npy` and labels.

    Args:
        item: From a finder of this room.
        folder: Where to.
        options: Values of `SessionOptions`.

    Raises:
        InputError: The source cannot be used.
        NeuroError: The disk refuses.
    """
    found = open_sessions(Path(item.details["path"]), float(options["rate_hz"]))
    session = found[int(item.details["number"])]
    return {
        "files": write_stored(session, folder),
        "shape": [session.n_frames, session.n_neurons],
        "dtype": "float32",
        "affine": None,
        "tr_s": 1.0 / session.rate_hz,
        "stats": {part: frames_in(own) for part, own in session.segments.items()},
        "notes": list(session.repairs),
    }
