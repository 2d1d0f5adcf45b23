"""Find partners for treated people: one score, exact columns, calipers, and what was left over.

Exact columns cut the problem into independent lines, one per combination of their levels. On each
line people are paired by `line` (optimal) or `nearest` (greedy). People come sorted by id and
positions are whole numbers, so the pairs depend on nothing but people, columns and seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.line import capped_pairs, cheapest_allowed, optimal_pairs
from neurocli.core.cohort.nearest import Allowed, nearest_pairs, nearest_with_replacement
from neurocli.core.cohort.order import hash_key
from neurocli.core.errors import UsageError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_MOST_CELLS = 16_000_000  # of a dense table, which calipers on single columns need


@dataclass(frozen=True)
class MatchPlan:
    """Say how partners are found.

    Args:
        method: "optimal" or "nearest".
        order: Whose turn it is first when partners are taken greedily, by the score.
        caliper: Largest distance in standard deviations of the logit; None for any.
        calipers: Largest difference of single columns, in their own units.
        ratio: Controls of each treated person.
        replace: Whether a control may serve several.
        discard: Which people outside the other class's range of scores are left out.
        seed: For the order "random".
    """

    method: str = "optimal"
    order: str = "largest"
    caliper: float | None = 0.2
    calipers: Mapping[str, float] = field(default_factory=dict)
    ratio: int = 1
    replace: bool = False
    discard: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Matched:
    """Hold pairs as indices of people, by treated person.

    Args:
        treated_M: The treated one of each pair.
        control_M: The control of each pair.
        distance_M: Distance of the pair in logits' units of the score.
        cap: Caliper in the same units; None for none.
        is_exact: Whether an optimal matching is the exact optimum; False where a caliper binds in
            a line too long for that. The number of pairs is the largest in any case.
        reasons: How many treated people have no partner, and why; controls left out by `discard`.
    """

    treated_M: Ints
    control_M: Ints
    distance_M: Ints
    cap: int | None
    reasons: Mapping[str, int]
    is_exact: bool = True

    def remarks(self) -> list[str]:
        """Return what should be known about how good these pairs are."""
        if self.is_exact:
            return []
        return [
            "the caliper leaves people alone in a cohort too large for an exact optimum: "
            "the number of pairs is the largest possible, their distance nearly the least"
        ]


def match_people(
    position_S: Ints,
    treated_S: Bools,
    plan: MatchPlan,
    *,
    ids: Sequence[str],
    exact_S: Sequence[tuple[str, ...]] | None = None,
    values: Mapping[str, Floats] | None = None,
) -> Matched:
    """Pair treated people with controls.

    Args:
        position_S: Score of each person, whole numbers.
        treated_S: Who is treated.
        plan: How.
        ids: Participants, sorted; they decide the order "random".
        exact_S: Levels that must be equal in a pair, per person; None for no such columns.
        values: Values of the columns of `plan.calipers`, NaN where missing (which pairs nobody).

    Raises:
        UsageError: Calipers on single columns make an optimal matching too large.
    """
    kept_S = _in_support(position_S, treated_S, plan.discard)
    cap = _cap(position_S, treated_S, plan.caliper)
    pairs: list[tuple[Ints, Ints]] = []
    is_exact = True
    alone: Counter[str] = Counter()
    for members in _lines(exact_S, len(ids)):
        rows = members[kept_S[members]]
        focal, partners = rows[treated_S[rows]], rows[~treated_S[rows]]
        if not len(focal) or not len(partners):
            alone["no control with the same exact values"] += len(focal)
            continue
        line = _Line(position_S, focal, partners, cap, plan, values or {}, ids)
        *made, is_best = line.pairs()
        is_exact &= is_best
        n_alone = len(focal) - len(np.unique(made[0]))
        within = plan.caliper is not None or bool(plan.calipers)
        alone["no free control within the caliper" if within else "too few controls"] += n_alone
        pairs.append((made[0], made[1]))
    treated, control = (
        np.concatenate([pair[side] for pair in pairs]) if pairs else np.empty(0, np.int64)
        for side in (0, 1)
    )
    order = np.lexsort((control, np.abs(position_S[treated] - position_S[control]), treated))
    treated, control = treated[order], control[order]
    reasons = {why: n for why, n in sorted(alone.items()) if n}
    if n_out := int((treated_S & ~kept_S).sum()):
        reasons["treated outside the common support"] = n_out
    if n_out := int((~treated_S & ~kept_S).sum()):
        reasons["controls outside the common support"] = n_out
    distance = np.abs(position_S[treated] - position_S[control])
    return Matched(treated, control, distance, cap, reasons, is_exact)


def pooled_sd(position_S: Ints, treated_S: Bools) -> float:
    """Return sqrt((v1 + v0) / 2) of the score, the unit of calipers (Austin 2011)."""
    variances = [
        float(group.var(ddof=1)) if len(group) > 1 else 0.0
        for group in (position_S[treated_S], position_S[~treated_S])
    ]
    return float(np.sqrt(sum(variances) / 2))


def _cap(position_S: Ints, treated_S: Bools, caliper: float | None) -> int | None:
    if caliper is None:
        return None
    # Ten digits, as the score itself, so that last bits of the spread decide nothing.
    return int(float(f"{caliper * pooled_sd(position_S, treated_S):.9e}"))


def _in_support(position_S: Ints, treated_S: Bools, discard: str) -> Bools:
    """Return who lies in the other class's range of scores, of the classes to be trimmed."""
    kept = np.ones(len(position_S), dtype=np.bool_)
    for name, group_S in (("treated", treated_S), ("control", ~treated_S)):
        other = position_S[~group_S]
        if discard in (name, "both") and len(other):
            kept &= ~group_S | ((position_S >= other.min()) & (position_S <= other.max()))
    return kept


