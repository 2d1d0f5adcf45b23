"""Read the small JSON documents that stand beside data: sidecars, dataset descriptions.

They come from other people's programs, so size, nesting, repeated keys and numbers that JSON does
not know are checked before a value is believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring as _quoted
from pathlib import Path
from typing import Any, NoReturn

from neurocli.core.data.source import open_regular
from neurocli.core.errors import InputError

_MAX_BYTES = 16 << 20


def read_json(path: Path, *, max_bytes: int = _MAX_BYTES) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        max_bytes: Largest size that is accepted; 16 MiB where nothing larger makes sense.

    Returns:
        The object.

    Raises:
        InputError: The file is missing or no JSON object, repeats a key, or holds NaN.
    """
    with open_regular(path, max_bytes=max_bytes) as handle:
        content = handle.read()
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        # A UnicodeDecodeError carries the whole content in its text.
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:120]
        raise InputError(path, f"is no sound JSON: {reason}", "repair the file") from error
    if not isinstance(value, dict):
        raise InputError(path, f"holds a {type(value).__name__}, a JSON object is needed")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} appears twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def indented(value: Any) -> str:
    r"""Return `json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)`, but faster.

    The library indents in Python, one text at a time. Lists of texts, which make up a split of half
    a million people, are joined here at once; all else is the library's.

    Args:
        value: Plain values; keys of mappings are texts.

    Raises:
        ValueError: A number is not finite.

    >>> indented({"a": ["x", "y"], "b": []})
    '{\n  "a": [\n    "x",\n    "y"\n  ],\n  "b": []\n}'
    """
    return "".join(_indented(value, "\n"))


def _indented(value: Any, newline: str) -> Iterator[str]:
    inner = newline + "  "
    if isinstance(value, Mapping) and value and all(type(key) is str for key in value):
        mark = "{"
        for key, item in value.items():
            yield f"{mark}{inner}{_quoted(key)}: "
            yield from _indented(item, inner)
            mark = ","
        yield newline + "}"
    elif isinstance(value, list | tuple) and value:
        if all(type(item) is str for item in value):
            yield f"[{inner}" + f",{inner}".join(map(_quoted, value)) + f"{newline}]"
            return
        mark = "["
        for item in value:
            yield mark + inner
            yield from _indented(item, inner)
            mark = ","
        yield newline + "]"
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        yield text.replace("\n", newline) if "\n" in text else text
