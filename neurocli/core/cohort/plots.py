"""Draw a matched cohort as SVG: how far covariates are apart, and whom there is to compare.

Plain text with fixed digits, so equal reports give equal bytes; colours come from the page, which
knows light and dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from neurocli.core.cohort.balance import SMD_LIMIT
from neurocli.core.cohort.comparison import row_name, size_of

_WIDTH, _LABELS, _RIGHT, _ROW = 760, 250, 60, 22
_MOST_ROWS = 60
_LEAST_RANGE = 0.25
_LONGEST = 34
_MARK = 5


def love_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Love plot: absolute SMDs before (rings) and after (dots), the largest on top.

    Args:
        rows: Rows of `comparison_rows`.
    """
    shown = sorted(rows, key=lambda row: -size_of(dict(row), "before"))[:_MOST_ROWS]
    sizes = [size_of(dict(row), side) for row in shown for side in ("before", "after")]
    top = max(_LEAST_RANGE, 1.05 * max(sizes, default=0.0))
    height = _ROW * len(shown) + 70
    bottom = height - 44
    parts = [_svg_head(height, "Love plot: absolute standardised mean differences")]
    for tick in _ticks(top):
        x = _x(tick, 0.0, top)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="10" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, f"{tick:g}", "middle"))
    limit = _x(SMD_LIMIT, 0.0, top)
    parts.append(f'<line class="limit" x1="{limit}" x2="{limit}" y1="10" y2="{bottom}"/>')
    for index, row in enumerate(shown):
        parts += _love_row(dict(row), 10 + _ROW * index + _ROW / 2, top)
    middle = f"{(_LABELS + _WIDTH - _RIGHT) / 2:.1f}"
    parts.append(_text(middle, height - 10, "absolute SMD, dashed: 0.1", "middle"))
    return "".join([*parts, "</svg>"])


def _love_row(row: dict[str, Any], y: float, top: float) -> list[str]:
    name = row_name(row)
    label = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    before, has_after = size_of(row, "before"), row["after"] is not None
    x0 = _x(before, 0.0, top)
    parts = [_text(f"{_LABELS - 12}", y + 4, label, "end")]
    if has_after:
        after = size_of(row, "after")
        x1 = _x(after, 0.0, top)
        state = "bad" if after > SMD_LIMIT else "good"
        parts.append(f'<line class="way" x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="{state}" cx="{x1}" cy="{y:.1f}" r="{_MARK}"/>')
        told = f"{before:.3f} before, {after:.3f} after"
    else:
        told = f"{before:.3f}"
    ring = f'<circle class="ring" cx="{x0}" cy="{y:.1f}" r="{_MARK}">'
    return [*parts, f"{ring}<title>{escape(name)}: {told}</title></circle>"]


def overlap_plot(overlap: Mapping[str, Any], treated: str, control: str) -> str:
    """Return histograms of the logit, one class upwards and one downwards; filled is matched.

    Args:
        overlap: `edges`, and counts by class before and after.
        treated: Name of the treated class.
        control: Name of the other.
    """
    edges = overlap["edges"]
    left, right, half = 60, _WIDTH - 20, 110.0
    middle, height = half + 24, 2 * half + 90
    # Each class by its own people, since there are often many more controls.
    parts = [_svg_head(height, "Overlap of the propensity scores of both classes")]
    scale = (right - left) / (edges[-1] - edges[0])
    for name, sign in (("treated", -1), ("control", 1)):
        most = max(*overlap[f"{name}_before"], *overlap[f"{name}_after"], 1e-9)
        for side in ("before", "after"):
            for low, high, count in zip(edges, edges[1:], overlap[f"{name}_{side}"], strict=False):
                if not count:
                    continue
                size = half * count / most
                y = middle - size if sign < 0 else middle
                parts.append(
                    f'<rect class="{name} {side}" x="{left + (low - edges[0]) * scale:.1f}" '
                    f'y="{y:.1f}" width="{max((high - low) * scale - 1, 0.5):.1f}" '
                    f'height="{size:.1f}"/>'
                )
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>')
    for index in range(5):
        value = edges[0] + (edges[-1] - edges[0]) * index / 4
        x = f"{left + (value - edges[0]) * scale:.1f}"
        parts.append(_text(x, 2 * half + 42, f"{value:.2f}", "middle"))
    parts.append(_text(f"{left}", 16, f"{treated}, upwards", "start"))
    parts.append(_text(f"{right}", 16, f"{control}, downwards", "end"))
    caption = "logit of the propensity score; outlined: all, filled: matched (weighted)"
    parts.append(_text(f"{(left + right) / 2:.1f}", height - 12, caption, "middle"))
    return "".join([*parts, "</svg>"])


def _svg_head(height: float, title: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">'
        f"<title>{escape(title)}</title>"
    )


def _text(x: str, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(value: float, low: float, high: float) -> str:
    span = _WIDTH - _RIGHT - _LABELS
    return f"{_LABELS + span * (value - low) / (high - low):.1f}"


def _ticks(top: float) -> list[float]:
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if top / s <= 8), top / 8)
    return [round(step * index, 4) for index in range(int(top / step) + 1)]
