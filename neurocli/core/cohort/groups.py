"""Find people who must stay together: families, twins, repeat scans.

Two people are tied when they share a value in any of the group columns; a group is everyone who
is tied through any chain of such ties (a connected component).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def connected_groups(
    ids: Sequence[str], columns: Mapping[str, Sequence[str | None]]
) -> dict[str, str]:
    """Return the group of every id, named after its smallest member.

    Args:
        ids: Participants.
        columns: Values by column, each aligned with `ids`; None ties nobody.

    Returns:
        id -> group, for every id; a person without ties is a group of one.

    >>> connected_groups(["a", "b", "c", "d"], {"mother": ["1", "1", None, None],
    ...                                         "father": [None, "2", "2", None]})
    {'a': 'a', 'b': 'a', 'c': 'a', 'd': 'd'}
    """
    parent = {identifier: identifier for identifier in ids}
    for values in columns.values():
        first: dict[str, str] = {}
        for identifier, value in zip(ids, values, strict=True):
            if value is not None:
                _join(parent, identifier, first.setdefault(value, identifier))
    # Most people are tied to nobody, or to the one their group is called after.
    return {
        name: above if parent[above] == above else _root(parent, name)
        for name, above in [(name, parent[name]) for name in ids]
    }


def connected_pairs(ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group of every id, tied by pairs, named after its smallest member.

    Args:
        ids: Participants.
        pairs: Pairs of participants who belong together.

    >>> connected_pairs(["a", "b", "c"], [("c", "b")])
    {'a': 'a', 'b': 'b', 'c': 'b'}
    """
    parent = {identifier: identifier for identifier in ids}
    for one, other in pairs:
        _join(parent, one, other)
    return {identifier: _root(parent, identifier) for identifier in parent}


def _root(parent: dict[str, str], name: str) -> str:
    top = name
    while parent[top] != top:
        top = parent[top]
    while parent[name] != top:  # later look-ups then take one step
        parent[name], name = top, parent[name]
    return top


def _join(parent: dict[str, str], one: str, other: str) -> None:
    a, b = _root(parent, one), _root(parent, other)
    # The smaller name wins, so that a group is called the same for any order of rows.
    parent[max(a, b)] = min(a, b)


def members_by_group(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Return group -> its members, all sorted.

    >>> members_by_group({"b": "a", "a": "a", "c": "c"})
    {'a': ['a', 'b'], 'c': ['c']}
    """
    members: dict[str, list[str]] = {}
    for identifier in sorted(groups):
        members.setdefault(groups[identifier], []).append(identifier)
    return dict(sorted(members.items()))


def divided_groups(
    parts: Mapping[str, Iterable[str]], groups: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the groups that have members in more than one part, with those parts.

    This audit shares no code with the splitting, so it can catch its mistakes.

    Args:
        parts: Ids by part.
        groups: Group by id; an id without one is its own.

    Returns:
        group -> parts; empty when nothing leaks.

    >>> divided_groups({"train": ["a"], "test": ["b"]}, {"a": "f", "b": "f"})
    {'f': ['train', 'test']}
    """
    seen: dict[str, list[str]] = {}
    for part, ids in parts.items():
        for group in {groups.get(identifier, identifier) for identifier in ids}:
            seen.setdefault(group, []).append(part)
    return {group: seen[group] for group in sorted(seen) if len(seen[group]) > 1}
