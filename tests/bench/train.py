"""Training FMamba: against transformers' Mamba-2 in its place, and what our loop and files add.

Run: `python tests/bench/train.py --json`. Three peers on the same work, each in one run:

- `transformers_model_...`: the same FMamba with every Mamba-2 block replaced by transformers' torch
  path of the same weights, at its best chunk (64) and its default (256); next-token training steps
  of 20,480 tokens, width 128, 4 layers, float32. One thread CPU time, and two threads wall time.
  `..._memory_best` is our extra peak memory over the peer's.
- `loop_over_bare`: CPU time of a step of our engine (order, reading ahead, checks, events, log
  file) over that of a bare torch loop on ready batches of the same clips and model; 1 is no
  overhead. Ours keeps freed memory, as `train` does, which may bring it below 1.
- `checkpoint_over_bytes`: wall time of saving model and optimiser over that of writing the same
  bytes from memory and syncing them.

The peer is a development dependency.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import Work, arguments, peak_elsewhere, peak_mib, seconds_in_turns, show
from torch import Tensor, nn

from neurocli.core.config.run import RunBlock, RunConfig, TrainBlock
from neurocli.core.engine.checkpoint import save_checkpoint
from neurocli.core.engine.runtime import StopSignal, deterministic
from neurocli.core.engine.sinks import open_sinks
from neurocli.core.engine.task import Batch, RunData
from neurocli.core.engine.trainer import Trainer
from neurocli.core.events import fan_out, ignore
from neurocli.core.heap import kept_memory
from neurocli.systems.fmri.config import FMambaConfig, FmriDataBlock, FmriTaskBlock
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.task import ArTask

WIDTH, N_LAYERS, SIDE, N_FRAMES = 128, 4, 48, 40  # 8^3 places x 40 frames = 20,480 tokens
CHUNKS = {"best": 64, "default": 256}
N_STEPS = 12  # of the loop, per turn
N_WEIGHTS = 12_000_000  # of the checkpoint: 137 MiB with the optimiser


class Swapped(nn.Module):
    """Let transformers' mixer stand where FMamba calls its own."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, tokens: Tensor, *_: object) -> Tensor:
        """Mix tokens (b,L,E)."""
        return self.mixer(tokens)


def fmamba(n_frames: int = N_FRAMES) -> FMamba:
    """Return our model."""
    torch.manual_seed(0)
    return FMamba(
        WIDTH, N_LAYERS, WIDTH // 4, 4, 2, (SIDE, SIDE, SIDE, n_frames), (6, 6, 6, 1), "nerf",
        False, "none", "none",
    )  # fmt: skip


def swapped(model: FMamba, chunk: int) -> FMamba:
    """Replace the blocks of a model by the peer's, with the same weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    logging.getLogger("transformers").setLevel(logging.ERROR)
    for layer in model.mamba_layers:
        block = layer[1]
        config = Mamba2Config(
            hidden_size=WIDTH, state_size=block.d_state, num_heads=block.nheads,
            head_dim=block.headdim, expand=2, conv_kernel=block.d_conv, n_groups=1,
            chunk_size=chunk, use_bias=False, use_conv_bias=True, rms_norm=True,
            time_step_limit=(0.0, float("inf")),
        )  # fmt: skip
        peer = Mamba2Mixer(config, layer_idx=0)
        peer.load_state_dict(block.state_dict())
        layer[1] = Swapped(peer)
    return model


def named(name: str) -> FMamba:
    """Return "ours", or the peer at "best" or "default"."""
    model = fmamba()
    return model if name == "ours" else swapped(model, CHUNKS[name])


def clip(seed: int, n_frames: int = N_FRAMES) -> Tensor:
    """Return one clip (1,1,H,W,D,T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, SIDE, SIDE, SIDE, n_frames, generator=generator)


