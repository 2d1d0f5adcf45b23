"""What dividing one clip over processes saves: peak memory of a rank, and time of a step.

Run: `python tests/bench/sequence.py --json`. FMamba of width 128 with 6 layers, next-token
training steps on one clip of 20,480 tokens, float32, gloo, one thread per rank. `memory_N_ranks` is
the extra peak memory of the largest of N ranks over that of one process; 1/N would be all of it.
`speed_2_ranks` is one process's wall time over that of two ranks, meant for two idle cores: 2 is
all of it. `loss_difference` is the largest difference between the losses.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from measure import arguments, peak_mib, show
from torch import Tensor

from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup
from neurocli.systems.fmri.models.fmamba import FMamba

WIDTH, N_LAYERS, SIDE, N_FRAMES = 128, 6, 48, 40  # 8^3 places x 40 frames = 20,480 tokens
SIZES = (1, 2, 4)


def model_of(n_frames: int) -> FMamba:
    """Return the model for clips of so many frames."""
    torch.manual_seed(0)
    return FMamba(
        WIDTH, N_LAYERS, WIDTH // 4, 4, 2, (SIDE, SIDE, SIDE, n_frames), (6, 6, 6, 1), "nerf",
        False, "none", "none",
    )  # fmt: skip


def clip(n_frames: int) -> Tensor:
    """Return one clip (1,1,H,W,D,T)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 1, SIDE, SIDE, SIDE, n_frames, generator=generator)


def step(model: FMamba, x: Tensor) -> float:
    """Differentiate the loss of a clip, and exchange gradients."""
    loss = model.ar_loss(x)
    torch.autograd.backward(loss)
    model.sequence.average_gradients(model.parameters())
    return float(loss.detach())


def be_rank(rank: int, size: int, folder: Path, runs: int) -> None:
    """Measure as one rank, and leave what was found."""
    torch.set_num_threads(1)
    group = WHOLE
    if size > 1:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
        group = SequenceGroup(dist.new_group(), dist.new_group())
    small, model, x = model_of(2), model_of(N_FRAMES), clip(N_FRAMES)
    for each in (small, model):
        each.divide_sequence(group)
    step(small, clip(2))  # what torch takes once, at any size
    losses: list[float] = []
    found: dict[str, object] = {"peak": peak_mib(lambda: losses.append(step(model, x)))}
    times = []
    for _ in range(runs):
        if size > 1:
            dist.barrier()
        began = time.perf_counter()
        step(model, x)
        times.append(time.perf_counter() - began)
    found |= {"seconds": statistics.median(sorted(times)[: (runs + 1) // 2]), "loss": losses[0]}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def measured(size: int, runs: int) -> list[dict[str, float]]:
    """Return what each of some ranks found."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--runs",
                    str(runs),
                    "--peak",
                    f"{rank}/{size}/{folder}",
                ],
                env=env,
            )
            for rank in range(size)
        ]
        if any(rank.wait() for rank in ranks):
            sys.exit("a rank failed")
        return [json.loads((Path(folder) / f"{r}.json").read_text()) for r in range(size)]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    if options.peak:
        rank, size, folder = options.peak.split("/", 2)
        be_rank(int(rank), int(size), Path(folder), options.runs)
        return
    found = {size: measured(size, options.runs if size < 4 else 1) for size in SIZES}
    peaks = {size: max(rank["peak"] for rank in ranks) for size, ranks in found.items()}
    losses = [rank["loss"] for ranks in found.values() for rank in ranks]
    figures: dict[str, object] = {"tokens": (SIDE // 6) ** 3 * N_FRAMES}
    figures |= {f"peak_mib_{size}": peak for size, peak in peaks.items()}
    figures["loss_difference"] = max(losses) - min(losses)
    ratios = {f"memory_{size}_ranks": peaks[size] / peaks[1] for size in SIZES[1:]}
    seconds = {size: max(rank["seconds"] for rank in found[size]) for size in (1, 2)}
    ratios["speed_2_ranks"] = seconds[1] / seconds[2]
    show("sequence", ratios, figures, options.json)


if __name__ == "__main__":
    main()
