"""Apply the policy for people who lack a value that is needed."""

from __future__ import annotations

from collections.abc import Sequence

from neurocli.core.cohort.people import without
from neurocli.core.cohort.strata import Kind, read_column
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text


def without_missing(
    people: Table, requests: Sequence[tuple[str, Kind | None]], policy: str
) -> tuple[Table, list[str]]:
    """Return the people who have every value that is asked for, and what to say about the rest.

    Args:
        people: The table.
        requests: Columns and the kinds they are to be read as.
        policy: "category" keeps everyone, "drop" leaves people out, "error" refuses.

    Raises:
        UsageError: Values are missing under "error", or nobody is left.
    """
    if policy == "category":
        return people, []
    lacking: dict[str, str] = {}
    for name, kind in requests:
        labels = read_column(people, name, kind).labels
        for identifier, label in zip(people.ids, labels, strict=True):
            if label is None:
                lacking.setdefault(identifier, name)
    if not lacking:
        return people, []
    told = choices_text(f"{identifier} ({name})" for identifier, name in [*lacking.items()][:3])
    if policy == "error" or len(lacking) == len(people.ids):
        raise UsageError(
            f"{len(lacking)} of {len(people.ids)} people lack a value: {told}",
            where=str(people.path),
            hint="fill the cells, or choose missing=category or missing=drop",
        )
    notes = [f"{len(lacking)} people lack a value and are left out: {told}"]
    return without(people, lacking), notes
