"""Two processes over gloo have the loss and the gradient of one."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.gathered import gather, gathered_loss
from neurocli.core.nn.pair_loss import pair_loss

WORLD, EACH = 2, 5
CASES = [("clip", False), ("clip", True), ("siglip", False), ("siglip", True)]


def data() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    n = WORLD * EACH
    x = torch.randn(n, 7, dtype=torch.float64)
    y = torch.randn(n, 6, dtype=torch.float64)
    return x, y, torch.arange(n) % 7


def weights() -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(7, 4), (6, 4), (), ()]
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def encoded(own: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return F.normalize(x @ own[0], dim=1), F.normalize(y @ own[1], dim=1)


def work(rank: int, port: int, folder: str) -> None:
    """Run every case on one rank and save averaged gradients."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD
    )
    x, y, labels = data()
    at = slice(rank * EACH, (rank + 1) * EACH)
    found = []
    for kind, with_labels in CASES:
        own = weights()
        u, v = encoded(own, x[at], y[at])
        loss = gathered_loss(
            u,
            v,
            own[2].exp(),
            kind=kind,  # type: ignore[arg-type]
            bias=own[3],
            labels=labels[at] if with_labels else None,
        )
        loss.backward()
        values = [loss.detach(), *(w.grad for w in own)]
        for value in values:
            dist.all_reduce(value)  # type: ignore[arg-type]
        found.append([value / WORLD for value in values])  # type: ignore[operator]
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[Tensor]]:
    folder = tmp_path_factory.mktemp("gloo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=work, args=(r, port, str(folder))) for r in range(WORLD)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    loaded: list[list[Tensor]] = torch.load(folder / "found.pt", weights_only=True)
    return loaded


@pytest.mark.parametrize("case", range(len(CASES)))
def test_two_processes_are_one(found: list[list[Tensor]], case: int) -> None:
    kind, with_labels = CASES[case]
    x, y, labels = data()
    own = weights()
    u, v = encoded(own, x, y)
    loss = pair_loss(
        u,
        v,
        own[2].exp(),
        kind=kind,  # type: ignore[arg-type]
        bias=own[3],
        labels=labels if with_labels else None,
    )
    loss.backward()
    expected = [loss.detach(), *(w.grad for w in own)]
    for mine, other in zip(found[case], expected, strict=True):
        assert torch.allclose(mine, other, rtol=1e-9, atol=1e-12)  # type: ignore[arg-type]


def test_one_process_gathers_itself() -> None:
    x = torch.randn(3, 2)
    assert gather(x) is x
    u = F.normalize(x, dim=1)
    scale = torch.tensor(3.0)
    assert float(gathered_loss(u, u, scale)) == float(pair_loss(u, u, scale))
