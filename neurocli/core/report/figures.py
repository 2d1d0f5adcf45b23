"""Pictures that look the same everywhere: vector, two colour schemes, no text that is code.

A picture is drawn once for light and once for dark pages, on a transparent ground. Colours are
the palette of Okabe and Ito (2008), which people of all colour visions tell apart; lines differ
in style too. Text from data is never read as mathematics, and the same picture has the same bytes:
no date, fixed ids, matplotlib's own defaults whatever the user's settings.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from neurocli.core.report.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

Media = Literal["image/svg+xml", "image/png"]
PANEL_INCHES = (4.4, 2.9)
_WIDE_INCHES = 7.0


@dataclass(frozen=True)
class Palette:
    """Hold the colours of one scheme: text and frame, grid lines, and a cycle for series."""

    text: str
    grid: str
    series: tuple[str, ...]


LIGHT = Palette(
    "#1f2328", "#d5d9de", ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
)
DARK = Palette(
    "#e6e9ee", "#454b54", ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442")
)
LINE_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Figure:
    """Hold one finished picture.

    Args:
        title: Short heading above the picture.
        caption: What is shown, of whom (n), and the file it comes from.
        alt: The finding in words, for those who cannot see it.
        image: Bytes for a light page.
        dark_image: Bytes for a dark page; None uses `image`.
        media: What the bytes are.
        is_wide: Whether it takes the whole width of a page.
    """

    title: str
    caption: str
    alt: str
    image: bytes
    dark_image: bytes | None = None
    media: Media = "image/svg+xml"
    is_wide: bool = False

    @property
    def light_uri(self) -> str:
        """Return the light picture as a data address."""
        return self._uri(self.image)

    @property
    def dark_uri(self) -> str:
        """Return the dark picture as a data address."""
        return self._uri(self.dark_image or self.image)

    def _uri(self, image: bytes) -> str:
        return f"data:{self.media};base64,{base64.b64encode(image).decode('ascii')}"


def draw(
    paint: Callable[[Axes, Palette], None],
    *,
    title: str,
    caption: str,
    alt: str,
    inches: tuple[float, float] = PANEL_INCHES,
    has_own_colours: bool = False,
) -> Figure:
    """Draw a picture with one pair of axes for both colour schemes.

    Drawing takes long, so it is done once, and colours of the light palette become those of the
    dark one.

    Args:
        paint: Called with empty axes and a palette; text from data passes through `visible`.
        title: Heading of the picture; it stands on the page, not in the picture.
        caption: What is shown, of whom, from which file.
        alt: The finding in words.
        inches: Width and height; much wider pictures take the whole width of a page.
        has_own_colours: Colours that mean something are used, and some are those of a palette, so
            that the picture is drawn once per scheme.
    """
    light = _render(paint, LIGHT, inches)
    dark = _render(paint, DARK, inches) if has_own_colours else _darkened(light)
    return Figure(title, caption, alt, light, dark, is_wide=inches[0] >= _WIDE_INCHES)


def _darkened(image: bytes) -> bytes:
    """Return a picture in the colours of the dark palette; what stands between tags is kept."""
    return _TAG.sub(lambda tag: _COLOUR.sub(_dark_colour, tag[0]), image)


def _dark_colour(found: re.Match[bytes]) -> bytes:
    return _DARK_OF.get(found[0], found[0])


_TAG, _COLOUR = re.compile(rb"<[^<>]*>"), re.compile(rb"#[0-9a-f]{6}\b")
_DARK_OF = {
    light.lower().encode(): dark.lower().encode()
    for light, dark in zip(
        (LIGHT.text, LIGHT.grid, *LIGHT.series), (DARK.text, DARK.grid, *DARK.series), strict=True
    )
}


@dataclass(frozen=True)
class Panel:
    """Hold one pair of axes of a picture that is a file: its heading and who paints it."""

    title: str
    paint: Callable[[Axes, Palette], None]


def png_of(panels: Sequence[Panel], *, columns: int = 2, heading: str = "") -> bytes:
    """Draw panels side by side as one PNG on white, for papers and slides.

    Args:
        panels: At least one.
        columns: Panels in a row at most.
        heading: Stands above all.

    Returns:
        The file; the same panels give the same bytes.
    """
    n_columns = min(columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    with _canvas(LIGHT, (4.6 * n_columns, 3.2 * n_rows)) as canvas:
        for place, panel in enumerate(panels, start=1):
            axes = canvas.add_subplot(n_rows, n_columns, place)
            axes.set_title(visible(panel.title), fontsize=10)
            panel.paint(axes, LIGHT)
        if heading:
            canvas.suptitle(visible(heading), fontsize=11)
        target = io.BytesIO()
        # matplotlib would write its version into the file.
        canvas.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def plain_ticks(axis: Axis) -> None:
    """Name the ticks of a logarithmic axis by plain numbers: text here is never mathematics.

    Args:
        axis: Of a pair of axes.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _render(
    paint: Callable[[Axes, Palette], None], palette: Palette, inches: tuple[float, float]
) -> bytes:
    with _canvas(palette, inches) as canvas:
        # Fresh axes for every scheme, because colours are fixed when something is drawn.
        axes = canvas.add_subplot()
        paint(axes, palette)
        target = io.BytesIO()
        canvas.savefig(target, format="svg", metadata=_NO_METADATA, transparent=True)
    return target.getvalue()


@contextmanager
def _canvas(palette: Palette, inches: tuple[float, float]) -> Iterator[Canvas]:
    # Imported here: pyplot is never needed, and a page without pictures needs no matplotlib.
    import matplotlib as mpl
    from matplotlib import style
    from matplotlib.figure import Figure as Canvas

    with (
        style.context("default", after_reset=True),
        mpl.rc_context(_settings(palette)),
        warnings.catch_warnings(),
    ):
        # A letter that matplotlib's font lacks is drawn by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield Canvas(figsize=inches, layout="constrained")


_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_DPI = 150


def _settings(palette: Palette) -> dict[Any, Any]:
    return {
        # Letters stay letters: small files, and the reader's fonts know every script.
        "svg.fonttype": "none",
        "svg.hashsalt": "neuro",
        "text.parse_math": False,
        "font.size": 9.5,
        "text.color": palette.text,
        "axes.labelcolor": palette.text,
        "axes.edgecolor": palette.text,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "xtick.color": palette.text,
        "ytick.color": palette.text,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
