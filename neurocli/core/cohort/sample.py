"""Hold who was chosen before people are divided, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neurocli.core.data.tables import Table

_DIGITS = 12


@dataclass(frozen=True)
class Sample:
    """Hold a chosen cohort.

    Args:
        people: The table of those who are kept, sorted by id.
        pairs: (treated, control) of each pair; none without matching.
        notes: Sentences the user should read.
        audit: What was done, as plain values for the report; empty when nothing was.
        imbalanced: Covariates that still differ after matching.
        class_column: Column of the classes; None when there are none.
    """

    people: Table
    pairs: Sequence[tuple[str, str]] = ()
    notes: list[str] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    imbalanced: list[str] = field(default_factory=list)
    class_column: str | None = None

    def summary(self) -> dict[str, Any]:
        """Return the audit without its tables and histograms, for the split file."""
        return {name: v for name, v in self.audit.items() if name not in ("balance", "overlap")}


def rounded(value: Any) -> Any:
    """Return plain values with floats of twelve digits: the last ones differ between machines.

    >>> rounded({"a": [0.1 + 0.2]})
    {'a': [0.3]}
    """
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS - 1}e}") if value == value else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
