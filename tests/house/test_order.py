"""Long tests come first for every worker, and none is lost or torn from its group."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def conftest() -> Any:
    spec = importlib.util.spec_from_file_location("root_conftest", ROOT / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("n_workers", [2, 3, 8])
@pytest.mark.parametrize("n_others", [0, 5, 400])
def test_every_worker_begins_with_its_share(conftest: Any, n_workers: int, n_others: int) -> None:
    names = [f"tests/a/test_x.py::test_{i}" for i in range(n_others)]
    names[2:2] = [f"tests/{name}::t[{i}]" for name in conftest.LONG_S for i in range(2)]
    items: Any = [SimpleNamespace(nodeid=name) for name in names]
    found = [item.nodeid for item in conftest.dealt(items, n_workers)]
    assert sorted(found) == sorted(names)
    for name in conftest.LONG_S:
        first, second = (found.index(f"tests/{name}::t[{i}]") for i in range(2))
        assert second == first + 1
    if n_others == 400:
        starts = [len(found) * number // n_workers for number in range(n_workers)]
        assert all(not found[start].startswith("tests/a/") for start in starts)


def test_what_is_called_long_is_there(conftest: Any) -> None:
    for name in conftest.LONG_S:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8") or not test
