"""Two processes over gloo have the loss, the gradient and the training step of one.

Ranks hold different numbers of pairs, as at the end of an epoch. The expected values are those of
one process on all pairs, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.config.load import load_config
from neurocli.core.nn.gathered import gather, gathered_loss
from neurocli.core.nn.pair_loss import Kind, pair_loss
from neurocli.systems.genes.models.build import build
from neurocli.systems.genes.task import AlignTask

PARTS = (slice(0, 6), slice(6, 10))
N = 10
CASES: list[tuple[Kind, bool]] = [
    ("clip", False), ("clip", True), ("siglip", False), ("siglip", True)
]  # fmt: skip
STEPS = [
    ("gene_pair", ("model.hidden_dim=5", "model.dropout=0.3")),
    ("gene_pair", ("task.loss=siglip", "task.multi_positive=on")),
    ("gene_sequence", ("model.pooling=cls", "model.transformer_dropout=0.2")),
]
SMALL = (
    "model.projection_dim=4", "model.transformer_hidden_dim=8", "model.transformer_num_layers=1",
    "model.transformer_num_heads=2", "model.transformer_ff_dim=8", "task.micro_batch=2",
)  # fmt: skip


def data() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(N, 7, dtype=torch.float64)
    y = torch.randn(N, 6, dtype=torch.float64)
    return x, y, torch.arange(N) % 7


def weighed(loss: Tensor, at: slice) -> Tensor:
    """Return a rank's loss times its share of the pairs, as the engine does before backward."""
    n = len(range(N)[at])
    return loss if n == N else loss * (n * len(PARTS) / N)


def weights() -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(7, 4), (6, 4), (), ()]
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def loss_of(kind: Kind, *, with_labels: bool, at: slice, together: bool) -> list[Tensor]:
    """Return the loss and its gradients on some of the pairs."""
    (x, y, labels), own = data(), weights()
    u, v = F.normalize(x[at] @ own[0], dim=1), F.normalize(y[at] @ own[1], dim=1)
    function = gathered_loss if together else pair_loss
    options: dict[str, Any] = {"kind": kind, "bias": own[3]}
    loss = function(u, v, own[2].exp(), labels=labels[at] if with_labels else None, **options)
    loss = weighed(loss, at)
    loss.backward()  # type: ignore[no-untyped-call]
    return [loss.detach(), *(cast(Tensor, w.grad) for w in own)]


class Wrapper(nn.Module):
    """Stand around a model as data-parallel wrappers do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)


def step_of(name: str, settings: tuple[str, ...], at: slice) -> list[Tensor]:
    """Return the loss and the gradients of a training step on some of the people."""
    config = load_config("genes/tiny", set=[*SMALL, *settings], model=name)
    torch.manual_seed(2)
    n_genes = 1 if name == "gene_pair" else 3
    info = {"neuro_input_dim": 9, "gene_input_dim": 5, "num_genes": n_genes}
    model = cast(nn.Module, build(config, info)).double().train()
    generator = torch.Generator().manual_seed(3)
    batch = {
        "neuro_embedding": torch.randn(N, 9, generator=generator, dtype=torch.float64)[at],
        "gene_sequence": torch.randn(N, n_genes, 5, generator=generator, dtype=torch.float64)[at],
        "gene_class": (torch.arange(N) % 8)[at],
        "draw": (torch.arange(N) + 11)[at],
        "participant": [str(i) for i in range(N)][at],
    }
    loss = weighed(AlignTask(config).train_step(Wrapper(model), batch).loss, at)
    loss.backward()  # type: ignore[no-untyped-call]
    # torch leaves no gradient where nothing was used; zeros mean the same to an average.
    return [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad
                             for p in model.parameters())]  # fmt: skip


def work(rank: int, port: int, folder: Path) -> None:
    """Run every case on one rank and save what averaging over ranks gives."""
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=len(PARTS)
    )
    at = PARTS[rank]
    found = [loss_of(kind, with_labels=w, at=at, together=True) for kind, w in CASES]
    found += [step_of(name, settings, at) for name, settings in STEPS]
    for values in found:
        for value in values:
            dist.all_reduce(value)
            value.div_(len(PARTS))
    rows = gather(torch.arange(N)[at] * 1.0)
    if rank == 0:
        torch.save([*found, [rows]], folder / "found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, fork_ranks: Callable[..., None]
) -> list[list[Tensor]]:
    folder = tmp_path_factory.mktemp("gloo")
    fork_ranks(len(PARTS), lambda rank, port: work(rank, port, folder))
    loaded: list[list[Tensor]] = torch.load(folder / "found.pt", weights_only=True)
    return loaded


def assert_same(mine: list[Tensor], other: list[Tensor]) -> None:
    for one, two in zip(mine, other, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_loss_is_that_of_one_process(found: list[list[Tensor]], case: int) -> None:
    kind, with_labels = CASES[case]
    expected = loss_of(kind, with_labels=with_labels, at=slice(None), together=False)
    assert_same(found[case], expected)


@pytest.mark.parametrize("case", range(len(STEPS)))
def test_a_training_step_is_that_of_one_process(found: list[list[Tensor]], case: int) -> None:
    # With dropout: its draws belong to people, so that it does not matter who encodes them.
    assert_same(found[len(CASES) + case], step_of(*STEPS[case], slice(None)))


def test_rows_come_in_the_order_of_ranks(found: list[list[Tensor]]) -> None:
    assert torch.equal(found[-1][0], torch.arange(N) * 1.0)
