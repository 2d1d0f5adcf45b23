"""How values become text on a page: numbers, intervals, names from data, folders."""

from __future__ import annotations

import re
import unicodedata

# An absolute path starts a word; a slash inside one, as in train/val, starts none.
_POSIX = re.compile(r"(?:file://|(?<![^\s'\"=:,;(\[<]))~?/(?:[^/\s'\"]+/)+")
_LONG_FRACTION = re.compile(r"-?[0-9]{1,15}\.[0-9]{5,20}(e-?[0-9]{1,3})?")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\(?:[^\\\s'\"]+\\)*")


def number_text(value: float | None) -> str:
    """Return a number as a table shows it: four digits, a dash where it is missing.

    >>> number_text(0.123456), number_text(1419200), number_text(None)
    ('0.1235', '1,419,200', '\u2013')
    """
    if value is None:
        return "\u2013"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def short_cell(cell: str) -> str:
    """Return a cell of a table, a long decimal fraction cut to four digits; ids are left alone.

    >>> short_cell("47.53394869252808"), short_cell("0012345678"), short_cell("70.0")
    ('47.53', '0012345678', '70.0')
    """
    return number_text(float(cell)) if _LONG_FRACTION.fullmatch(cell) else cell


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval as `[low, high]`, nothing where there is none."""
    return f"[{number_text(interval[0])}, {number_text(interval[1])}]" if interval else ""


def visible(text: str) -> str:
    r"""Return text whose control, direction and surrogate characters are written out.

    They could reverse the reading order of a page or break a vector picture.

    >>> visible("a\x00b")
    'a\\x00b'
    """
    if text.isprintable():
        return text
    return "".join(character if _is_plain(character) else _escape(character) for character in text)


def _is_plain(character: str) -> bool:
    return character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, limit: int = 28) -> str:
    """Return a text of at most `limit` characters, its middle cut out where it is longer.

    >>> shortened("fmamba_mlp-classification-seed-17", 12)
    'fmamb\u2026eed-17'
    """
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}\u2026{text[half + 1 - limit :]}"


def without_folders(text: str) -> str:
    r"""Return text in which absolute paths are cut to their last part.

    A page is given to others; where data lay on the author's machine is nobody's business.

    >>> without_folders("neuro train fmamba --data /home/ann/h5 -o a/b")
    'neuro train fmamba --data \u2026/h5 -o a/b'
    """
    return _WINDOWS.sub("\u2026/", _POSIX.sub("\u2026/", text))
