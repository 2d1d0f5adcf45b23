"""Pictures are well-formed, the same every time, and take any text for text."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes

from neurocli.core.report.charts import comparison_charts, learning_curves, thin
from neurocli.core.report.collect import collect_run, collect_runs
from neurocli.core.report.figures import (
    DARK,
    LIGHT,
    Figure,
    Palette,
    Panel,
    draw,
    plain_ticks,
    png_of,
)
from neurocli.core.report.text import visible

HOSTILE = [
    "<script>alert(1)</script>",
    "=1+1",
    "$x_{$",
    "a\x00b\x1b[31m",
    "\u202ekcab",
    "한국",
    "&lt;",
]


def _labelled(label: str) -> Figure:
    def paint(axes, palette: Palette) -> None:  # type: ignore[no-untyped-def]
        axes.plot([0, 1], [0, 1], color=palette.series[0], label=visible(label))
        axes.set_xlabel(visible(label))
        axes.legend()

    return draw(paint, title="t", caption="c", alt="a")


def _texts(image: bytes) -> list[str]:
    nodes = ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_text_stays_text(label: str) -> None:
    figure = _labelled(label)
    root = ElementTree.fromstring(figure.image)
    assert visible(label) in _texts(figure.image)
    assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_the_same_picture_has_the_same_bytes_and_its_own_dark_form() -> None:
    first, second = _labelled("x"), _labelled("x")
    assert first == second
    assert first.dark_image is not None
    assert LIGHT.series[0].lower().encode() in first.image
    assert DARK.series[0].lower().encode() in first.dark_image
    assert b"<dc:date>" not in first.image


def test_user_settings_of_matplotlib_change_nothing() -> None:
    import matplotlib as mpl

    plain = _labelled("x")
    with mpl.rc_context({"axes.linewidth": 9, "lines.marker": "x"}):
        assert _labelled("x") == plain


def test_data_addresses_hold_the_bytes() -> None:
    figure = Figure("t", "c", "a", b"\x89PNG", media="image/png")
    assert figure.dark_uri == figure.light_uri
    assert figure.light_uri == "data:image/png;base64,iVBORw=="


def test_visible_writes_out_what_cannot_be_seen() -> None:
    assert visible("a\u202eb\x07\ud800") == "a\\u202eb\\x07\\ud800"
    assert visible("한국 ä ✓\n") == "한국 ä ✓\n"


def test_thin_averages_whole_groups() -> None:
    points = tuple((float(i), float(i)) for i in range(1000))
    thinned, n_mean = thin(points)
    assert n_mean == 3
    assert len(thinned) == 334
    assert thinned[0] == (1.0, 1.0)
    assert thinned[-1] == (999.0, 999.0)
    assert thin(points[:5]) == (points[:5], 1)


def test_learning_curves_name_axes_people_and_file(write_run) -> None:  # type: ignore[no-untyped-def]
    loss, accuracy, val_loss = learning_curves(collect_run(write_run()))
    assert [figure.title for figure in (accuracy, val_loss)] == [
        "accuracy over training",
        "loss over training",
    ]
    assert {"optimiser step", "training loss", "[no unit]"} <= set(_texts(loss.image))
    assert {"optimiser step", "accuracy", "[share]"} <= set(_texts(accuracy.image))
    assert loss.caption == "every logged step; train, n = 33 participants; first/log.jsonl"
    assert accuracy.caption == "val, n = 7 participants; first/log.jsonl"
    assert loss.alt == "Training loss goes from 1 at step 1 to 0.08333 at step 12."


def test_a_run_without_a_log_has_no_curves(write_run) -> None:  # type: ignore[no-untyped-def]
    folder: Path = write_run()
    (folder / "log.jsonl").unlink()
    assert learning_curves(collect_run(folder)) == []


def test_charts_compare_runs_on_the_same_part_only(write_run) -> None:  # type: ignore[no-untyped-def]
    folder: Path = write_run("a").parent
    write_run("b")
    write_run("c", judged={"part": "val", "n": 4, "metrics": {"accuracy": 0.5}})
    write_run("d", objective="another")
    charts = comparison_charts(collect_runs([folder]))
    assert [chart.title for chart in charts] == [
        "accuracy, classification, test",
        "AUROC, classification, test",
    ]
    assert charts[0].alt == "accuracy by run: a 0.75; b 0.75."


def test_the_dark_form_is_what_the_dark_palette_draws() -> None:
    def paint(axes: Axes, palette: Palette) -> None:
        for index, color in enumerate(palette.series):
            axes.plot([0, 1], [index, 1], color=color, label=f"#{index}")
        axes.axhline(0, color=palette.text)
        axes.set_xlabel("#0072b2")  # text, not a colour
        axes.legend()

    made = draw(paint, title="t", caption="c", alt="a")
    drawn = draw(paint, title="t", caption="c", alt="a", has_own_colours=True)
    assert made.image == drawn.image
    # Ids are hashes of what is drawn, colours among it; they mean nothing.
    plain = [re.sub(rb"[mp][0-9a-f]{10}", b"id", f.dark_image or b"") for f in (made, drawn)]
    assert plain[0] == plain[1]
    assert b">#0072b2<" in plain[0]


def test_panels_make_one_png_with_the_same_bytes() -> None:
    def paint(axes: Axes, palette: Palette) -> None:
        axes.plot([1, 10, 100], [1, 2, 3], color=palette.series[0])
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)

    panels = [Panel("<b>$x$\x00", paint)] * 3
    first = png_of(panels, columns=2, heading="h")
    assert first.startswith(b"\x89PNG")
    assert first == png_of(panels, columns=2, heading="h")
    assert b"Software" not in first
    # Two rows of two: 9.2 x 6.4 inches of 150 dots, from the header of the file.
    assert struct.unpack(">II", first[16:24]) == (1380, 960)
