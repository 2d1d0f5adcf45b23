"""The toy room, loaded by path because tests are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).with_name("toy.py")
sys.path.insert(0, str(_PATH.parent))  # for `told_runs`


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """Return the toy room as a module; its `__file__` is a program that can be killed."""
    spec = importlib.util.spec_from_file_location("toy_room", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_room"] = module
    spec.loader.exec_module(module)
    return module
