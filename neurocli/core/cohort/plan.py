"""From people and options to an audited split: choose, divide, and in which order."""

from __future__ import annotations

from dataclasses import replace

from neurocli.core.cohort.balance import balance_rows
from neurocli.core.cohort.divide import Division, columns_of_balance, divide
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.people import only
from neurocli.core.cohort.sample import Sample
from neurocli.core.cohort.sampling import sample_people
from neurocli.core.data.tables import Table


def plan_split(people: Table, options: SplitOptions) -> tuple[Division, Sample]:
    """Choose whom to keep, and divide them.

    Usually the cohort is chosen first and then divided, so that every part is as balanced as the
    whole. With `sample_parts="train"` everyone is divided first and only the training part is
    chosen from: validation and test keep the mix of classes that the people have.

    Args:
        people: The table, sorted by id.
        options: How.

    Raises:
        UsageError: See `sample_people` and `divide`.
    """
    if options.sample_parts == "all" or options.sampling == "none":
        sample = sample_people(people, options)
        return divide(sample.people, options, sample), sample
    division = divide(people, options)
    sample = sample_people(only(people, division.split.parts["train"]), options)
    parts = {**division.split.parts, "train": list(sample.people.ids)}
    everyone = sorted(name for names in parts.values() for name in names)
    kept = only(people, everyone)
    columns = columns_of_balance(kept, options)
    split = replace(
        division.split,
        parts=parts,
        balance=balance_rows(columns, kept.ids, parts),
        pairs=[list(pair) for pair in sample.pairs] or (),
        sampling=sample.summary(),
    )
    notes = [*division.notes, "only train was sampled: val and test keep their mix of classes"]
    return Division(split, notes, []), sample