def step_of(name: str) -> Work:
    """Return a training step on a clip of its own."""
    model, x = named(name), clip(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model.ar_loss(x)
        torch.autograd.backward(loss)
        optimizer.step()
        return float(loss.detach())

    return step


class Clips:
    """Hold clips in memory, one person each."""

    def __init__(self, n: int, size: int, n_frames: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.clips = torch.randn(n, 1, size, size, size, n_frames, generator=generator)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def participants(self) -> list[str]:
        """Return the people."""
        return [f"sub-{index:03d}" for index in range(len(self))]

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return one clip."""
        return {"clip": self.clips[index], "participant": f"sub-{index:03d}", "draw": epoch}

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> Batch:
        """Return one batch."""
        return {
            "clip": torch.stack([sample["clip"] for sample in samples]),
            "brain": None,
            "participant": [sample["participant"] for sample in samples],
            "draw": [sample["draw"] for sample in samples],
        }


def loop_configuration() -> RunConfig:
    """Return a run as `fmri/tiny` sizes it: 8 clips per step, width 64, 2 layers."""
    return RunConfig(
        model=FMambaConfig(
            name="fmamba", embed_dim=64, depth=2, patch_size=(6, 6, 6, 2), token_mask="none"
        ),
        data=FmriDataBlock(batch_size=8, prefetch=2),
        task=FmriTaskBlock(objective="ar"),
        train=TrainBlock(steps=1_000_000, lr=1e-3),
        run=RunBlock(device="cpu", threads=1),
    )


def loop_seconds(folder: Path, runs: int) -> dict[str, float]:
    """Return CPU seconds per step of our engine and of a bare loop, in turns."""
    config = loop_configuration()
    samples = Clips(8 * N_STEPS, 24, 20)
    info = {"img_size": [24, 24, 24, 20], "scaling": "none", "objective": "ar"}
    data = RunData("ar", {"train": samples}, info, {}, "", "")
    task = ArTask(config)
    torch.manual_seed(0)
    bare, ours = task.build(info), task.build(info)
    batches = [
        samples.collate([samples.sample(index, 0) for index in range(first, first + 8)])
        for first in range(0, len(samples), 8)
    ]
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-3)

    def bare_epoch() -> None:
        torch.use_deterministic_algorithms(False)  # as a plain loop runs
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = task.train_step(bare, batch).loss
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()
            float(loss.detach())
        torch.use_deterministic_algorithms(True, warn_only=True)

    with StopSignal() as stop, deterministic(torch.device("cpu")):
        listener = fan_out(ignore, *open_sinks(folder, every=1, listener=ignore))
        run = Trainer(
            task, ours, data, config, run_dir=folder, listener=listener, stop=stop, extra={}
        )
        run.open(None)

        def our_epoch() -> None:
            with kept_memory():  # as `train` holds it
                run.train_epoch()
            run.state.progress.close_epoch()

        times = process_seconds_in_turns({"ours": our_epoch, "bare": bare_epoch}, runs)
    return {name: seconds / N_STEPS for name, seconds in times.items()}


def process_seconds_in_turns(works: Mapping[str, Work], runs: int) -> dict[str, float]:
    """Return CPU seconds of all threads of this process, because reading ahead has its own."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            if turn:
                taken[name].append(time.process_time() - began)
    return {
        name: statistics.median(sorted(times)[: (len(times) + 1) // 2])
        for name, times in taken.items()
    }


def save_seconds(folder: Path, runs: int) -> tuple[dict[str, float], int]:
    """Return wall seconds of a checkpoint and of its bytes, and how many bytes."""
    torch.manual_seed(0)
    model = nn.ModuleList(nn.Linear(1000, 1000) for _ in range(N_WEIGHTS // 1_000_000))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    payload = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    content = save_checkpoint(folder / "last.pth", payload).read_bytes()

    def write_bytes() -> None:
        import os

        with (folder / "bytes.part").open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        (folder / "bytes.part").replace(folder / "bytes")

    works: dict[str, Work] = {
        "ours": lambda: save_checkpoint(folder / "last.pth", payload, keep_previous=True),
        "bytes": write_bytes,
    }
    return wall_seconds_in_turns(works, runs), len(content)


def wall_seconds_in_turns(works: Mapping[str, Work], runs: int) -> dict[str, float]:
    """Return wall seconds of each work, done in turns; for what waits, and for several threads."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return {
        name: statistics.median(sorted(times)[: (len(times) + 1) // 2])
        for name, times in taken.items()
    }


def peak(name: str) -> float:
    """Return the extra peak memory of a training step in this process, MiB."""
    step = step_of(name)
    x = clip(0, 2)
    small = fmamba(2) if name == "ours" else swapped(fmamba(2), CHUNKS[name])
    torch.autograd.backward(small.ar_loss(x))  # what torch takes once, at any size
    return peak_mib(step)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=3)
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    n_tokens = (SIDE // 6) ** 3 * N_FRAMES
    figures: dict[str, object] = {"threads": 1, "tokens": n_tokens}
    ratios: dict[str, float] = {}
    works = {name: step_of(name) for name in ("ours", *CHUNKS)}
    losses = {name: works[name]() for name in works}
    figures["largest_difference_of_losses"] = max(losses.values()) - min(losses.values())
    one = seconds_in_turns(works, options.runs)
    torch.set_num_threads(2)
    two = wall_seconds_in_turns({name: works[name] for name in ("ours", "best")}, options.runs)
    torch.set_num_threads(1)
    for name in CHUNKS:
        ratios[f"transformers_model_{name}"] = one[name] / one["ours"]
    ratios["transformers_model_two_threads_best"] = two["best"] / two["ours"]
    figures["tokens_per_s"] = n_tokens / one["ours"]
    figures["tokens_per_s_two_threads"] = n_tokens / two["ours"]
    figures["tokens_per_s_transformers_best"] = n_tokens / one["best"]
    sizes = {name: peak_elsewhere(__file__, name) for name in ("ours", "best")}
    ratios["transformers_model_memory_best"] = sizes["ours"] / sizes["best"]
    figures |= {"peak_mib": sizes["ours"], "peak_mib_transformers": sizes["best"]}
    with tempfile.TemporaryDirectory() as folder:
        steps = loop_seconds(Path(folder), 2 * options.runs + 3)
        ratios["loop_over_bare"] = steps["ours"] / steps["bare"]
        figures |= {"loop_step_ms": 1000 * steps["ours"], "bare_step_ms": 1000 * steps["bare"]}
    with tempfile.TemporaryDirectory() as folder:
        saves, n_bytes = save_seconds(Path(folder), 2 * options.runs + 1)
        ratios["checkpoint_over_bytes"] = saves["ours"] / saves["bytes"]
        figures |= {"checkpoint_mib": n_bytes / 2**20, "checkpoint_ms": 1000 * saves["ours"]}
    show("train", ratios, figures, options.json)


if __name__ == "__main__":
    try:
        import transformers  # noqa: F401
    except ImportError:
        sys.exit("the peer is absent: pip install 'neurocli[dev]'")
    main()
