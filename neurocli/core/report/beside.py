"""The files that stand beside a page: its tables for a spreadsheet, its pictures for a paper.

They lie in a folder of the page's name. What an experiment folder already holds is not written
again: the page links to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurocli.core.experiment.columns import (
    EPOCHS_TABLE,
    MODELS_TABLE,
    MODELS_TIDY,
    RUNS_TABLE,
    STAGE_COLUMNS,
    STAGES_TABLE,
    table_text,
)
from neurocli.core.paths import durable_write
from neurocli.core.report.figures import Panel, png_of
from neurocli.core.report.material import Material
from neurocli.core.report.page_parts import scatter_page
from neurocli.core.report.tables import (
    FOREIGN,
    epochs_text,
    models_text,
    models_tidy_text,
    runs_text,
)

CURVES_PNG = "learning_curves.png"
BARS_PNG = "model_comparison_chart.png"
EFFICIENCY_PNG = "parameter_efficiency.png"
SCATTER_HTML = "interactive_3d_analysis.html"
PAIRS_FILE = "paired_tests.csv"
_PAIR_COLUMNS = (
    "learned", "measure", "first", "second", "test", "n", "median_difference", "p", "p_holm",
)  # fmt: skip
_ENDING = "_files"


@dataclass(frozen=True)
class Beside:
    """Hold one file that stands beside a page.

    Args:
        name: Its name.
        href: Where it is, relative to the page.
        about: What it holds.
        content: Gives its bytes; None where it stands there already.
    """

    name: str
    href: str
    about: str
    content: Callable[[], bytes | str] | None = None


def folder_of(page: Path) -> Path:
    """Return the folder that stands beside a page.

    >>> folder_of(Path("a/report.html")).as_posix()
    'a/report_files'
    """
    return page.with_name(f"{page.stem}{_ENDING}")


def files_beside(material: Material, page: Path) -> list[Beside]:
    """Return the files of a page; nothing is written or drawn yet.

    Args:
        material: What the page shows.
        page: Where the page will be.
    """
    found = []
    there = material.sources.tables
    for name, about, content in [*_tables(material), *_pictures(material)]:
        if name in there:
            found.append(_linked(name, there[name], about, page))
        else:
            found.append(Beside(name, f"{folder_of(page).name}/{name}", about, content))
    more = [(name, about) for name, about in FOREIGN.items() if name in there]
    return found + [_linked(name, there[name], about, page) for name, about in more]


def _linked(name: str, path: Path, about: str, page: Path) -> Beside:
    href = Path(os.path.relpath(path, page.parent)).as_posix()
    return Beside(name, href, f"{about} (of the experiment folder)")


def write_beside(files: list[Beside], page: Path) -> list[Path]:
    """Write the files that are not there yet; return their paths."""
    return [
        durable_write(folder_of(page) / file.name, file.content())
        for file in files
        if file.content is not None
    ]


def _tables(material: Material) -> Iterator[tuple[str, str, Callable[[], str]]]:
    rows, epochs, stages = material.run_rows, material.epoch_rows, material.stage_rows
    if not rows:
        return
    yield RUNS_TABLE, "one row per run", lambda: runs_text(rows)
    yield MODELS_TABLE, "mean and SD by model", lambda: models_text(rows)
    yield MODELS_TIDY, "the same, one row per metric", lambda: models_tidy_text(rows)
    if epochs:
        yield EPOCHS_TABLE, "one row per epoch", lambda: epochs_text(epochs)
    # Without a profile the table has its header alone, which says that nothing was measured.
    yield STAGES_TABLE, "memory by stage", lambda: table_text(STAGE_COLUMNS, stages)
    if material.pairs:
        yield (
            PAIRS_FILE,
            "paired tests between models",
            lambda: table_text(
                _PAIR_COLUMNS,
                [{name: getattr(row, name) for name in _PAIR_COLUMNS} for row in material.pairs],
            ),
        )


def _pictures(material: Material) -> Iterator[tuple[str, str, Callable[[], bytes | str]]]:
    for name, about, panels, columns in (
        (CURVES_PNG, "loss and score over training", material.curve_panels, 2),
        (BARS_PNG, "scores and costs by model", material.bar_panels, 4),
        (EFFICIENCY_PNG, "score against cost", material.efficiency_panels, 2),
    ):
        if panels:
            yield name, about, _png(panels, columns)
    if material.scatters:
        yield SCATTER_HTML, "cost and score, to turn", lambda: scatter_page(material.scatters)


def _png(panels: list[Panel], columns: int) -> Callable[[], bytes]:
    return lambda: png_of(panels, columns=columns)
