"""The options of `neuro split`, checked before anything is read; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from neurocli.core.errors import NotBuiltYetError, UsageError
from neurocli.core.names import lookup

FORMATS = ("json", "swift", "csv", "nnunet")
_LEAST = {"seed": None, "folds": 2, "bins": 1}
MISSING_POLICIES = ("category", "error", "drop")


@dataclass(frozen=True)
class SplitOptions:
    """Say how people are divided; names equal those of the shell.

    Args:
        id_column: Column with the ids; None chooses by its name.
        train: Share of the training part, above 0.
        val: Share of the validation part; test takes what is left of 1.
        folds: Number of folds of a cross-validation; None makes one split.
        seed: Seed of the order.
        stratify: Columns to balance, as "a,b" or a sequence; "age:cont" and "sex:cat" force a kind.
        group: Columns whose shared values tie people together, as "a,b" or a sequence.
        format: "json", "swift" or "csv".
        bins: Quantile bins of a continuous column.
        missing: What to do with people who lack a value to balance: "category" keeps them as a
            level of their own, "drop" leaves them out, "error" refuses.
        allow_unsafe_ids: Write ids that older readers of the swift format would misread.
        fail_on_imbalance: Raise after writing when some column is off by more than the limit.
        site_policy: "mix"; other policies come later.
        sample: "none"; undersampling and matching come later.
        seeds: Later: several splits at once, as "1-10".
        limit: Later: number or share of people to keep.
        treatment: Later: column of the two classes to match.
        covariates: Later: columns to match on.
        exact: Later: columns that must be equal in a pair.
        caliper: Later: largest distance of a pair.
        ratio: Later: controls per treated person.
        match: Later: method of matching.
    """

    id_column: str | None = None
    train: float = 0.7
    val: float = 0.15
    folds: int | None = None
    seed: int = 0
    stratify: str | Sequence[str] = ()
    group: str | Sequence[str] = ()
    format: str = "json"
    bins: int = 5
    missing: str = "category"
    allow_unsafe_ids: bool = False
    fail_on_imbalance: bool = False
    site_policy: str = "mix"
    sample: str = "none"
    seeds: str | None = None
    limit: str | float | None = None
    treatment: str | None = None
    covariates: str | Sequence[str] = ()
    exact: str | Sequence[str] = ()
    caliper: str | float | None = None
    ratio: int | None = None
    match: str | None = None

    def __post_init__(self) -> None:
        lookup("split format", self.format, dict.fromkeys(FORMATS))
        lookup("policy for missing values", self.missing, dict.fromkeys(MISSING_POLICIES))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name == "folds":
                continue
            if type(value) is not int or (least is not None and value < least):
                kind = "no whole number" if type(value) is not int else f"below {least}"
                raise UsageError(f"{name}={value!r} is {kind}", hint="give a whole number")

    @property
    def stratify_names(self) -> tuple[str, ...]:
        """Return the columns to balance, in their given order."""
        return _names(self.stratify)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Return the group columns, in their given order."""
        return _names(self.group)

    def as_dict(self) -> dict[str, Any]:
        """Return what decides who is where, as plain values for the split file."""
        return {
            "train": self.train,
            "val": self.val,
            "folds": self.folds,
            "stratify": list(self.stratify_names),
            "group": list(self.group_names),
            "bins": self.bins,
            "missing": self.missing,
        }


_LATER = (
    "site_policy",
    "sample",
    "seeds",
    "limit",
    "treatment",
    "covariates",
    "exact",
    "caliper",
    "ratio",
    "match",
)


def split_options(options: SplitOptions | None, named: Mapping[str, Any]) -> SplitOptions:
    """Return options with named ones in their place.

    Args:
        options: Where to start; None for the defaults.
        named: Values by option name.

    Raises:
        UsageError: An option or its value is unknown.
        NotBuiltYetError: An option belongs to a part of the command that comes later.
    """
    defaults = {field.name: field.default for field in fields(SplitOptions)}
    for name in named:
        lookup("option", name, defaults)
    chosen = replace(options or SplitOptions(), **named)
    for name in _LATER:
        value = getattr(chosen, name)
        if value != defaults[name] and value not in ([], None):
            raise NotBuiltYetError(
                f"--{name.replace('_', '-')} {value}: sampling, matching and site policies are not "
                "in this version of split",
                hint="leave the option out; --stratify and --group work",
            )
    return chosen


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value
    return tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
