"""How results look as text, where several commands show the same thing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from neurocli.cli.output import Table, sink
from neurocli.cli.text import cell_text

if TYPE_CHECKING:
    from neurocli.core.data.items import PrepareResult
    from neurocli.core.experiment.run import ExperimentResult

_MANY = 8
_FIRST = 4  # metrics come with the chief ones first


def facts(rows: Iterable[tuple[str, object]], title: str | None = None) -> Table:
    """Return names and values as a table; rows without a value are left out."""
    # A dash for "not asked" would look like a result.
    shown = [(name, value) for name, value in rows if value is not None]
    return Table(("", title or ""), shown)


def written(setting: object) -> str:
    """Return a configuration value as YAML writes it.

    >>> written(None), written((6, 6)), written(True), written(1e-3), written("cosine")
    ('null', '[6, 6]', 'true', '0.001', 'cosine')
    """
    if isinstance(setting, (list, tuple)):
        return f"[{', '.join(written(item) for item in setting)}]"
    if setting is None or isinstance(setting, bool):
        return {None: "null", True: "true", False: "false"}[setting]
    return str(setting)


def counted(n: float) -> str:
    """Return a large count as people say it, three digits and a unit.

    >>> counted(1358954496), counted(672), counted(85_000)
    ('1.36 G', '672', '85 k')
    """
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{float(f'{n / size:.3g}'):g} {sign}"
    return f"{n:g}"


def plan_view(plan: Mapping[str, Any]) -> list[Table | str]:
    """Return what a dry run found, one dotted key a row."""
    rows = [(key, _short(setting)) for key, setting in flat(plan)]
    return ["Nothing was written. This would be done:", Table(("key", "value"), rows)]


def _short(setting: object) -> str:
    if not isinstance(setting, (list, tuple)) or len(setting) <= _MANY:
        return written(setting)
    return f"{written(setting[:_MANY])[:-1]}, ... ({len(setting)} in all)]"


def command_line(*words: object) -> str:
    """Return words as a line that a shell reads back, for hints.

    >>> command_line("neuro", "report", "my run")
    "neuro report 'my run'"
    """
    return shlex.join(str(word) for word in words)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings with dotted keys.

    >>> list(flat({"a": {"b": 1}, "c": [2, 3]}))
    [('a.b', 1), ('c', [2, 3])]
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def show_prepared(command: str, result: PrepareResult, *, next_step: tuple[object, ...]) -> int:
    """Show what `preprocess` or `convert-hdf5` did.

    Args:
        command: Name of the command.
        result: What it returned.
        next_step: Words of the command line that people type next.

    Returns:
        The exit code: PARTIAL when some items failed.
    """
    output = sink()
    for note in result.notes:
        output.note(note)
    counts = ("done", "failed", "skipped")
    values = {
        "out": result.out,
        **{name: getattr(result, name) for name in counts},
        "seconds": result.seconds,
        "failures": result.failures,
        "notes": result.notes,
    }
    if result.plan is not None:
        output.show(command, {**values, "plan": result.plan}, view=plan_view(result.plan))
        return output.left_out(result.failures)
    rows = [*((name, getattr(result, name)) for name in counts), ("out", result.out)]
    output.show(command, values, main=result.out, view=[facts(rows)])
    output.hint(command_line(*next_step))
    return output.left_out(result.failures)


def experiment_view(result: ExperimentResult) -> list[Table | str]:
    """Return the runs of an experiment and how its models compare."""
    rows = []
    for run in result.runs:
        best = run.get("best") or {}
        named = f"{best['part']} {best['metric']}" if best else None
        found = (best.get("value"), best.get("epoch"))
        rows.append([run["name"], run["status"], named, *found])
    table = Table(["run", "status", "best by", "value", "epoch"], rows, str(result.out))
    return [table, *comparison_view(result.comparison)]


def comparison_view(comparison: Mapping[str, Any]) -> list[Table | str]:
    """Return one table over all metrics: every pair of models, its difference and test.

    Args:
        comparison: Metric -> models, best, pairs.
    """
    rows = [
        [
            metric,
            f"{pair['first']} - {pair['second']}",
            pair["n"],
            pair["mean_difference"],
            None
            if pair["low"] is None
            else f"{cell_text(pair['low'])} to {cell_text(pair['high'])}",
            pair["p_holm"],
            found["best"] or "none",
        ]
        for metric, found in list(comparison.items())[:_FIRST]
        for pair in found["pairs"]
    ]
    columns = ["metric", "models", "n", "difference", "95 % interval", "p (Holm)", "best"]
    more = len(comparison) - _FIRST
    told = [f"{more} more metrics are in comparison.csv."] if more > 0 else []
    return [Table(columns, rows, "paired over cases"), *told] if rows else []
