"""Values as text: for a terminal, which they must not steer, and for JSON, which loses nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from neurocli.core.errors import ConfigError, NeuroError

Cell = object

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ERROR_LINES = 4


def safe(value: object) -> str:
    r"""Return text that cannot steer a terminal.

    >>> safe("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(value))


def cell_text(value: Cell) -> str:
    """Return one table cell: four significant digits, thousands apart, a dash for None.

    >>> cell_text(1234567), cell_text(0.123456), cell_text(None), cell_text(float("nan"))
    ('1,234,567', '0.1235', '-', 'undefined')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell_text(item) for item in value)
    return safe(value)


def plain_json(value: Any) -> Any:
    """Return a value as JSON holds it: no NaN, no infinity, paths as text.

    >>> plain_json({"a": float("nan"), "b": (1, 2.5)})
    {'a': None, 'b': [1, 2.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if hasattr(value, "item"):  # a NumPy scalar, without importing NumPy
        return plain_json(value.item())
    return str(value)


def error_lines(error: NeuroError) -> list[str]:
    """Return at most four lines: what is wrong and where, what is allowed, what to do."""
    found = [safe(line) for line in error.problems] if isinstance(error, ConfigError) else []
    lines = found or [safe(error)]
    room = _ERROR_LINES - bool(error.hint)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more (--json lists all)"]
    lines[0] = f"error: {lines[0]}"
    return [*lines, f"hint: {safe(error.hint)}"] if error.hint else lines


def error_values(error: NeuroError) -> dict[str, Any]:
    """Return an error as the JSON object of `--json` holds it."""
    return {
        "code": int(error.code),
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
    }
