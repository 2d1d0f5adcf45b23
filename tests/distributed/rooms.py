"""A program that ranks run together: a short training and a judgement of every room.

`python rooms.py OUT NAME...` trains into OUT/NAME and judges into OUT/NAME-judged. Without a
launcher's variables it is the one process that two ranks are compared with.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from neurocli import evaluate, train
from neurocli.core.engine.parallel.team import joined

ROOMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ar": ("fmamba", {"preset": "fmri/tiny"}),
    "contrastive": ("fmamba", {"preset": "fmri/tiny", "pretrain": "contrastive"}),
    "brats": ("mobile_unetr_3d", {"preset": "brats/tiny"}),
    "calcium": (
        "cebra-offset10",
        # Hidden neurons are drawn by each rank for itself.
        {"preset": "calcium/tiny", "set": ["model.neuron_dropout=0"]},
    ),
    "genes": ("gene_pair", {"preset": "genes/tiny"}),
}


def main(out: str, *names: str) -> None:
    """Train and judge rooms by name; all when none is given."""
    with joined():
        for name in names or ROOMS:
            began = time.monotonic()
            model, options = ROOMS[name]
            run = Path(out) / name
            result = train(model, device="cpu", steps=3, out=run, **options)
            evaluate(result.checkpoint, out=Path(out) / f"{name}-judged", save_predictions=True)
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
