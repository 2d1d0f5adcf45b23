"""Whole-volume inference against MONAI's inferer: time to labels, time of stitching, memory.

Run: `python tests/bench/sliding_window.py --json`. A volume of 4x240x240x155, windows of 128^3 at
overlap 0.1 (8 of them), Gaussian weights, a UNet of 16 to 128 channels or a trivial model (x * 1),
one thread, CPU time in turns. `labels_*` compares with MONAI's logits and torch.argmax over them;
the bf16 row with the same in float32, which is what MONAI does by itself. `stitching_*` is what is
left after the trivial model's own time is taken away. Labels are compared, too: `labels_differing`.
"""

from __future__ import annotations

import itertools
import sys
import warnings

import torch
from measure import arguments, peak_elsewhere, peak_mib, seconds_in_turns, show
from torch import Tensor, nn

from neurocli.core.infer.sliding_window import (
    labels_from_logits,
    sliding_window_labels,
    sliding_window_logits,
)

SHAPE, ROI, OVERLAP = (240, 240, 155), (128, 128, 128), 0.1
STARTS = list(itertools.product((0, 112), (0, 112), (0, 27)))


def trivial(patch: Tensor) -> Tensor:
    """Return a copy."""
    return patch * 1.0


def monai_logits(volume: Tensor, model: object, mode: str = "gaussian") -> Tensor:
    """Return what MONAI's inferer gives."""
    from monai.inferers import sliding_window_inference

    found: Tensor = sliding_window_inference(volume, ROI, 1, model, overlap=OVERLAP, mode=mode)  # type: ignore[arg-type,assignment]
    return found


def ours_labels(volume: Tensor, model: object) -> Tensor:
    """Return our labels."""
    return sliding_window_labels(volume, model, ROI, OVERLAP)  # type: ignore[arg-type]


def unet() -> nn.Module:
    """Return MONAI's UNet."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return UNet(3, 4, 4, (16, 32, 64, 128), (2, 2, 2)).eval()


def model_alone(volume: Tensor, model: object) -> None:
    """Run a model over the windows and drop what it gives."""
    for start in STARTS:
        box = tuple(slice(a, a + n) for a, n in zip(start, ROI, strict=True))
        model(volume[(..., *box)])  # type: ignore[operator]


def peak(name: str) -> float:
    """Return MiB that labels of a volume add, by us or by MONAI, with the trivial model."""
    from monai.inferers import sliding_window_inference  # noqa: F401  (its import is not counted)

    volume = torch.randn(1, 4, *SHAPE)
    small = volume[..., :64, :64, :64].clone()
    if name == "ours":
        sliding_window_labels(small, trivial, (32, 32, 32))
        return peak_mib(lambda: ours_labels(volume, trivial))
    monai_logits(torch.randn(1, 4, 128, 128, 128), trivial)
    return peak_mib(lambda: labels_from_logits(monai_logits(volume, trivial)))


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    torch.manual_seed(0)
    volume, net = torch.randn(1, 4, *SHAPE), unet()

    def bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours_labels(volume, net)

    with torch.no_grad():
        logits = monai_logits(volume, net)
        differing = int((ours_labels(volume, net).long() != logits.argmax(1)).sum())
        changed = float((bf16().long() != logits.argmax(1)).float().mean())
        whole = seconds_in_turns(
            {
                "monai": lambda: monai_logits(volume, net).argmax(1),
                "ours": lambda: ours_labels(volume, net),
                "bf16": bf16,
                "model": lambda: model_alone(volume, net),
            },
            options.runs,
        )
        argmax = seconds_in_turns(
            {"torch": lambda: logits.argmax(1), "ours": lambda: labels_from_logits(logits)},
            options.runs,
        )
        stitch = seconds_in_turns(
            {
                "model": lambda: model_alone(volume, trivial),
                "monai": lambda: monai_logits(volume, trivial),
                "ours": lambda: sliding_window_logits(volume, trivial, ROI, OVERLAP),
                "cosine": lambda: sliding_window_logits(volume, trivial, ROI, OVERLAP, "cosine"),
                "labels": lambda: ours_labels(volume, trivial),
            },
            2 * options.runs + 1,
        )
    beyond = {name: stitch[name] - stitch["model"] for name in stitch}
    peaks = {name: peak_elsewhere(sys.argv[0], name) for name in ("ours", "monai")}
    show(
        "sliding_window",
        {
            "labels_f32_vs_monai": whole["monai"] / whole["ours"],
            "labels_bf16_vs_monai_f32": whole["monai"] / whole["bf16"],
            "label_map_vs_torch_argmax": argmax["torch"] / argmax["ours"],
            "stitching_gaussian_vs_monai": beyond["monai"] / beyond["ours"],
            "stitching_cosine_vs_monai_gaussian": beyond["monai"] / beyond["cosine"],
            "stitching_share_of_monai_time": beyond["ours"] / beyond["monai"],
            "peak_memory_share_of_monai": peaks["ours"] / peaks["monai"],
        },
        {
            "threads": 1,
            "labels_differing": differing,
            "labels_changed_by_bf16": changed,
            "unet_monai_ms": 1000 * whole["monai"],
            "unet_ours_ms": 1000 * whole["ours"],
            "unet_bf16_ms": 1000 * whole["bf16"],
            "unet_model_alone_ms": 1000 * whole["model"],
            "label_map_ms": 1000 * argmax["ours"],
            "argmax_ms": 1000 * argmax["torch"],
            "beyond_trivial_model_ms": {k: round(1000 * v, 1) for k, v in beyond.items()},
            "peak_extra_mib": peaks["ours"],
            "peak_extra_monai_mib": peaks["monai"],
        },
        options.json,
    )


if __name__ == "__main__":
    main()
