"""Shape checks whose errors name the argument, what came and what was expected."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from neurocli.core.errors import NeuroError


class ShapeError(NeuroError, ValueError):
    """Refuse a tensor whose shape, dtype or content does not fit the call.

    It is a ValueError too, so that library callers may catch it without knowing this package.
    """


def shape_text(sizes: Mapping[str, int | None]) -> str:
    """Return named sizes as one readable shape.

    Args:
        sizes: Size per axis name in order; None where any size is allowed.

    >>> shape_text({"batch": 2, "length": None})
    '(batch 2, length any)'
    """
    parts = (f"{name} {'any' if size is None else size}" for name, size in sizes.items())
    return f"({', '.join(parts)})"


def expect_shape(name: str, value: Tensor, sizes: Mapping[str, int | None], fits: str) -> None:
    """Check a tensor's shape.

    Args:
        name: The argument's name, for the error.
        value: The tensor.
        sizes: Expected size per axis name in order; None where any size >= 1 is allowed.
        fits: What the expectation comes from, for example "x (2, 7, 4, 16)".

    Raises:
        ShapeError: The number of axes or a size differs; both shapes are named.
    """
    expected = tuple(sizes.values())
    if value.ndim == len(expected) and all(
        got == want if want is not None else got >= 1
        for got, want in zip(value.shape, expected, strict=True)
    ):
        return
    raise ShapeError(
        f"{name} has shape {tuple(value.shape)}, expected {shape_text(sizes)} to fit {fits}",
        where=name,
    )
