"""Shape checks name the argument, what came and what was expected."""

from __future__ import annotations

import pickle

import pytest
import torch

from neurocli.core.errors import NeuroError
from neurocli.core.nn.shapes import ShapeError, expect_shape, shape_text


def test_a_fitting_shape_passes() -> None:
    expect_shape("z", torch.zeros(2, 5), {"batch": 2, "length": None}, "x")


@pytest.mark.parametrize("shape", [(2,), (2, 5, 1), (3, 5), (2, 0)])
def test_anything_else_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        expect_shape("z", torch.zeros(shape), {"batch": 2, "length": None}, "x (2, 7)")
    assert str(caught.value) == (
        f"z: z has shape {shape}, expected (batch 2, length any) to fit x (2, 7)"
    )


def test_the_error_serves_users_and_callers_and_travels_between_processes() -> None:
    error = ShapeError("z has shape (1,)", where="z", hint="reshape it")
    assert isinstance(error, NeuroError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.where, again.hint) == (error.message, "z", "reshape it")


def test_shape_text_names_every_axis() -> None:
    assert shape_text({"heads": 4, "state": None}) == "(heads 4, state any)"
