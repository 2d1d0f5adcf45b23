"""Exact lookup of names, with a helping word when one is wrong.

A name is never found by prefix: a lookup is a dictionary match. Wildcards (`*`, `?`, `[..]`) are
for lists a user asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from neurocli.core.errors import UsageError

T = TypeVar("T")
_MANY = 12  # a longer list of choices does not fit an error of four lines


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like `name`, or None when none is near.

    >>> nearest("fmamba_mpl", ["fmamba", "fmamba_mlp"])
    'fmamba_mlp'
    """
    known = list(choices)
    folded = {choice.lower().replace("-", "_"): choice for choice in known}
    found = get_close_matches(name.lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def choices_text(choices: Iterable[str]) -> str:
    """Return choices as one readable list, cut after a dozen.

    >>> choices_text(["ar", "mim"])
    'ar, mim'
    """
    known = list(choices)
    text = ", ".join(known[:_MANY])
    return text if len(known) <= _MANY else f"{text}, ... ({len(known)} in all)"


def lookup(kind: str, name: str, table: Mapping[str, T], *, hint: str | None = None) -> T:
    """Return `table[name]`.

    Args:
        kind: What the table holds, in the singular ("model", "preset").
        name: The name asked for.
        table: Known names.
        hint: Where the names are listed, for the error.

    Raises:
        UsageError: The name is unknown; the nearest one and the choices are named.
    """
    if name in table:
        return table[name]
    near = nearest(name, table)
    guess = f"; did you mean {near}?" if near else ""
    listed = f"choices: {choices_text(table)}" if table else f"no {kind} is known"
    raise UsageError(
        f"unknown {kind} '{name}'{guess}", hint=f"{listed}; {hint}" if hint else listed
    )


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that fit a shell pattern, in their given order.

    >>> matching("fm*", ["fmamba", "cebra"])
    ['fmamba']
    """
    return [name for name in names if fnmatchcase(name, pattern)]
