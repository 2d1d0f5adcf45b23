"""Slices of volumes side by side under their names, with a colour scale or a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy.typing as npt

from neurocli.core.data.arrays import read_npy
from neurocli.core.errors import InputError
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.text import shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
_GAP = 0.06  # of a tile's width
_INCHES = 1.75
_MAX_VALUES = 1 << 22
PICTURES = "pictures"


@dataclass(frozen=True)
class Scale:
    """Say what colours of tiles mean: a colour map from `low` to `high`, and what it measures."""

    cmap: str
    low: float
    high: float
    label: str


def kept_pictures(judgement: Path) -> dict[str, Array]:
    """Return the pictures that a judgement left, by name; damaged ones are left out.

    Args:
        judgement: Folder with its `metrics.json`.
    """
    folder = judgement / PICTURES
    found: dict[str, Array] = {}
    for path in sorted(folder.glob("*.npy")) if folder.is_dir() else ():
        try:
            values = read_npy(path)
        except InputError:
            continue
        if values.dtype.kind in "fiu" and 0 < values.size <= _MAX_VALUES:
            found[unquote(path.name.removesuffix(".npy"))] = values
    return found


def draw_tiles(
    tiles: Sequence[tuple[str, Array]],
    *,
    columns: int,
    title: str,
    caption: str,
    alt: str,
    scale: Scale | None = None,
    legend: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Draw tiles row by row.

    Args:
        tiles: (name, picture) of equal size: (h, w, 3) in 0 .. 1, or (h, w) numbers, NaN for
            nothing, that `scale` colours.
        columns: Tiles in a row.
        title: Heading of the figure.
        caption: What is shown, of whom, from which file.
        alt: The finding in words.
        scale: Of tiles of numbers.
        legend: (name, colour) of labels.
    """
    height, width = tiles[0][1].shape[:2]
    n_rows = -(-len(tiles) // columns)
    step_x, step_y = width * (1 + _GAP), height * (1 + _GAP) + 0.16 * width

    def paint(axes: Axes, palette: Palette) -> None:
        axes.set_axis_off()
        for place, (name, picture) in enumerate(tiles):
            x, y = step_x * (place % columns), step_y * (place // columns)
            colours: dict[str, Any] = (
                {"cmap": scale.cmap, "vmin": scale.low, "vmax": scale.high} if scale else {}
            )
            drawn = axes.imshow(
                picture, extent=(x, x + width, y + height, y), interpolation="nearest", **colours
            )
            label = shortened(visible(name), 22)
            middle = x + width / 2
            axes.text(middle, y - 0.03 * width, label, ha="center", va="bottom", color=palette.text)
        axes.set_xlim(0, step_x * min(columns, len(tiles)))
        axes.set_ylim(step_y * n_rows, -0.16 * width)
        axes.set_aspect("equal")
        if scale:
            figure: Any = axes.figure
            bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
            bar.set_label(visible(scale.label))
        for place, (name, colour) in enumerate(legend):
            at = (place + 0.5) / len(legend)
            axes.text(
                at, 0.0, f"■ {name}", color=colour, ha="center", va="top", transform=axes.transAxes
            )

    shape = height / width
    inches = (
        _INCHES * min(columns, len(tiles)) + (0.9 if scale else 0.0),
        _INCHES * n_rows * (shape + 0.2) + (0.25 if legend else 0.1),
    )
    return draw(
        paint,
        title=visible(title),
        caption=caption,
        alt=alt,
        inches=inches,
        has_own_colours=bool(legend),
    )


def upright(plane: Array) -> Array:
    """Return a plane (x, y) as rows from top to bottom, x to the right and y upwards.

    >>> upright(np.array([[0, 1], [2, 3]])).tolist()
    [[1, 3], [0, 2]]
    """
    turned: Array = plane.T[::-1]
    return turned
