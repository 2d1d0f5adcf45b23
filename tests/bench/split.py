"""Matching and splitting at the size of a biobank, and against the psmpy package.

Run: `python tests/bench/split.py --json`. One thread, CPU time. `..._vs_psmpy` is psmpy's fit and
matching over ours at 1,000 treated and 4,000 controls, of which psmpy is timed once, since a turn
takes long; `..._matching_only...` leaves both fits out. Figures: 500,000 people, 8 covariates,
100,000 treated, from arrays to pairs and the score's fit with them; the whole command on as many
people, from a CSV to split and report; and an ABCD-like cohort of 12,000 people in families at 21
sites, from a table to audited parts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import Work, arguments, peak_elsewhere, peak_mib, seconds_in_turns, show

from neurocli.core.cohort.balance import largest_smd
from neurocli.core.cohort.command import make_split
from neurocli.core.cohort.divide import divide
from neurocli.core.cohort.matching import Matched, MatchPlan, match_people
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.propensity import UNITS, propensity
from neurocli.core.data.tables import Table

SLOPES = np.array([0.3, -0.2, 0.1, 0.2, 0.0, 0.0, 0.1, 0.2])
PLANS = {
    "nearest": MatchPlan("nearest"),
    "optimal": MatchPlan("optimal"),
    "optimal_without_caliper": MatchPlan("optimal", caliper=None),
}


def people(n: int, n_treated: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 8 normal covariates and exactly so many treated, likelier where these are high."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(n, len(SLOPES)))
    wish = design @ SLOPES + rng.logistic(size=n)
    treated = np.zeros(n, dtype=bool)
    treated[np.argsort(-wish)[:n_treated]] = True
    return design, treated


def matched(design: np.ndarray, treated: np.ndarray, plan: MatchPlan, ids: list[str]) -> Matched:
    """Fit and match."""
    return match_people(propensity(design, treated).position_S, treated, plan, ids=ids)


def at_scale(name: str) -> Work:
    """Return the work of half a million people."""
    design, treated = people(500_000, 100_000)
    ids = [f"{i:07}" for i in range(len(treated))]
    return lambda: matched(design, treated, PLANS[name], ids)


def whole_command() -> Work:
    """Return the work of `neuro split --sample psm` on a table of half a million people."""
    owner = tempfile.TemporaryDirectory()
    folder = Path(owner.name)
    design, treated = people(500_000, 100_000)
    rng = np.random.default_rng(1)
    sex, site = rng.choice(["F", "M"], len(design)), rng.integers(0, 21, len(design))
    names = [*(f"x{i}" for i in range(6)), "sex", "site"]
    with (folder / "people.csv").open("w") as handle:
        handle.write(f"id,{','.join(names)},treated\n")
        for i, row in enumerate(design[:, :6]):
            numbers = ",".join(f"{value:.4f}" for value in row)
            handle.write(f"{i:07},{numbers},{sex[i]},site{site[i]:02},{int(treated[i])}\n")
    options = {"sample": "psm", "treatment": "treated", "covariates": ",".join(names)}
    del design, treated, sex, site

    def work() -> None:
        out = Path(owner.name) / "split.json"
        make_split(out.with_name("people.csv"), out, force=True, **options)

    return work


def abcd_table(n: int = 12_000) -> Table:
    """Return a table of people in families of one to three at 21 sites of unequal size."""
    rng = np.random.default_rng(1)
    sizes = rng.choice([1, 2, 3], p=[0.8, 0.18, 0.02], size=n)
    family = np.repeat(np.arange(n), sizes)[:n]
    share = np.linspace(0.3, 1.7, 21)
    site = rng.choice(21, p=share / share.sum(), size=n)[family]
    columns: dict[str, Any] = {
        "age": [f"{value:.1f}" for value in rng.normal(119, 7.5, n)],
        "income": [f"{value:.2f}" for value in rng.normal(7, 2.4, n)],
        "sex": rng.choice(["F", "M"], n).tolist(),
        "site": [f"site{number:02}" for number in site],
        "family": [str(number) for number in family],
    }
    return Table([f"NDAR{i:06}" for i in range(n)], "id", columns, Path("abcd.csv"))


def against_psmpy() -> tuple[dict[str, float], dict[str, Any]]:
    """Return ratios and figures of 1,000 treated and 4,000 controls."""
    from neurocli.core.cohort.peer import _matcher, psmpy_pairs

    design, treated = people(5_000, 1_000)
    ids = [f"{i:04}" for i in range(5_000)]
    names = [f"x{i}" for i in range(design.shape[1])]
    psmpy_pairs(*people(500, 100), names=names)  # its imports are not its work
    psm = _matcher(design, treated, names)
    began = time.thread_time()
    psm.logistic_ps(balance=True)
    fitted = time.thread_time()
    psm.kdtree_matched(matcher="propensity_logit", replacement=False, caliper=None)
    done = time.thread_time()
    free = {name: MatchPlan(name, caliper=None) for name in ("nearest", "optimal")}
    score = propensity(design, treated)
    whole: dict[str, Work] = {
        name: lambda plan=plan: matched(design, treated, plan, ids)  # type: ignore[misc]
        for name, plan in free.items()
    }
    only: dict[str, Work] = {
        f"{name}_only": lambda plan=plan: match_people(  # type: ignore[misc]
            score.position_S, treated, plan, ids=ids
        )
        for name, plan in free.items()
    }
    seconds = seconds_in_turns(whole | only, 9)
    # Its pairs by the same yardstick: our score is the plain fit to everyone.
    theirs = psmpy_pairs(design, treated, names=names)
    own = psm.predicted_data.set_index("row")["propensity_logit"]
    own_position = np.rint(own.sort_index().to_numpy() * UNITS).astype(np.int64)
    ratios, figures = {}, {"psmpy_fit_s": fitted - began, "psmpy_match_s": done - fitted}
    for name, plan in free.items():
        ratios[f"{name}_matching_only_vs_psmpy"] = (done - fitted) / seconds[f"{name}_only"]
        ratios[f"{name}_with_fit_vs_psmpy"] = (done - began) / seconds[name]
        figures[f"{name}_match_ms"] = 1000 * seconds[f"{name}_only"]
        ours = match_people(score.position_S, treated, plan, ids=ids)
        figures[f"{name}_pairs"] = len(ours.treated_M)
        figures[f"{name}_distance"] = int(ours.distance_M.sum()) / UNITS
        same_score = match_people(own_position, treated, plan, ids=ids)
        figures[f"{name}_distance_on_psmpys_score"] = int(same_score.distance_M.sum()) / UNITS
    figures["psmpy_pairs"] = len(theirs[0])
    for label, position in (("", score.position_S), ("_on_its_own_score", own_position)):
        gap = np.abs(position[theirs[0]] - position[theirs[1]])
        figures[f"psmpy_distance{label}"] = int(gap.sum()) / UNITS
    return ratios, figures


def main() -> None:
    """Print the figures."""
    given = arguments(__doc__, runs=2)
    if given.peak:
        work = whole_command() if given.peak == "command" else at_scale(given.peak)
        print(peak_mib(work))
        return
    ratios, figures = against_psmpy()
    for name in PLANS:
        work = at_scale(name)
        figures[f"{name}_500k_s"] = seconds_in_turns({name: work}, given.runs)[name]
        found = work()
        assert isinstance(found, Matched)
        figures[f"{name}_500k_pairs"] = len(found.treated_M)
        figures[f"{name}_500k_distance"] = int(found.distance_M.sum()) / UNITS
        figures[f"{name}_500k_peak_mib"] = peak_elsewhere(__file__, name)
    figures["command_500k_s"] = seconds_in_turns({"command": whole_command()}, 1)["command"]
    figures["command_500k_peak_mib"] = peak_elsewhere(__file__, "command")
    table = abcd_table()
    options = SplitOptions(stratify="age,income,sex,site", group="family")
    seconds = seconds_in_turns({"abcd": lambda: divide(table, options)}, given.runs)["abcd"]
    split = divide(table, options).split
    figures["abcd_like_s"] = seconds
    figures["abcd_like_largest_smd"] = float(largest_smd(split.balance) or 0.0)
    figures["abcd_like_families_split"] = split.groups["split"]
    figures["abcd_like_sizes"] = [len(names) for names in split.parts.values()]
    show("split", ratios, figures, given.json)


if __name__ == "__main__":
    main()
