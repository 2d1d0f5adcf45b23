"""The options of `neuro split`, checked before anything is read; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any

from neurocli.core.errors import UsageError
from neurocli.core.names import lookup

FORMATS = ("json", "swift", "csv", "nnunet")
MISSING_POLICIES = ("category", "error", "drop")
SITE_POLICIES = ("mix", "stratify", "hold-out")
SAMPLES = ("none", "random", "balanced", "stratified", "psm")
MATCHES = ("optimal", "nearest", "psmpy")
ORDERS = ("largest", "smallest", "closest", "random")
DISCARDS = ("none", "both", "treated", "control")
SAMPLE_PARTS = ("all", "train")
CALIPER = 0.2  # standard deviations of the logit; Austin (2011)
_LEAST = {"seed": None, "folds": 2, "bins": 1, "optimize": 0, "ratio": 1}
_CHOICES = {
    "format": ("split format", FORMATS),
    "missing": ("policy for missing values", MISSING_POLICIES),
    "site_policy": ("site policy", SITE_POLICIES),
    "sample": ("way of sampling", SAMPLES),
    "match": ("way of matching", MATCHES),
    "order": ("order of matching", ORDERS),
    "discard": ("class to trim", DISCARDS),
    "sample_parts": ("part to sample", SAMPLE_PARTS),
}
# Options that only a matching understands, and those that need classes.
_OF_MATCHING = ("exact", "caliper", "ratio", "match", "order", "replace", "discard")
_OF_CLASSES = ("balanced", "stratified", "psm")


@dataclass(frozen=True)
class SplitOptions:
    """Say how people are divided; names equal those of the shell.

    Args:
        id_column: Column with the ids; None chooses by its name.
        train: Share of the training part, above 0.
        val: Share of the validation part; test takes what is left of 1.
        folds: Number of folds of a cross-validation; None makes one split.
        seed: Seed of the order.
        seeds: Several splits at once, as "1-10" or a sequence; files are named after the seeds.
        stratify: Columns to balance, as "a,b" or a sequence; "age:cont" and "sex:cat" force a kind.
        group: Columns whose shared values tie people together, as "a,b" or a sequence.
        kinship: Table of two ids a row: people who are related; None for none.
        format: "json", "swift", "csv" or "nnunet".
        bins: Quantile bins of a continuous column.
        missing: What to do with people who lack a value to balance: "category" keeps them as a
            level of their own, "drop" leaves them out, "error" refuses.
        allow_unsafe_ids: Write ids that older readers of the swift format would misread.
        fail_on_imbalance: Raise after writing when some column is off by more than the limit.
        site_policy: "mix" lets parts share sites, "stratify" gives each its share of every site,
            "hold-out" keeps whole sites apart.
        site_column: The column of sites; None finds one by its name.
        optimize: Trials of swaps that even out stratified parts; 0 for none.
        sample: Whom to keep before people are divided: "none" (all), "random", "balanced" (classes
            of `treatment` made equal), "stratified" (the same within cells of `covariates`), "psm"
            (pairs of equal propensity). None is "psm" where a matching option is given.
        limit: Number of people to keep, or a share below 1.
        treatment: Column of the classes; `COLUMN=VALUE` says which value is the treated one.
        covariates: Columns to match on.
        exact: Columns that must be equal in a pair.
        caliper: Largest distance of a pair in SD of the logit, "none", and "age=1" for single
            columns in their own units; None is 0.2.
        ratio: Controls per treated person.
        match: "optimal", "nearest" or "psmpy"; None is "optimal".
        order: Whose turn comes first in a nearest matching: "largest", "smallest", "closest" or
            "random"; None is "largest".
        replace: Whether a control may serve several.
        discard: Whom to leave out beyond the other class's range of scores; None is "none".
        sample_parts: "all" samples the cohort, "train" only the training part.
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
    site_column: str | None = None
    kinship: str | PathLike[str] | None = None
    optimize: int = 20_000
    seeds: str | Sequence[int] | None = None
    sample: str | None = None
    limit: str | float | None = None
    treatment: str | None = None
    covariates: str | Sequence[str] = ()
    exact: str | Sequence[str] = ()
    caliper: str | float | None = None
    ratio: int | None = None
    match: str | None = None
    order: str | None = None
    replace: bool = False
    discard: str | None = None
    sample_parts: str = "all"

    def __post_init__(self) -> None:
        for name, (kind, choices) in _CHOICES.items():
            if getattr(self, name) is not None:
                lookup(kind, getattr(self, name), dict.fromkeys(choices))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in ("folds", "ratio"):
                continue
            if type(value) is not int or (least is not None and value < least):
                kind = "no whole number" if type(value) is not int else f"below {least}"
                raise UsageError(f"{name}={value!r} is {kind}", hint="give a whole number")
        self._check_sampling()

    def _check_sampling(self) -> None:
        given = [name for name in _OF_MATCHING if getattr(self, name)]
        if given and self.sampling != "psm":
            raise UsageError(
                f"--{given[0]} belongs to matching, and --sample {self.sample} matches nobody",
                hint="take --sample psm, or drop the option",
            )
        if self.sampling in _OF_CLASSES and not self.treatment:
            raise UsageError(
                f"--sample {self.sampling} needs the column of the classes",
                hint="name it, as in --treatment diagnosis",
            )
        if self.sampling == "random" and self.limit is None:
            raise UsageError(
                "--sample random needs to know how many", hint="as in --limit 200 or --limit 0.5"
            )
        if self.sampling in ("psm", "stratified") and not self.covariate_names:
            raise UsageError(
                f"--sample {self.sampling} needs columns to compare",
                hint="name them, as in --covariates age,sex",
            )
        if self.sample_parts == "train" and self.folds:
            raise UsageError(
                "sample_parts=train goes with one split, not with folds", hint="drop one of them"
            )
        parse_caliper(self.caliper)
        parse_limit(self.limit)

    @property
    def sampling(self) -> str:
        """Return the way of sampling, told from the other options where it is not given."""
        if self.sample is not None:
            return self.sample
        given = any(getattr(self, name) for name in _OF_MATCHING)
        return "psm" if given else ("none" if self.limit is None else "random")

    @property
    def stratify_names(self) -> tuple[str, ...]:
        """Return the columns to balance, in their given order."""
        return _names(self.stratify)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Return the group columns, in their given order."""
        return _names(self.group)

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Return the columns to match on; those to balance where none are named."""
        return _names(self.covariates) or self.stratify_names

    @property
    def exact_names(self) -> tuple[str, ...]:
        """Return the columns that must be equal in a pair."""
        return _names(self.exact)

    def as_dict(self) -> dict[str, Any]:
        """Return what decides who is where, as plain values for the split file."""
        shown: dict[str, Any] = {
            "train": self.train,
            "val": self.val,
            "folds": self.folds,
            "stratify": list(self.stratify_names),
            "group": list(self.group_names),
            "bins": self.bins,
            "missing": self.missing,
        }
        if self.stratify_names or self.site_policy == "stratify":
            shown["optimize"] = self.optimize
        if self.site_policy != "mix":
            shown["site_policy"] = self.site_policy
        if self.kinship is not None:
            shown["kinship"] = True
        if self.sampling != "none":
            shown["sampling"] = self._sampling_dict()
        return shown

    def _sampling_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "sample": self.sampling,
            "limit": None if self.limit is None else str(self.limit),
            "treatment": self.treatment,
            "covariates": list(self.covariate_names),
            "parts": self.sample_parts,
        }
        if self.sampling == "psm":
            deviations, columns = parse_caliper(self.caliper)
            shown |= {
                "match": self.match or MATCHES[0],
                "order": self.order or ORDERS[0],
                "caliper": deviations,
                "calipers": columns,
                "exact": list(self.exact_names),
                "ratio": self.ratio or 1,
                "replace": self.replace,
                "discard": self.discard or DISCARDS[0],
            }
        return shown


