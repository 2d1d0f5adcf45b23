"""Whole-volume inference against MONAI's inferer: time to labels, time of stitching, memory.

Run: `python tests/bench/sliding_window.py --json`. A volume of 4x240x240x155, windows of 128^3 at
overlap 0.1 (8 of them), Gaussian weights, a UNet of 16 to 128 channels or a trivial model (x * 1),
one thread, CPU time in turns. MONAI and ours stay in processes of their own, because memory that
one has freed would spare the other its page faults. `labels_*` compares with MONAI's logits and
torch.argmax over them; the bf16 row with the same in float32, which is what MONAI does by itself.
`stitching_*` is what is left after the trivial model's own time is taken away: for MONAI the time
of the model by itself, for ours that in memory that is used again, which is the smaller of the two
(`beyond_the_plain_one_ms` takes the larger one away from both, which leaves less than nothing).
Labels are compared, too: `labels_differing`.
"""

from __future__ import annotations

import itertools
import sys
import warnings

import torch
from measure import Work, arguments, peak_elsewhere, peak_mib, seconds_in_turns, show
from measure.elsewhere import seconds_elsewhere, serve
from torch import Tensor, nn

from neurocli.core.heap import kept_memory
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


def worker(side: str) -> None:
    """Serve the works of one side."""
    torch.manual_seed(0)
    volume, net = torch.randn(1, 4, *SHAPE), unet()

    def bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours_labels(volume, net)

    def kept(model: object) -> None:
        with kept_memory():
            model_alone(volume, model)

    theirs: dict[str, Work] = {
        "monai": lambda: monai_logits(volume, net).argmax(1),
        "model": lambda: model_alone(volume, net),
        "trivial": lambda: model_alone(volume, trivial),
        "stitch_monai": lambda: monai_logits(volume, trivial),
    }
    own: dict[str, Work] = {
        "ours": lambda: ours_labels(volume, net),
        "bf16": bf16,
        "model_kept": lambda: kept(net),
        "trivial_kept": lambda: kept(trivial),
        "stitch_ours": lambda: sliding_window_logits(volume, trivial, ROI, OVERLAP),
        "stitch_cosine": lambda: sliding_window_logits(volume, trivial, ROI, OVERLAP, "cosine"),
        "stitch_labels": lambda: ours_labels(volume, trivial),
    }
    with torch.no_grad():
        serve(own if side == "own" else theirs)


def compared() -> dict[str, float]:
    """Return how labels compare, and the milliseconds of a label map."""
    torch.manual_seed(0)
    volume, net = torch.randn(1, 4, *SHAPE), unet()
    with torch.no_grad():
        logits = monai_logits(volume, net)
        theirs = logits.argmax(1)
        differing = int((ours_labels(volume, net).long() != theirs).sum())
        with torch.autocast("cpu", torch.bfloat16):
            changed = float((ours_labels(volume, net).long() != theirs).float().mean())
        maps = seconds_in_turns(
            {"torch": lambda: logits.argmax(1), "ours": lambda: labels_from_logits(logits)}, 3
        )
    return {
        "labels_differing": differing,
        "labels_changed_by_bf16": changed,
        "label_map_ms": 1000 * maps["ours"],
        "argmax_ms": 1000 * maps["torch"],
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    if options.worker:
        worker(options.worker)
        return
    labels = compared()
    large = {"theirs": ["monai", "model"], "own": ["ours", "bf16", "model_kept"]}
    whole = seconds_elsewhere(sys.argv[0], large, options.runs)
    small = {
        "theirs": ["trivial", "stitch_monai"],
        "own": ["trivial_kept", "stitch_ours", "stitch_cosine", "stitch_labels"],
    }
    stitch = seconds_elsewhere(sys.argv[0], small, 2 * options.runs + 1)
    beyond = {name: stitch[f"stitch_{name}"] for name in ("monai", "ours", "cosine", "labels")}
    plain = {name: value - stitch["trivial"] for name, value in beyond.items()}
    for name in beyond:
        beyond[name] -= stitch["trivial" if name == "monai" else "trivial_kept"]
    peaks = {name: peak_elsewhere(sys.argv[0], name) for name in ("ours", "monai")}
    show(
        "sliding_window",
        {
            "labels_f32_vs_monai": whole["monai"] / whole["ours"],
            "labels_bf16_vs_monai_f32": whole["monai"] / whole["bf16"],
            "label_map_vs_torch_argmax": labels["argmax_ms"] / labels["label_map_ms"],
            "stitching_gaussian_vs_monai": beyond["monai"] / beyond["ours"],
            "stitching_cosine_vs_monai_gaussian": beyond["monai"] / beyond["cosine"],
            "stitching_share_of_monai_time": beyond["ours"] / beyond["monai"],
            "peak_memory_share_of_monai": peaks["ours"] / peaks["monai"],
        },
        {
            "threads": 1,
            **labels,
            "unet_monai_ms": 1000 * whole["monai"],
            "unet_ours_ms": 1000 * whole["ours"],
            "unet_bf16_ms": 1000 * whole["bf16"],
            "unet_model_alone_ms": 1000 * whole["model"],
            "unet_model_in_kept_memory_ms": 1000 * whole["model_kept"],
            "trivial_model_ms": 1000 * stitch["trivial"],
            "trivial_model_in_kept_memory_ms": 1000 * stitch["trivial_kept"],
            "beyond_trivial_model_ms": {k: round(1000 * v, 1) for k, v in beyond.items()},
            "beyond_the_plain_one_ms": {k: round(1000 * v, 1) for k, v in plain.items()},
            "peak_extra_mib": peaks["ours"],
            "peak_extra_monai_mib": peaks["monai"],
        },
        options.json,
    )


if __name__ == "__main__":
    main()
