"""What dropping the background of an MNI brain saves, per clip.

Run: `python tests/bench/tokens.py --json`. The brain mask of the MNI152 template at 2 mm, centred
in 96^3 with 20 frames, patches of 6x6x6x2, FMamba of width 128 with 4 layers, float32, one
thread, CPU time in turns. A ratio is the time with all tokens over the time with brain tokens;
55 % less time is a ratio of 2.22.
"""

from __future__ import annotations

import torch
from measure import arguments, seconds_in_turns, show
from nilearn.datasets import load_mni152_brain_mask
from torch import Tensor

from neurocli.systems.fmri.models.fmamba import FMamba

GRID, FRAMES = 96, 20


def brain_mask() -> Tensor:
    """Return the brain of the template on a 96^3 grid (1,96,96,96), bool."""
    mask = torch.from_numpy(load_mni152_brain_mask(resolution=2).get_fdata() > 0)
    brain = torch.zeros(GRID, GRID, GRID, dtype=torch.bool)
    # The template is 99x117x95 voxels with an empty rim; the brain's own box fits.
    box = mask.nonzero()
    low, high = box.min(0).values, box.max(0).values + 1
    cut = mask[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
    cut = cut[:GRID, :GRID, :GRID]
    start = [(GRID - size) // 2 for size in cut.shape]
    brain[tuple(slice(a, a + size) for a, size in zip(start, cut.shape, strict=True))] = cut
    return brain.unsqueeze(0)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    brain = brain_mask()
    clip = torch.randn(1, 1, GRID, GRID, GRID, FRAMES) * brain[:, None, ..., None]
    size, patch = (GRID, GRID, GRID, FRAMES), (6, 6, 6, 2)
    models = {
        name: FMamba(128, 4, 32, 4, 2, size, patch, "nerf", True, "none", token_mask=mask)
        for name, mask in (("brain", "per-sample"), ("all", "none"))
    }

    def forward(model: FMamba) -> None:
        with torch.no_grad():
            model(clip, brain)

    def train(model: FMamba) -> None:
        model.zero_grad()
        model.ar_loss(clip, brain).backward()

    ratios: dict[str, float] = {}
    figures: dict[str, object] = {"threads": 1}
    with torch.no_grad():
        kept = int((models["brain"](clip, brain)["token_index"] >= 0).sum())
    figures |= {"tokens_kept": kept, "tokens": 40_960, "share_kept": kept / 40_960}
    for mode, work in (("fwd", forward), ("train", train)):
        works = {name: (lambda m=model: work(m)) for name, model in models.items()}  # noqa: B023
        times = seconds_in_turns(works, options.runs)
        ratios[f"keep_background_{mode}"] = times["all"] / times["brain"]
        figures[f"{mode}_brain_ms"] = 1000 * times["brain"]
        figures[f"{mode}_time_saved"] = 1 - times["brain"] / times["all"]
    show("tokens", ratios, figures, options.json)


if __name__ == "__main__":
    main()
