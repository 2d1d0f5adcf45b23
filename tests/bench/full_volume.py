"""Whole cases by a trained network: our named levers against MONAI's inferer, in time and in Dice.

Run: `python tests/bench/full_volume.py --checkpoint best.pth --json`, with a checkpoint of a tumour
model; without one `unet3d_xs` is trained on the built-in cohort first (about 155 s of one core).
MONAI's inferer (windows of the size of a training patch, overlap 0.5, Gaussian weights, float32)
and ours on the test part of the run, one thread, CPU time in turns, summed over cases. `same` is
ours with MONAI's windows; `brain` takes windows over the box of non-zero voxels; `whole` takes that
box in one pass; `bf16` computes in bfloat16. `dice_change` is what the mean Dice over
cases changes by, by region; `dice` is what MONAI reaches.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import arguments, seconds_in_turns, show
from torch import Tensor

import neurocli
from neurocli.core.config.load import config_from_plain
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.infer.sliding_window import labels_from_logits, sliding_window_labels
from neurocli.core.metrics.segmentation import label_confusion, region_dice
from neurocli.systems.brats.data import open_data

OVERLAP = 0.5
LEVERS = {
    "same": ("grid", False),
    "brain": ("brain", False),
    "whole": ("whole", False),
    "brain_bf16": ("brain", True),
    "whole_bf16": ("whole", True),
}


def trained() -> Path:
    """Train on the built-in cohort and return the checkpoint."""
    out = Path(tempfile.mkdtemp()) / "run"
    print("no --checkpoint: training unet3d_xs on the built-in cohort", file=sys.stderr)
    return neurocli.train("unet3d_xs", preset="brats/synthetic", out=out).checkpoint


def cases_of(payload: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Return the samples of the test part, and the size of a window."""
    config = config_from_plain(payload["config"], "checkpoint")
    data = open_data(config, split=payload["split"], like=payload["info"])
    part = data.parts["test"]
    block: Any = config.data
    return [part.sample(i, 0) for i in range(len(part))], tuple(block.patch)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=2, checkpoint="of `neuro train`; trained here without one")
    torch.set_num_threads(1)
    path = Path(options.checkpoint) if options.checkpoint else trained()
    payload = load_checkpoint(path)
    model = neurocli.load_model(path).eval()
    cases, roi = cases_of(payload)
    volumes = [case["volume"][None] for case in cases]

    def monai() -> list[Tensor]:
        from monai.inferers import sliding_window_inference

        given: dict[str, Any] = {"overlap": OVERLAP, "mode": "gaussian"}
        found: list[Any] = [sliding_window_inference(v, roi, 1, model, **given) for v in volumes]
        return [labels_from_logits(logits)[0] for logits in found]

    def ours(extent: str, narrow: bool) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                return [
                    sliding_window_labels(v, model, roi, OVERLAP, extent=extent)[0] for v in volumes
                ]

        return run

    works = {"monai": monai, **{name: ours(*lever) for name, lever in LEVERS.items()}}
    with torch.no_grad():
        dice = {name: _dice(work(), cases) for name, work in works.items()}
        seconds = seconds_in_turns(works, options.runs)
    show(
        "full_volume",
        {f"{name}_vs_monai": seconds["monai"] / seconds[name] for name in LEVERS},
        {
            "threads": 1,
            "model": payload["model_name"],
            "cases": len(cases),
            "window": list(roi),
            "monai_ms": 1000 * seconds["monai"],
            "dice": {region: round(value, 4) for region, value in dice["monai"].items()},
            "dice_change": {
                name: {
                    region: round(dice[name][region] - value, 5)
                    for region, value in dice["monai"].items()
                }
                for name in LEVERS
            },
        },
        options.json,
    )


def _dice(labels: list[Tensor], cases: list[dict[str, Any]]) -> dict[str, float]:
    each = [
        region_dice(label_confusion(case["truth"], found.numpy()))
        for found, case in zip(labels, cases, strict=True)
    ]
    return {region: sum(row[region] for row in each) / len(each) for region in each[0]}


if __name__ == "__main__":
    main()
