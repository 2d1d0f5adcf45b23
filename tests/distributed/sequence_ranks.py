"""One clip over several processes: cases, and what one rank of four does with them.

`main(FOLDER)` with the variables of a launcher does every case with the ranks {0, 1} and {0, 1, 2},
trains with groups of two and of four, and leaves `RANK.pt`. The rest does the same in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neurocli.core.config.run import RunBlock, RunConfig, TrainBlock
from neurocli.core.engine.loop import fit
from neurocli.core.engine.parallel.team import joined
from neurocli.core.engine.task import RunData
from neurocli.core.events import Event, StepDone
from neurocli.core.nn.data_group import divided_among
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup
from neurocli.systems.fmri.config import (
    FMambaConfig,
    FMambaHeadConfig,
    FmriDataBlock,
    FmriTaskBlock,
)
from neurocli.systems.fmri.contrast import ContrastiveTask
from neurocli.systems.fmri.mim import MimTask
from neurocli.systems.fmri.models.build import backbone_of, build_with_head
from neurocli.systems.fmri.task import ArTask

N_RANKS = 4
GRID, N_FRAMES = (6, 4, 4), 10  # 12 places x 10 times
TASKS = {"ar": ArTask, "mim": MimTask, "contrastive": ContrastiveTask}
CASES: dict[str, dict[str, Any]] = {
    "ar_packed": {},
    "ar_float32": {"dtype": torch.float32},
    "ar_union": {"model": {"token_mask": "union"}},
    "ar_all_tokens": {"model": {"token_mask": "none"}, "n": 1},
    "ar_voxel": {"task": {"ar_target": "voxel", "place_jumps": False}},
    "ar_residual": {"task": {"ar_target": "residual", "loss": "huber"}},
    "ar_ready": {"ready": True},
    # 12 tokens, of which a rank holds four or six: the convolution reaches over two borders.
    "ar_short": {"n": 1, "frames": 3, "model": {"d_conv": 4}, "small": True},
    "mim_both_ways": {"objective": "mim", "model": {"bidirectional": True}},
    "mim_union": {"objective": "mim", "model": {"token_mask": "union"}},
    "contrastive": {"objective": "contrastive"},
    "head_mlp": {"head": "mlp"},
    "head_mlp_union": {"head": "mlp", "model": {"token_mask": "union", "bidirectional": True}},
    "head_conv": {"head": "conv", "n": 2, "frames": 40},
    "head_mamba_fn": {"head": "mamba_fn", "model": {"token_mask": "none"}},
}


# Three ranks need not do all of it again: what a middle rank adds is messages both ways.
OF_THREE = ("ar_packed", "ar_float32", "ar_short", "mim_both_ways", "head_mlp_union", "head_conv")
DONE = [*((name, 2) for name in CASES), *((name, 3) for name in OF_THREE)]


def configuration(case: Mapping[str, Any]) -> RunConfig:
    """Return the run of a case."""
    kind = FMambaHeadConfig if "head" in case else FMambaConfig
    sizes = {"name": "fmamba", "embed_dim": 16, "depth": 2, "patch_size": (2, 2, 2, 1)}
    head = {"head": case["head"]} if "head" in case else {}
    objective = None if head else case.get("objective", "ar")
    task = {"projection_dim": 6, **case.get("task", {})}
    return RunConfig(
        model=kind(**sizes | head | case.get("model", {})),
        data=FmriDataBlock(batch_size=4, sequence_length=case.get("frames", N_FRAMES)),
        task=FmriTaskBlock(objective=objective, **task),
    )


def batch_of(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return clips whose brains differ in size."""
    generator = torch.Generator().manual_seed(3)
    n, n_frames = case.get("n", 3), case.get("frames", N_FRAMES)
    brain = torch.zeros(n, *GRID, dtype=torch.bool)
    for sample in range(n):
        brain[
            sample, : 2 + 2 * (sample % 3), : 2 if case.get("small") else 4, 2 * (sample % 2) :
        ] = True
    shape = (n, 1, *GRID, n_frames)
    clips = [torch.randn(shape, generator=generator) + 1.0 for _ in range(2)]
    dtype = case.get("dtype", torch.float64)
    first, second = (clip.to(dtype) * brain[:, None, ..., None] for clip in clips)
    names = [f"sub-{i}" for i in range(n)]
    batch = {"clip": first, "pair": second, "brain": brain, "draw": [5 + i for i in range(n)]}
    batch |= {"participant": names, "subject": names, "start": [0] * n}
    return ready(batch) if case.get("ready") else batch


