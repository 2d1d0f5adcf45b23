"""Find the same person in two lists of ids, however each program wrote them.

Ids are texts. They are compared as written, then without what programs add (blanks, quotes,
`sub-`, a doubled `A_A`), then, where both look like numbers, as whole numbers of any length:
`0001234567`, `1234567.0` and `1.234567e6` are one person. How many pairs each rule gave is told,
and no rule may make two ids of one list equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

from neurocli.core.errors import UsageError

Mode = Literal["auto", "exact", "numeric"]
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DOUBLED = re.compile(r"(.+)_\1")
_SESSION = re.compile(r"(.+?)[_-](?:ses-?|i)?\d{1,2}(?:[_-]\d)?", re.ASCII)
_QUOTES = "\"'"
_SHOWN = 5
_MAX_DIGITS = 40


def canonical(text: str) -> str:
    """Return an id without what programs add around it.

    >>> canonical(" sub-1234567_1234567 ")
    '1234567'
    """
    bare = text.strip().strip("\ufeff").strip(_QUOTES).strip().removeprefix("sub-")
    doubled = _DOUBLED.fullmatch(bare)
    return doubled[1] if doubled else bare


def whole_number(text: str) -> int | None:
    """Return the whole number that an id spells, or None.

    >>> whole_number("1.234567e6"), whole_number("007"), whole_number("1.5"), whole_number("A7")
    (1234567, 7, None, None)
    """
    bare = canonical(text)
    if not _NUMBER.fullmatch(bare):
        return None
    try:
        value = Decimal(bare)
    except InvalidOperation:
        return None
    if value.adjusted() > _MAX_DIGITS or value != value.to_integral_value():
        return None
    return int(value)


def without_session(text: str) -> str | None:
    """Return the person of a repeat scan's id, or None when it names no session.

    >>> without_session("1234567_2"), without_session("1234567_ses-03"), without_session("12")
    ('1234567', '1234567', None)
    """
    found = _SESSION.fullmatch(canonical(text))
    return found[1] if found else None


def is_withdrawn(text: str) -> bool:
    """Return whether an id is a negative number, as of people who took back their consent."""
    number = whole_number(text)
    return number is not None and number < 0


@dataclass(frozen=True)
class Matched:
    """Hold which ids of two lists are of one person.

    Args:
        pairs: (place in the first list, place in the second), in the order of the first.
        rules: Rule -> pairs it gave.
        left: Ids of the first list without a partner.
        right: Ids of the second list without a partner.
    """

    pairs: list[tuple[int, int]]
    rules: dict[str, int]
    left: list[str]
    right: list[str]

    def told(self, left: str, right: str) -> str:
        """Return the counts and examples of what did not match as one sentence."""
        given = ", ".join(f"{count} {rule}" for rule, count in self.rules.items() if count)
        text = f"{len(self.pairs)} people matched ({given or 'none'})"
        for name, ids in ((left, self.left), (right, self.right)):
            if ids:
                text += f"; {len(ids)} of {name} have no partner: {shown(ids)}"
        return text


@dataclass
class _Matching:
    """Carry a matching from rule to rule."""

    left: Sequence[str]
    right: Sequence[str]
    partner: dict[int, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)

    def apply(self, name: str, key: Callable[[str], object]) -> None:
        """Pair what has no partner yet and is equal by a key; None is equal to nothing."""
        taken = set(self.partner.values())
        free = [i for i in range(len(self.left)) if i not in self.partner]
        open_right = [j for j in range(len(self.right)) if j not in taken]
        by_key = _unique({j: key(self.right[j]) for j in open_right}, self.right, name)
        mine = _unique({i: key(self.left[i]) for i in free}, self.left, name)
        found = {i: by_key[value] for value, i in mine.items() if value in by_key}
        self.partner.update(found)
        self.rules[name] = len(found)


def _unique(keys: dict[int, object], ids: Sequence[str], rule: str) -> dict[object, int]:
    found: dict[object, int] = {}
    clashes = []
    for place, value in keys.items():
        if value is None:
            continue
        if value in found:
            clashes.append(f"'{ids[found[value]]}' and '{ids[place]}'")
        found.setdefault(value, place)
    if clashes:
        raise UsageError(
            f"{len(clashes)} pairs of ids are the same person by the rule '{rule}': "
            + ", ".join(clashes[:3]),
            where="--iid-match",
            hint="use exact to keep them apart, or repair the ids",
        )
    return found


def match_ids(left: Sequence[str], right: Sequence[str], mode: Mode = "auto") -> Matched:
    """Match two lists of ids, each without repeats.

    Args:
        left: Ids.
        right: Ids.
        mode: "exact" compares texts as written, "numeric" whole numbers, "auto" texts, then
            cleaned texts, then whole numbers of what is left.

    Raises:
        UsageError: Two ids of one list become equal.
    """
    work = _Matching(left, right)
    if mode in ("auto", "exact"):
        work.apply("exact", lambda text: text)
    if mode == "auto":
        work.apply("cleaned", canonical)
    if mode in ("auto", "numeric"):
        work.apply("numeric", whole_number)
    pairs = sorted(work.partner.items())
    taken = set(work.partner.values())
    return Matched(
        pairs,
        work.rules,
        [left[i] for i in range(len(left)) if i not in work.partner],
        [right[j] for j in range(len(right)) if j not in taken],
    )


def shown(ids: Iterable[str]) -> str:
    """Return the first five ids as text."""
    known = list(ids)
    return ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")


def guessed_reason(left: Sequence[str], right: Sequence[str]) -> str:
    """Return the likeliest reason why no id of two lists is the same.

    >>> guessed_reason(["007"], ["7"])
    'they agree as numbers: use numeric or auto'
    """
    numbers = ({whole_number(name) for name in ids} - {None} for ids in (left, right))
    if len({*next(numbers)} & {*next(numbers)}):
        return "they agree as numbers: use numeric or auto"
    people = {without_session(name) for name in left} - {None}
    if people & {canonical(name) for name in right}:
        return "one side names sessions of people"
    for first in left[:_SHOWN]:
        for second in right:
            if (
                first != second
                and min(len(first), len(second)) > 2
                and (first in second or second in first)
            ):
                longer, shorter = sorted((first, second), key=len, reverse=True)
                return f"'{longer}' holds '{shorter}': a prefix or suffix differs"
    lengths = [Counter(map(len, ids)).most_common(1)[0][0] for ids in (left, right) if ids]
    if len(set(lengths)) > 1:
        return f"ids have {lengths[0]} signs on one side and {lengths[1]} on the other"
    return "the two sides seem to hold different people"