def parse_caliper(value: str | float | None) -> tuple[float | None, dict[str, float]]:
    """Return the caliper in SD of the logit (None for none) and those of single columns.

    Args:
        value: Such as 0.2, "none", "0.2,age=1"; None for the default.

    Raises:
        UsageError: Something is no number above 0.

    >>> parse_caliper("none,age=2")
    (None, {'age': 2.0})
    """
    deviations: float | None = CALIPER
    columns: dict[str, float] = {}
    for word in str(value).split(",") if value is not None else ():
        name, _, number = word.strip().rpartition("=")
        if not name and number.lower() == "none":
            deviations = None
            continue
        try:
            size = float(number)
        except ValueError:
            size = -1.0
        if not 0 < size < float("inf"):
            raise UsageError(
                f"caliper '{word}' is no distance",
                hint="give SD of the logit such as 0.2, none, or a column's units as in age=1",
            )
        if name:
            columns[name] = size
        else:
            deviations = size
    return deviations, columns


def parse_limit(value: str | float | None) -> int | float | None:
    """Return a number of people, a share below 1, or None.

    Args:
        value: Such as "200", 0.5 or None.

    Raises:
        UsageError: It is neither.

    >>> parse_limit("0.5"), parse_limit(200)
    (0.5, 200)
    """
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if 0 < number < 1:
        return number
    if number >= 1 and number.is_integer():
        return int(number)
    raise UsageError(
        f"limit '{value}' is no number of people",
        hint="give a whole number, or a share between 0 and 1",
    )


def split_options(options: SplitOptions | None, named: Mapping[str, Any]) -> SplitOptions:
    """Return options with named ones in their place.

    Args:
        options: Where to start; None for the defaults.
        named: Values by option name.

    Raises:
        UsageError: An option or its value is unknown, or two contradict each other.
    """
    defaults = {field.name: field.default for field in fields(SplitOptions)}
    for name in named:
        lookup("option", name, defaults)
    return replace(options or SplitOptions(), **named)


def seed_list(options: SplitOptions) -> tuple[int, ...]:
    """Return the seeds of several splits, or none when one split is wanted.

    Raises:
        UsageError: Something is no whole number, or a seed stands twice.

    >>> seed_list(SplitOptions(seeds="1-3,7"))
    (1, 2, 3, 7)
    """
    if options.seeds is None:
        return ()
    seeds: list[int] = []
    words = options.seeds.split(",") if isinstance(options.seeds, str) else options.seeds
    for word in words:
        first, dash, last = str(word).strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"seeds: '{word}' is no whole number", hint="as in 1,2,3 or 1-10")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"seeds={options.seeds!r} names no seed, or one twice", hint="as in 1,2,3 or 1-10"
        )
    return tuple(seeds)


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value
    return tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
