"""Run command lines inside the test process, with the output that a shell would see."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import neurocli
from neurocli.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))  # for `made_results`


@dataclass(frozen=True)
class Answer:
    """Hold what a command line led to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return stdout as the one JSON object it must be."""
        value: dict[str, Any] = json.loads(self.out)
        return value


Neuro = Callable[..., Answer]


@pytest.fixture
def neuro(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Neuro:
    """Return a function that runs `neuro` with the given words."""
    for name in ("NO_COLOR", "FORCE_COLOR", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], list[Any]]:
    """Return a function that puts a fake behind a public name and records its calls."""

    def put(name: str, fake: Callable[..., Any]) -> list[Any]:
        calls: list[Any] = []

        def spy(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            return fake(*args, **kwargs)

        monkeypatch.setitem(vars(neurocli), name, spy)
        return calls

    return put