def ready(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut the clips beforehand, as the patch store does."""
    from neurocli.systems.fmri.models.patches import brain_tokens, patchify

    patches = patchify(batch["clip"], (2, 2, 2, 1))
    grid = (GRID[0] // 2, GRID[1] // 2, GRID[2] // 2, N_FRAMES)
    tokens = brain_tokens(batch["brain"], len(patches), grid, (2, 2, 2, 1))
    most = int(tokens.sum(1).max())
    x = patches.new_zeros(len(patches), most + 1, patches.shape[2])
    for row, own in enumerate(tokens):
        x[row, : int(own.sum())] = patches[row, own]
    return {**batch, "clip": x, "brain": tokens}


def run_case(name: str, group: SequenceGroup) -> dict[str, Any]:
    """Return loss, logs, gradients and judged rows of a case, as this process sees them."""
    case = CASES[name]
    config, batch = configuration(case), batch_of(case)
    info = {"img_size": [*GRID, case.get("frames", N_FRAMES)], "scaling": "none"}
    torch.manual_seed(1)
    task: Any = None
    if "head" in case:
        model: nn.Module = build_with_head(config, info)
    else:
        task = TASKS[case.get("objective", "ar")](config)
        model = task.build(info)
    model.to(case.get("dtype", torch.float64))
    backbone_of(model).divide_sequence(group)
    found: dict[str, Any] = {}
    if task is None:
        logits = model(batch["clip"], batch["brain"])["logits"]
        loss = (logits * torch.arange(1.0, logits.numel() + 1).view_as(logits)).square().sum()
    else:
        step = task.train_step(model, batch)
        loss, found["logs"] = step.loss, dict(step.logs)
    torch.autograd.backward(loss)
    group.average_gradients(model.parameters())
    found |= {"loss": loss.detach(), "grads": gradients(model)}
    if task is not None:
        with torch.no_grad():
            found["rows"] = task.eval_step(model.eval(), batch)
            found["embedded"] = task.embed_step(model, batch)
    group.finish()
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by name."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


class Clips:
    """Hold the clips of a batch as samples of people."""

    def __init__(self, n: int) -> None:
        self.batch = batch_of({"n": n, "dtype": torch.float32})

    def __len__(self) -> int:
        return len(self.batch["subject"])

    @property
    def participants(self) -> list[str]:
        return list(self.batch["participant"])

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        return {key: value[index] for key, value in self.batch.items()}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        stacked = {key: torch.stack(batch[key]) for key in ("clip", "pair", "brain")}
        return {**batch, **stacked}


def train(folder: Path, together: int) -> dict[str, Any]:
    """Train on five clips, groups of ranks sharing the tokens of each; return how it ended."""
    config = configuration({}).model_copy(
        update={
            "train": TrainBlock(
                epochs=2, lr=1e-3, optimizer="sgd", accumulate=2, sequence_parallel=together
            ),
            "data": FmriDataBlock(batch_size=2, eval_batch_size=2, sequence_length=N_FRAMES),
            "run": RunBlock(device="cpu"),
        }
    )
    info = {"img_size": [*GRID, N_FRAMES], "scaling": "none", "objective": "ar"}
    data = RunData("ar", {"train": Clips(5), "val": Clips(5)}, info, {}, "", "")
    task = ArTask(config)
    torch.manual_seed(1)
    model = task.build(info)
    steps: list[dict[str, float]] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(dict(event.logs))

    result = fit(task, model, data, config, folder, listener=listen, extra={"info": info})
    return {"steps": steps, "best": result.best_value, "weights": model.state_dict()}


def main(folder: Path) -> None:
    """Do all cases as one rank of a launcher."""
    with joined() as team:
        team.strategy, found = "ddp", {}
        alone = [dist.new_group([other]) for other in range(team.n_ranks)]
        for size in (2, 3):
            groups = [dist.new_group(list(range(size))) for _ in range(2)]
            if team.rank < size:
                shared = SequenceGroup(*groups)
                with divided_among(alone[team.rank]):  # all have the same samples
                    found |= {
                        f"{name}/{size}": run_case(name, shared) for name, n in DONE if n == size
                    }
        team.wait()
        for together in (2, 4):
            found[f"trained/{together}"] = train(folder / f"run-{together}", together)
        torch.save(found, folder / f"{team.rank}.pt")


__all__ = ["CASES", "DONE", "N_RANKS", "WHOLE", "run_case", "train"]
