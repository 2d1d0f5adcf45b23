"""Errors keep their fields through a pipe and print their place."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

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


def fail(kind: str) -> None:
    if kind == "input":
        raise InputError("a.nii", "truncated", "copy it again")
    raise UsageError("no", where="--x", hint="yes")


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [("input", "a.nii: truncated", ExitCode.FAILED), ("usage", "--x: no", ExitCode.USAGE)],
)
def test_survives_a_worker(kind: str, text: str, code: ExitCode) -> None:
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(fail, kind).exception()
    assert isinstance(error, InputError if kind == "input" else UsageError)
    assert str(error) == text
    assert error.code == code
    assert error.hint


def test_codes_are_those_of_the_contract() -> None:
    assert NeuroError("x").code == 1
    assert ConfigError(["a", "b"]).code == 2
    assert str(ConfigError(["a", "b"])) == "a\nb"
    assert MissingDependencyError("x").code == 4
    assert StoppedError("x").code == 75
    assert StoppedError("x", code=ExitCode.INTERRUPTED).code == 130
