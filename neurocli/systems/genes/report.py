"""Pictures of the genes room: genes of a sweep, ranks of people, attention between genes.

Everything is drawn from the files in the run folder, so that no torch is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neurocli.core.data.npz import read_array
from neurocli.core.data.tables import Table, read_table
from neurocli.core.errors import InputError
from neurocli.core.report.collect import collect_run
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_number
from neurocli.core.report.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NAMED = 30
_N_BINS = 40


def figures(run_dir: Path) -> list[Figure]:
    """Return the pictures of a run.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.

    Returns:
        For a sweep its genes, for any run the ranks of own genes, for a transformer the attention.

    Raises:
        InputError: A file of the run is damaged.
    """
    found = [_genes(run_dir), _ranks(run_dir), _attention(run_dir)]
    return [picture for picture in found if picture is not None]


def _numbers(table: Table, name: str) -> list[float | None]:
    return [as_number(cell) for cell in table.columns.get(name, [])]


def _genes(run_dir: Path) -> Figure | None:
    path = run_dir / "genes.csv"
    if not path.is_file():
        return None
    table = read_table(path, id_column="gene")
    values, q_values = _numbers(table, "percentile"), _numbers(table, "q")
    rows = [
        (value, q < 0.05, name)
        for value, q, name in zip(values, q_values, table.ids, strict=True)
        if value is not None and q is not None
    ]
    rows.sort(key=lambda row: -row[0])
    n_found = sum(is_found for _, is_found, _ in rows)

    def paint(axes: Axes, palette: Palette) -> None:
        for is_found, mark, label in ((True, "o", "found, q < 0.05"), (False, "x", "not found")):
            points = [(i + 1, row[0]) for i, row in enumerate(rows) if row[1] == is_found]
            if points:
                x, y = zip(*points, strict=True)
                color = palette.series[0 if is_found else 1]
                axes.plot(x, y, mark, color=color, markersize=4, label=label)
        axes.axhline(0.5, color=palette.text, linestyle=":", linewidth=1.0, label="chance")
        axes.set_xlabel("genes, sorted")
        axes.set_ylabel("percentile of own genes\n[share]")
        axes.legend()

    return draw(
        paint,
        title="Every gene by itself, test",
        caption=f"n = {len(rows)} genes; {run_dir.name}/genes.csv",
        alt=f"{n_found} of {len(rows)} genes are found at q below 0.05.",
    )


def _ranks(run_dir: Path) -> Figure | None:
    run = collect_run(run_dir, with_curves=False)
    for evaluation in run.evaluations:
        cells = evaluation.subjects.column("percentile") or []
        values = [value for value in map(as_number, cells) if value is not None]
        if not values:
            continue
        mean = sum(values) / len(values)

        def paint(axes: Axes, palette: Palette, values: list[float] = values) -> None:
            axes.hist(values, bins=_N_BINS, range=(0, 1), color=palette.series[0])
            even = len(values) / _N_BINS
            axes.axhline(even, color=palette.text, linestyle=":", linewidth=1.0, label="chance")
            axes.set_xlabel("percentile of the own gene among all people [share]")
            axes.set_ylabel("people [count]")
            axes.legend()

        return draw(
            paint,
            title=f"Where own genes stand, {evaluation.part}",
            caption=f"people, n = {len(values)}; {run.name}/{evaluation.subjects_source}",
            alt=f"The mean percentile of own genes is {mean:.3f}; chance is 0.5.",
        )
    return None


def _attention(run_dir: Path) -> Figure | None:
    path, names_path = run_dir / "gene_attention.npy", run_dir / "gene_attention_genes.txt"
    if not (path.is_file() and names_path.is_file()):
        return None
    names = names_path.read_text(encoding="utf-8").splitlines()
    found = read_array(path)
    if found.ndim != 4 or found.shape[2:] != (len(names),) * 2 or not found.size:
        sizes = "x".join(map(str, found.shape))
        raise InputError(
            path,
            f"of shape {sizes} is no attention between {len(names)} genes",
            "align again with --force, or delete it",
        )
    weights = found.mean(axis=(0, 1))
    strongest = int(weights.sum(0).argmax())

    def paint(axes: Axes, palette: Palette) -> None:
        axes.grid(visible=False)
        axes.pcolormesh(weights, cmap="cividis", rasterized=True)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        if len(names) <= _MAX_NAMED:
            ticks = [place + 0.5 for place in range(len(names))]
            axes.set_xticks(ticks, [visible(name) for name in names], rotation=90, fontsize=6)
            axes.set_yticks(ticks, [visible(name) for name in names], fontsize=6)
        axes.set_xlabel("gene attended to")
        axes.set_ylabel("gene")

    return draw(
        paint,
        title="Attention between genes, mean over layers, heads and test people",
        caption=f"n = {len(names)} tokens, rows sum to 1; {run_dir.name}/{path.name}",
        alt=f"Most attention goes to {names[strongest]}.",
        inches=(4.4, 4.0),
    )
