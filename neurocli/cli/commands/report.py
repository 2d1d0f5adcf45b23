"""`neuro report`: run folders in; one self-contained HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.views import facts, plan_view

app = new_group()


@add_verb(
    app,
    "report",
    """
neuro report runs/fmamba-ar-1 -o report.html
neuro report runs/* -o comparison.html --force
neuro report split.json runs/fmamba-sex-1 profile.json -o paper.html
""",
)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Run folders, experiments, splits, what profile --json printed."
        ),
    ],
    out: Annotated[Path, value("FILE", "The page.", RUN_PANEL, "--out", "-o")] = Path(
        "report.html"
    ),
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Write one HTML page about runs.

    Learning curves, results with intervals and baselines, paired tests between runs, cost against
    score, figures of the room and a methods paragraph; everything is inside the page, so it works
    offline. Its tables (CSV) and pictures (PNG) are written beside it, into PAGE_files.
    """
    from neurocli import make_report

    result = make_report(runs, out, force=force, dry_run=dry_run)
    output = sink()
    for note in result.notes:
        output.note(note)
    values = {
        "out": result.out,
        "runs": result.runs,
        "notes": result.notes,
        "files": result.files,
    }
    if result.plan is not None:
        output.show("report", {**values, "plan": result.plan}, view=plan_view(result.plan))
        return 0
    rows = [("page", result.out), ("shown", ", ".join(result.runs))]
    rows += [("beside it", ", ".join(result.files))] if result.files else []
    output.show("report", values, main=result.out, view=[facts(rows)])
    output.hint(f"open {result.out} in a browser")
    return 0
