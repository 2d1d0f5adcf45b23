"""`neuro split`: a phenotype table in; who trains, who validates, who is tested, out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import CONFIG_PANEL, RUN_PANEL, add_verb, new_group
from neurocli.cli.views import command_line, facts, plan_view

if TYPE_CHECKING:
    from neurocli.core.cohort.command import SplitResult

_PARTS, _BALANCE, _MATCH = "Parts", "Balance and ties", "Sampling and matching"

app = new_group()


@add_verb(
    app,
    "split",
    """
neuro split participants.tsv -o split.json --stratify age,sex --group family
neuro split h5 -o split.json --train 0.8 --val 0.1 --seed 42
neuro split table.csv -o folds.json --folds 5 --id-column subject
neuro split h5 -o split.txt --format swift --seeds 1-10
neuro split t.csv -o m.json --sample psm --treatment case --covariates age,sex
""",
)
def split(
    table: Annotated[
        Path,
        typer.Argument(metavar="TABLE_OR_DATA", help="CSV, TSV, Parquet or a dataset folder."),
    ],
    out: Annotated[
        Path, value("FILE", "Split file; a report beside it.", RUN_PANEL, "--out", "-o")
    ],
    id_column: Annotated[
        str | None, value("NAME", "Column with the ids; found if not given.", _PARTS)
    ] = None,
    train: Annotated[float | None, value("X", "Share of train; 0.7 if not given.", _PARTS)] = None,
    val: Annotated[float | None, value("X", "Share of val; 0.15 if not given.", _PARTS)] = None,
    folds: Annotated[int | None, value("K", "Folds of a cross-validation.", _PARTS)] = None,
    format_: Annotated[
        str | None, value("json|swift|csv|nnunet", "json if not given.", _PARTS, "--format")
    ] = None,
    stratify: Annotated[
        str | None, value("A,B", "Columns to balance, such as age,sex.", _BALANCE)
    ] = None,
    group: Annotated[
        str | None, value("A,B", "Columns that tie people, such as family.", _BALANCE)
    ] = None,
    kinship: Annotated[
        Path | None, value("FILE", "Pairs of relatives: ID1, ID2.", _BALANCE)
    ] = None,
    site_policy: Annotated[
        str | None, value("mix|stratify|hold-out", "What sites may share.", _BALANCE)
    ] = None,
    site_column: Annotated[
        str | None, value("NAME", "Column of sites; found if not given.", _BALANCE)
    ] = None,
    fail_on_imbalance: Annotated[
        bool | None, switch("--fail-on-imbalance", "Exit code 3 when a part is off.", _BALANCE)
    ] = None,
    sample: Annotated[
        str | None,
        value("none|random|balanced|stratified|psm", "Whom to keep first.", _MATCH),
    ] = None,
    limit: Annotated[str | None, value("N|SHARE", "How many people to keep.", _MATCH)] = None,
    treatment: Annotated[
        str | None, value("COLUMN", "Classes; COLUMN=VALUE names the treated one.", _MATCH)
    ] = None,
    covariates: Annotated[
        str | None, value("A,B", "Columns to match on; those of --stratify if not given.", _MATCH)
    ] = None,
    exact: Annotated[str | None, value("A,B", "Columns equal in a pair.", _MATCH)] = None,
    caliper: Annotated[
        str | None, value("X|none", "SD of the logit, 0.2 if not given; or age=1.", _MATCH)
    ] = None,
    ratio: Annotated[int | None, value("N", "Controls for each; 1 if not given.", _MATCH)] = None,
    match: Annotated[
        str | None, value("optimal|nearest|psmpy", "optimal if not given.", _MATCH)
    ] = None,
    order: Annotated[
        str | None,
        value("largest|smallest|closest|random", "Whose turn is first in nearest.", _MATCH),
    ] = None,
    replace: Annotated[
        bool | None, switch("--replace", "A control may serve several.", _MATCH)
    ] = None,
    discard: Annotated[
        str | None, value("none|both|treated|control", "Trim to common support.", _MATCH)
    ] = None,
    settings: Annotated[
        list[str] | None,
        value(
            "OPTION=VALUE",
            "bins, missing, optimize, sample_parts or allow_unsafe_ids.",
            CONFIG_PANEL,
            "--set",
            "-s",
        ),
    ] = None,
    seed: options.Seed = None,
    seeds: Annotated[
        str | None, value("LIST", "One split each, as 1-10; files end in _SEED.", RUN_PANEL)
    ] = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Divide a cohort into train, val and test.

    The same seed gives the same split on any machine, whatever the order of rows. People of one
    --group are never divided. With --treatment the classes are sampled or matched first. The
    report shows the balance of every column.
    """
    from neurocli import make_split

    chosen = options.given(
        id_column=id_column,
        train=train,
        val=val,
        folds=folds,
        format=format_,
        stratify=stratify,
        group=group,
        kinship=kinship,
        site_policy=site_policy,
        site_column=site_column,
        fail_on_imbalance=fail_on_imbalance,
        sample=sample,
        limit=limit,
        treatment=treatment,
        covariates=covariates,
        exact=exact,
        caliper=caliper,
        ratio=ratio,
        match=match,
        order=order,
        replace=replace,
        discard=discard,
        seed=seed,
        seeds=seeds,
    )
    named = {**options.parse_settings(settings), **chosen}
    return _show(make_split(table, out, force=force, dry_run=dry_run, **named), table, dry_run)


def _show(result: SplitResult, table: Path, dry_run: bool) -> int:
    output = sink()
    for note in dict.fromkeys(n for run in (result, *result.others) for n in run.notes):
        output.note(note, "warning")
    values = {
        "out": result.out,
        "report_json": result.report_json,
        "report_html": result.report_html,
        "counts": result.counts,
        "n_folds": result.n_folds,
        "groups": {"split": result.n_groups_divided},
        "imbalanced": result.imbalanced,
        "seed": result.split.seed,
        "n_pairs": len(result.split.pairs),
        "sampling": {
            name: shown
            for name, shown in result.sampling.items()
            if name not in ("balance", "overlap")
        },
        "splits": [
            {"out": run.out, "seed": run.split.seed, "counts": run.counts}
            for run in (result, *result.others)
        ],
        "test_overlap": result.likeness,
        "notes": result.notes,
    }
    if dry_run:
        plan = {"would_write": result.out, "people": result.counts, "n_folds": result.n_folds}
        output.show("split", {**values, "plan": plan}, view=plan_view(plan))
        return 0
    rows = [(part, n) for part, n in result.counts.items()]
    facts_rows = [
        ("folds", result.n_folds or None),
        ("pairs", len(result.split.pairs) or None),
        ("split", result.out),
        ("more splits", len(result.others) or None),
    ]
    out_of_balance = ", ".join(result.imbalanced) or "none"
    output.show(
        "split",
        values,
        main=result.out,
        view=[
            Table(("part", "people"), rows),
            facts([*facts_rows, ("report", result.report_html), ("off balance", out_of_balance)]),
        ],
    )
    # The next command reads data; a table alone has none, so a name stands for them.
    data = table if table.is_dir() else "h5"
    words = ("neuro", "train", "fmamba_mlp", "--task", "sex", "--data", data, "--split", result.out)
    output.hint(command_line(*words))
    return 0
