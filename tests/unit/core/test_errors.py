"""Errors keep their fields through a pipe and print their place."""

from __future__ import annotations

import copy

import pytest

from neurocli.core.errors import (
    ConfigError,
    ExitCode,
    InputError,
    MissingDependencyError,
    NeuroError,
    StoppedError,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [("input", "a.nii: truncated", ExitCode.FAILED), ("usage", "--x: no", ExitCode.USAGE)],
)
def test_survives_a_worker(kind: str, text: str, code: ExitCode) -> None:
    # A copy takes the same road as the pipe of a worker process: __reduce__ and back.
    if kind == "input":
        error: NeuroError = InputError("a.nii", "truncated", "copy it again")
    else:
        error = UsageError("no", where="--x", hint="yes")
    again = copy.copy(error)
    assert type(again) is type(error)
    assert str(again) == text
    assert again.code == code
    assert again.hint == error.hint is not None


def test_codes_are_those_of_the_contract() -> None:
    assert NeuroError("x").code == 1
    assert ConfigError(["a", "b"]).code == 2
    assert str(ConfigError(["a", "b"])) == "a\nb"
    assert MissingDependencyError("x").code == 4
    assert StoppedError("x").code == 75
    assert StoppedError("x", code=ExitCode.INTERRUPTED).code == 130
