"""Train linear encoders for every gene at once, each as if it had been trained alone.

The brain is read once and reduced once, to the white scores of its training components; every gene
then has its own small maps, scale, clipping and early stopping, stacked along one axis, so that a
step is a few batched products. The sum of per-gene losses has the gradient of each by itself, and
AdamW works element by element.

Letters: G genes, n people, B batch, q components of the brain, e of a gene, d common space.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import epoch_order
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.models.pair import CLIP_INIT
from neurocli.systems.genes.oracle import pmi_terms
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.sweep import ClosedSweep

Float64 = npt.NDArray[np.float64]
_WIDTH = 64
_MAX_COMPONENTS = 64


class TrainedSweep:
    """Give cosines of trained linear maps, gene by gene.

    Args:
        closed: Gives the brain's scores.
        maps: `brain` (G, q, d), `gene` (G, e, d) and `scale` (G,).
        whiteners: (q,) and (G, e).
        epochs: (G,) the best epoch of each gene; 0 is the start.
    """

    def __init__(
        self,
        closed: ClosedSweep,
        maps: dict[str, Tensor],
        whiteners: tuple[Float64, Float64],
        epochs: npt.NDArray[np.int64],
    ) -> None:
        self.closed, self.maps, self.whiteners, self.epochs = closed, maps, whiteners, epochs

    def vectors(
        self, index: int, part: PairSet, at: npt.NDArray[np.intp]
    ) -> tuple[Float64, Float64]:
        """Return unit vectors (n, d) of one gene."""
        brain = (self.closed.scores(part)[at] * self.whiteners[0]) @ _wide(
            self.maps["brain"][index]
        )
        gene = self._gene_scores(index, part, at) @ _wide(self.maps["gene"][index])
        return _unit(brain), _unit(gene)

    def _gene_scores(self, index: int, part: PairSet, at: npt.NDArray[np.intp]) -> Float64:
        own = self.closed.form.fits[index].components.scores(part.cohort.gene(index, part.rows[at]))
        kept = own[:, :_MAX_COMPONENTS]
        padded: Float64 = np.zeros((len(at), self.whiteners[1].shape[1]))
        padded[:, : kept.shape[1]] = kept * self.whiteners[1][index][: kept.shape[1]]
        return padded

    def joint(self, part: PairSet) -> tuple[Float64, Float64, int]:
        """Return unit vectors of the genes that stand out side by side, weighed by scale."""
        everyone = np.arange(len(part.rows))
        brain, gene, n = [], [], 0
        for index, fit in enumerate(self.closed.form.fits):
            if not fit.counted.any():
                continue
            weight = math.sqrt(float(self.maps["scale"][index]))
            u, v = self.vectors(index, part, everyone)
            v = v * part.cohort.present[index, part.rows][:, None]
            brain.append(u * weight)
            gene.append(v * weight)
            n += u.shape[1]
        empty = np.zeros((len(part.rows), 1))
        return (
            np.concatenate(brain or [empty], axis=1),
            np.concatenate(gene or [empty], axis=1),
            n,
        )

    def about(self, index: int) -> dict[str, Any]:
        """Return the epoch whose weights are used, and the learned scale."""
        return {
            "best_epoch": int(self.epochs[index]),
            "scale": float(self.maps["scale"][index]),
        }

    def stacked(self) -> dict[str, Any]:
        """Return the weights, gene axis first, as plain tensors."""
        form = self.closed.form
        return {
            **self.maps,
            "best_epoch": torch.from_numpy(self.epochs.copy()),
            "gene_names": [form.cohort.genes[index] for index in form.genes],
            "brain_whitener": torch.from_numpy(self.whiteners[0]),
            "gene_whitener": torch.from_numpy(self.whiteners[1]),
        }


def _wide(x: Tensor) -> Float64:
    return np.asarray(x.numpy(), dtype=np.float64)


def _unit(x: Float64) -> Float64:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


class _Training:
    """Hold the stacked inputs and weights of one training."""

    def __init__(self, solved: TrainedSweep, part: PairSet, config: RunConfig) -> None:
        form = solved.closed.form
        self.brain = torch.from_numpy(
            (solved.closed.scores(part) * solved.whiteners[0]).astype(np.float32)
        )
        everyone = np.arange(len(part.rows))
        own = [solved._gene_scores(i, part, everyone) for i in range(len(form.fits))]
        self.gene = torch.from_numpy(np.stack(own).astype(np.float32))
        self.present = torch.from_numpy(part.cohort.present[:, part.rows].copy())
        self.config = config

    def loss(self, maps: dict[str, Tensor], rows: Tensor, active: Tensor) -> Tensor:
        """Return the loss (A,) of the active genes over a batch; absent vectors take no part."""
        u = torch.einsum("bq,gqd->gbd", self.brain[rows], maps["brain"])
        v = torch.einsum("gbe,ged->gbd", self.gene[active][:, rows], maps["gene"])
        logits = F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).mT
        logits = logits * maps["scale"].exp()[:, None, None]
        there = self.present[active][:, rows]
        logits = logits.masked_fill(~(there[:, :, None] & there[:, None, :]), -1e9)
        own = torch.arange(len(rows)).expand(len(active), -1)
        both = F.cross_entropy(logits.mT, own, reduction="none")
        both = both + F.cross_entropy(logits, own, reduction="none")
        count = there.sum(1).clamp(min=1)
        return (both * there).sum(1) / (2 * count)

    def percentile(self, maps: dict[str, Tensor], active: Tensor) -> Tensor:
        """Return the mean percentile (A,) of own genes among all people of the part."""
        u = F.normalize(torch.einsum("bq,gqd->gbd", self.brain, maps["brain"]), dim=-1)
        v = F.normalize(torch.einsum("gbe,ged->gbd", self.gene[active], maps["gene"]), dim=-1)
        there = self.present[active]
        scores = (u @ v.mT).masked_fill(~there[:, None, :], -math.inf)
        above = (scores > scores.diagonal(dim1=1, dim2=2)[:, :, None]).sum(2)
        count = there.sum(1)
        mean = (above * there).sum(1) / count.clamp(min=1)
        return 1 - mean / (count - 1).clamp(min=1)


def train_genes(
    form: ClosedForm,
    train: PairSet,
    val: PairSet | None,
    config: RunConfig,
    *,
    warm: bool,
    listener: Listener,
) -> TrainedSweep:
    """Train every gene's encoders at once.

    Args:
        form: Components of the training part; its pairs are the start when `warm`.
        train: The training part.
        val: Stops each gene on its own; None trains all for all epochs.
        config: Epochs, rate, batch size and patience.
        warm: Start from the closed form.
        listener: Told of every epoch.
    """
    task = cast(GenesTaskBlock, config.task)
    solved = _start(form, config.run.seed, warm=warm)
    data = _Training(solved, train, config)
    judged = data if val is None else _Training(solved, val, config)
    maps = {name: value.clone().requires_grad_() for name, value in solved.maps.items()}
    optimizer = torch.optim.AdamW(maps.values(), lr=config.train.lr, weight_decay=0.01)
    n_genes = len(form.fits)
    active = torch.arange(n_genes)
    with torch.no_grad():
        best = judged.percentile({k: v[active] for k, v in maps.items()}, active)
    kept = {name: value.detach().clone() for name, value in maps.items()}
    epochs, still = np.zeros(n_genes, dtype=np.int64), torch.zeros(n_genes, dtype=torch.int64)
    listener(WorkStarted("train all genes", config.train.epochs, "epochs"))
    for epoch in range(config.train.epochs):
        _epoch(data, maps, optimizer, active, epoch)
        with torch.no_grad():
            now = judged.percentile({k: v[active] for k, v in maps.items()}, active)
            better = now > best[active] if val is not None else now == now
            chosen = active[better]
            best[chosen] = now[better]
            for name, value in maps.items():
                kept[name][chosen] = value[chosen]
        epochs[chosen.numpy()] = epoch + 1
        still[active] += 1
        still[chosen] = 0
        active = active[still[active] < task.patience]
        listener(ItemDone(f"epoch {epoch + 1}: {len(active)} genes go on", "done"))
        if not len(active):
            break
    listener(WorkFinished("train all genes"))
    kept["scale"] = kept["scale"].clamp(max=math.log(task.logit_scale_max)).exp()
    return TrainedSweep(solved.closed, kept, solved.whiteners, epochs)


def _epoch(
    data: _Training,
    maps: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    active: Tensor,
    epoch: int,
) -> None:
    config, n = data.config, len(data.brain)
    order = torch.tensor(epoch_order(n, seed=config.run.seed, epoch=epoch, shuffle=True))
    size = config.data.batch_size
    for first in range(0, n, size):
        rows = order[first : first + size]
        if len(rows) < 2:
            continue
        optimizer.zero_grad(set_to_none=True)
        data.loss({k: v[active] for k, v in maps.items()}, rows, active).sum().backward()  # type: ignore[no-untyped-call]
        if config.train.clip_norm is not None:
            _clip(maps, config.train.clip_norm)
        optimizer.step()


def _clip(maps: dict[str, Tensor], limit: float) -> None:
    """Clip the gradient of each gene by itself, so that genes stay independent."""
    grads = [value.grad for value in maps.values() if value.grad is not None]
    squares = [
        (grad.flatten(1) if grad.ndim > 1 else grad[:, None]).square().sum(1) for grad in grads
    ]
    factor = (limit / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.reshape(-1, *[1] * (grad.ndim - 1)))


def _start(form: ClosedForm, seed: int, *, warm: bool) -> TrainedSweep:
    """Return maps to start from: random, or the closed form's best cosines."""
    q = form.components.axes.shape[1]
    e = min(_MAX_COMPONENTS, max(fit.components.axes.shape[1] for fit in form.fits))
    white_brain = form.components.whitener(0.0)
    white_gene = np.zeros((len(form.fits), e))
    for index, fit in enumerate(form.fits):
        own = fit.components.whitener(0.0)[:e]
        white_gene[index, : len(own)] = own
    names = [form.cohort.genes[index] for index in form.genes]
    brain = torch.stack([_random((q, _WIDTH), f"{seed} brain {name}") for name in names])
    gene = torch.stack([_random((e, _WIDTH), f"{seed} gene {name}") for name in names])
    if warm:
        brain, gene = brain * 1e-3, gene * 1e-3
        for index, fit in enumerate(form.fits):
            k = min(_WIDTH, len(fit.r), e)
            weight = np.sqrt(pmi_terms(fit.weights[:k])[0])
            rows = min(e, fit.gene.shape[0])
            brain[index, :, :k] = _narrow(fit.brain[:, :k] / white_brain[:, None] * weight)
            own = fit.gene[:rows, :k] / white_gene[index, :rows, None] * weight
            gene[index, :rows, :k] = _narrow(own)
    scale = torch.full((len(form.fits),), CLIP_INIT)
    maps = {"brain": brain, "gene": gene, "scale": scale}
    return TrainedSweep(
        ClosedSweep(form), maps, (white_brain, white_gene), np.zeros(len(form.fits), dtype=np.int64)
    )


def _random(shape: tuple[int, int], words: str) -> Tensor:
    # By name, so that a gene starts the same alone and among others.
    generator = torch.Generator().manual_seed(zlib.crc32(words.encode()))
    found: Tensor = torch.randn(shape, generator=generator) / math.sqrt(shape[0])
    return found


def _narrow(x: Float64) -> Tensor:
    return torch.from_numpy(x.astype(np.float32))
