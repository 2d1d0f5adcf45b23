"""Find out who must stay together: group columns, relatives, whole sites, matched pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurocli.core.cohort.groups import connected_pairs
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.strata import read_column
from neurocli.core.data.tables import Table, plain_id, read_records
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

KINSHIP, PAIR = "kinship", "pair"
_SITE_WORDS = frozenset(
    {
        "abcdsite",
        "acquisitionsite",
        "center",
        "centre",
        "scanner",
        "scannerid",
        "site",
        "siteid",
        "siteidl",
        "sitename",
    }
)
_PAIR_COLUMNS = (("id1", "id2"), ("iid1", "iid2"), ("subject1", "subject2"), ("person1", "person2"))
_THIRD_DEGREE = 0.0442  # kinship coefficients below are those of strangers (KING)

Ties = dict[str, Sequence[str | None]]


def site_column(people: Table, options: SplitOptions) -> str | None:
    """Return the column of sites when the policy needs one.

    Args:
        people: The table.
        options: Policy, and the column if it is named.

    Raises:
        UsageError: There is no such column, or none is named like sites.
    """
    if options.site_policy == "mix":
        return None
    if options.site_column is not None:
        read_column(people, options.site_column, "categorical")
        return options.site_column
    found = [name for name in people.columns if re.sub(r"[^a-z]", "", name.lower()) in _SITE_WORDS]
    if not found:
        raise UsageError(
            f"--site-policy {options.site_policy} finds no column of sites",
            where=str(people.path),
            hint="name it with --site-column, one of " + choices_text(people.columns),
        )
    return found[0]


def ties(
    people: Table, options: SplitOptions, pairs: Sequence[tuple[str, str]]
) -> tuple[Ties, list[str]]:
    """Return values that people who must stay together share, by column, and notes.

    Args:
        people: The table, sorted by id.
        options: Group columns, list of relatives, site policy.
        pairs: Matched pairs.

    Raises:
        UsageError: There is no such column, or the list of relatives names none of these people.
        InputError: The list of relatives cannot be read.
    """
    notes: list[str] = []
    found: Ties = {
        name: read_column(people, name, "categorical").labels for name in options.group_names
    }
    if options.site_policy == "hold-out" and (site := site_column(people, options)):
        found[site] = read_column(people, site, "categorical").labels
        if lacking := sum(label is None for label in found[site]):
            notes.append(f"{site}: {lacking} people have no site and count as sites of their own")
    if options.kinship is not None:
        relatives, told = read_kinship(Path(options.kinship), people.ids)
        notes += told
        found[KINSHIP] = _tied_by(people.ids, relatives)
    if pairs:
        found[PAIR] = _tied_by(people.ids, pairs)
    return found, notes


def _tied_by(ids: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str | None]:
    named = {name for pair in pairs for name in pair}
    groups = connected_pairs(ids, pairs)
    return [groups[name] if name in named else None for name in ids]


def read_kinship(path: Path, ids: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Read pairs of relatives.

    A column `kinship` or `phi` of coefficients, where there is one, is compared with 0.0442: pairs
    below are strangers.

    Args:
        path: Table with the columns ID1 and ID2 (or IID1, IID2), or of just two columns.
        ids: The participants; pairs with others tie nobody here.

    Returns:
        Pairs of participants, and notes.

    Raises:
        UsageError: The two columns are not there, or nobody of the cohort is named.
        InputError: The file is no table.
    """
    records = read_records(path)
    header = list(records[0][1])
    one, other = _id_columns(path, header)
    rows = [(row[one], row[other]) for _, row in records]
    known = set(ids)
    if one in known or other in known:  # a list without a header
        rows.insert(0, (one, other))
    folded = {name.lower(): name for name in header}
    degree = folded.get("kinship") or folded.get("phi")
    notes: list[str] = []
    if degree is not None:
        is_kin = [_is_kin(row[degree]) for _, row in records]
        if far := is_kin.count(False):
            notes.append(f"{far} pairs of {path.name} have a kinship below {_THIRD_DEGREE}: no tie")
            rows = [row for row, near in zip(rows, is_kin, strict=True) if near]
    pairs = [(plain_id(a), plain_id(b)) for a, b in rows if a is not None and b is not None]
    kept = [(a, b) for a, b in pairs if a in known and b in known]
    if not kept:
        raise UsageError(
            f"no pair of {len(pairs)} is of this cohort",
            where=str(path),
            hint=f"it names {choices_text(sorted({a for a, _ in pairs})[:3])}, the cohort "
            f"{choices_text(sorted(known)[:3])}",
        )
    if len(kept) < len(pairs):
        notes.append(f"{len(pairs) - len(kept)} pairs of {path.name} name people who are not here")
    return kept, notes


def _id_columns(path: Path, header: Sequence[str]) -> tuple[str, str]:
    folded = {name.lower().replace("_", ""): name for name in header}
    for one, other in _PAIR_COLUMNS:
        if one in folded and other in folded:
            return folded[one], folded[other]
    if len(header) == 2:
        return header[0], header[1]
    raise UsageError(
        f"has the columns {choices_text(header)}",
        where=str(path),
        hint="a list of relatives has the columns ID1 and ID2",
    )


def _is_kin(text: str | None) -> bool:
    try:
        return text is None or float(text) >= _THIRD_DEGREE
    except ValueError:
        return True


def labels_of(found: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Return the columns whose values describe people, without those made here."""
    return [name for name in found if name not in (KINSHIP, PAIR)]