def _lines(exact_S: Sequence[tuple[str, ...]] | None, n: int) -> list[Ints]:
    if exact_S is None:
        return [np.arange(n, dtype=np.int64)]
    members: dict[tuple[str, ...], list[int]] = {}
    for index, level in enumerate(exact_S):
        members.setdefault(level, []).append(index)
    return [np.array(members[level], np.int64) for level in sorted(members)]


@dataclass(frozen=True)
class _Line:
    """Pair the people of one combination of exact values."""

    position_S: Ints
    focal: Ints
    partners: Ints
    cap: int | None
    plan: MatchPlan
    values: Mapping[str, Floats]
    ids: Sequence[str]

    def pairs(self) -> tuple[Ints, Ints, bool]:
        """Return treated and control of each pair as indices of people, and if they are exact."""
        partners = self.partners[np.argsort(self.position_S[self.partners], kind="stable")]
        y = self.position_S[partners]
        if self.plan.method == "optimal" and not self.plan.replace:
            return self._optimal(partners, y)
        x = self.position_S[self.focal]
        allowed = self._allowed(partners) if self.plan.calipers else None
        ratio = self.plan.ratio
        if self.plan.replace:
            made = nearest_with_replacement(x, y, cap=self.cap, ratio=ratio, allowed=allowed)
        else:
            made = nearest_pairs(x, y, self._turns(x), cap=self.cap, ratio=ratio, allowed=allowed)
        return self.focal[made[0]], partners[made[1]], True

    def _optimal(self, partners: Ints, y: Ints) -> tuple[Ints, Ints, bool]:
        order = np.argsort(self.position_S[self.focal], kind="stable")
        focal = np.repeat(self.focal[order], self.plan.ratio)
        x = self.position_S[focal]
        made: Sequence[Ints]
        is_exact = True
        if self.plan.calipers:
            made = self._optimal_by_table(focal, x, partners, y)
        elif self.cap is not None:
            *made, is_exact = capped_pairs(x, y, self.cap)
        elif len(x) <= len(y):
            made = optimal_pairs(x, y)
        else:
            made = optimal_pairs(y, x)[::-1]
        return focal[made[0]], partners[made[1]], is_exact

    def _optimal_by_table(self, focal: Ints, x: Ints, partners: Ints, y: Ints) -> tuple[Ints, Ints]:
        if len(x) * len(y) > _MOST_CELLS:
            raise UsageError(
                f"{len(x)} treated and {len(y)} controls are too many for an optimal matching with "
                f"calipers on {', '.join(self.plan.calipers)}",
                hint="take --match nearest, or cut the problem with --exact",
            )
        distance = np.abs(x[:, None] - y[None, :])
        allowed = np.ones(distance.shape, dtype=np.bool_)
        for name, most in self.plan.calipers.items():
            values = self.values[name]
            allowed &= np.abs(values[focal][:, None] - values[partners][None, :]) <= most
        cap = int(distance.max(initial=0)) if self.cap is None else self.cap
        return cheapest_allowed(distance, cap, allowed)

    def _allowed(self, partners: Ints) -> Allowed:
        columns = [
            (self.values[name][self.focal], self.values[name][partners], most)
            for name, most in self.plan.calipers.items()
        ]

        def allowed(focal: int, candidates: Ints) -> Bools:
            kept = np.ones(len(candidates), dtype=np.bool_)
            for mine, theirs, most in columns:
                kept &= np.abs(theirs[candidates] - mine[focal]) <= most
            return kept

        return allowed

    def _turns(self, x: Ints) -> list[int] | None:
        if self.plan.order == "closest":
            return None
        if self.plan.order == "random":
            keys = [hash_key(self.plan.seed, f"turn:{self.ids[i]}") for i in self.focal.tolist()]
            return sorted(range(len(x)), key=lambda i: keys[i])
        turns = np.argsort(-x if self.plan.order == "largest" else x, kind="stable")
        return [int(turn) for turn in turns]
