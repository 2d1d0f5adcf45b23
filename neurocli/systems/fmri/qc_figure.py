"""Draw what the quality record of a run tells frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocli.core.report.figures import Palette, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QC_FIGURE = "qc.svg"
_INCHES = (7.0, 2.6)


def draw_quality(folder: Path, report: Mapping[str, Any]) -> str:
    """Write `qc.svg`: global signal and change per frame, each as a share of its usual level.

    Args:
        folder: Of the run.
        report: From `quality`.

    Returns:
        The file's name.
    """
    signal, dvars = (np.asarray(report[key], dtype=float) for key in ("global_signal", "dvars"))
    frames = np.arange(len(signal))
    level = float(np.median(signal)) or 1.0
    usual = float(np.median(dvars[1:])) if len(dvars) > 1 else 0.0

    def paint(axes: Axes, palette: Palette) -> None:
        axes.plot(frames, 100 * (signal - level) / abs(level), color=palette.series[0])
        axes.set_xlabel("frame")
        axes.set_ylabel("global signal\n[% from median]", color=palette.series[0])
        other = axes.twinx()
        other.plot(frames[1:], dvars[1:] / (usual or 1.0), color=palette.series[1], linestyle="--")
        other.set_ylabel("change from the frame before\n[1 = usual]", color=palette.series[1])
        other.grid(visible=False)
        for index in sorted({*report["spike_frames"], *report["jump_frames"]}):
            axes.axvline(index, color=palette.text, linewidth=0.6, linestyle=":")

    tsnr = "unknown" if report["tsnr_median"] is None else f"{report['tsnr_median']:.1f}"
    text = (
        f"tSNR {tsnr}, mask {report['mask_volume_ml']:.0f} ml, {report['n_spikes']} spikes, "
        f"{report['n_jumps']} jumps (dotted)"
    )
    figure = draw(paint, title="Quality", caption=text, alt=text, inches=_INCHES)
    (folder / QC_FIGURE).write_bytes(figure.image)
    return QC_FIGURE
