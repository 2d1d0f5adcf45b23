"""The base of every config block, and the few field types that YAML and flags share.

Blocks are frozen pydantic models in strict mode: an unknown key, a word where a number is meant
or `yes` where `true` is meant is an error, never a guess. The one leniency is lists, which YAML
writes as `[6, 6, 6, 1]` and a shell as `6,6,6,1`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Block(BaseModel):
    """Hold one group of options: frozen, strict, unknown keys refused, finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        validate_default=True,
    )


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(_as_number(part) for part in parts)
    return tuple(value) if isinstance(value, list) else value


def _as_any_length(value: Any) -> Any:
    # One number alone is a list of one, which a shell cannot write otherwise.
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return (value,) if is_number else _as_tuple(value)


def _as_number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_texts(value: Any) -> Any:
    """Return words of `a,b` or of a list as a tuple, anything else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


IntTuple = Annotated[tuple[int, ...], BeforeValidator(_as_any_length)]
"""Whole numbers, as `[6, 6, 6, 1]`, `6,6,6,1` or `6`."""
IntTriple = Annotated[tuple[int, int, int], BeforeValidator(_as_tuple)]
"""Three whole numbers (H, W, D)."""
IntQuad = Annotated[tuple[int, int, int, int], BeforeValidator(_as_tuple)]
"""Four whole numbers (H, W, D, T)."""
FloatPair = Annotated[tuple[float, float], BeforeValidator(_as_tuple)]
"""Two numbers."""
TextTuple = Annotated[tuple[str, ...], BeforeValidator(as_texts)]
"""Words, as `[a, b]` or `a,b`."""
