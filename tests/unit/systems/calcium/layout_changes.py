"""Changes to whole-session files, and what must come of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.errors import InputError
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.session import Session
from neurocli.systems.calcium.synthetic import CohortSpec

SPEC = CohortSpec(n_neurons=(6,), n_frames=40, n_repeats=10, n_trials=1)
Change = Callable[[Any], None]
Make = Callable[[str, Change], Path]


def only(path: Path) -> Session:
    (session,) = open_sessions(path)
    return session


def put(name: str, values: Any) -> Change:
    def change(file: Any) -> None:
        if name in file:
            del file[name]
        file[name] = values

    return change


def without(*names: str) -> Change:
    def change(file: Any) -> None:
        for name in names:
            del file[name]

    return change


def refused(path: Path, place: str, word: str) -> None:
    """Check that the error names file and dataset, and says `word`."""
    with pytest.raises(InputError, match=word) as caught:
        open_sessions(path)
    assert caught.value.where == f"{path}:{place}"
