"""Train linear encoders for every gene at once, each as if it had been trained alone.

The brain is read once and reduced once, to the white scores of its training components; every gene
then has its own small maps, scale, clipping and early stopping, stacked along one axis, so that a
step is a few batched products. The sum of per-gene losses has the gradient of each by itself, and
AdamW works element by element.

From random maps pairs are scored by cosines under a learned scale. From the closed form they are
scored as it scores them, by the mutual information of variates whose correlations are learned with
the maps, so that training starts exactly where the floor is; cosines alone would lose to it.

Letters: G genes, n people, B batch, q components of the brain, e of a gene, d common space.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import epoch_order
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted
from neurocli.systems.genes.beside import by_person
from neurocli.systems.genes.config import GeneModelConfig, GenesTaskBlock
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.judging import Pairs, pairs_of
from neurocli.systems.genes.models.pair import CLIP_INIT
from neurocli.systems.genes.oracle import pmi_terms
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import GeneMaps, Solution
from neurocli.systems.genes.solved_rows import gene_pairs, people_of, solved_rows

Float64 = npt.NDArray[np.float64]
_MAX_COMPONENTS = 64
_WARM_RATE = 0.01  # of the learning rate
_NO_R = -9.0  # logit of the correlation of a pair that is not there


@dataclass(frozen=True)
class _Start:
    """Hold what training begins with.

    Args:
        form: Components of the training part.
        maps: `brain` (G, q, d), `gene` (G, e, d) of white scores, and `scale` (G,), its log; or
            in its place `r` (G, d), the logits of correlations.
        whiteners: (q,) and (G, e).
    """

    form: ClosedForm
    maps: dict[str, Tensor]
    whiteners: tuple[Float64, Float64]

    def gene_scores(self, index: int, part: PairSet) -> Float64:
        """Return the white scores (n, e) of a gene, with zeros where it has fewer components."""
        components = self.form.fits[index].components
        kept = components.scores(part.cohort.gene(index, part.rows))[:, :_MAX_COMPONENTS]
        padded: Float64 = np.zeros((len(kept), self.whiteners[1].shape[1]))
        padded[:, : kept.shape[1]] = kept * self.whiteners[1][index][: kept.shape[1]]
        return padded

    def solution(self, maps: dict[str, Tensor], epochs: npt.NDArray[np.int64]) -> Solution:
        """Return trained maps as a solution; genes whose closed form stands out are joined."""
        closed = self.form.solution
        genes = {}
        for index, own in enumerate(closed.genes):
            width = min(own.axes.shape[1], _MAX_COMPONENTS)
            gene = self.whiteners[1][index][:width, None] * _wide(maps["gene"][index])[:width]
            brain = self.whiteners[0][:, None] * _wide(maps["brain"][index])
            r, scale = np.zeros(gene.shape[1]), 0.0
            if "r" in maps:
                r = _wide(maps["r"][index].sigmoid())
                weight = np.sqrt(pmi_terms(r)[0])
                brain, gene = brain / weight, gene / weight
            else:
                scale = float(maps["scale"][index])
            axes = own.axes[:, :width]
            epoch = int(epochs[index])
            genes[index] = GeneMaps(own.mean, axes, brain, gene, r, scale=scale, epoch=epoch)
        counted = [i for i, fit in enumerate(self.form.fits) if fit.counted.any()]
        beside = tuple(counted or range(len(genes)))
        return replace(closed.with_maps(genes), side_by_side=beside)


def _wide(x: Tensor) -> Float64:
    return np.asarray(x.numpy(), dtype=np.float64)


class _Training:
    """Hold the stacked inputs and weights of one training."""

    def __init__(self, start: _Start, part: PairSet, config: RunConfig) -> None:
        scores = start.form.components.scores(part.cohort.brain(part.rows))
        self.brain = torch.from_numpy((scores * start.whiteners[0]).astype(np.float32))
        own = [start.gene_scores(index, part) for index in range(len(start.form.fits))]
        self.gene = torch.from_numpy(np.stack(own).astype(np.float32))
        self.present = torch.from_numpy(part.cohort.present[:, part.rows].copy())
        self.config = config

    def loss(self, maps: dict[str, Tensor], rows: Tensor, active: Tensor) -> Tensor:
        """Return the loss (A,) of the active genes over a batch; absent vectors take no part."""
        u = torch.einsum("bq,gqd->gbd", self.brain[rows], maps["brain"])
        v = torch.einsum("gbe,ged->gbd", self.gene[active][:, rows], maps["gene"])
        logits = _scores(u, v, maps)
        there = self.present[active][:, rows]
        logits = logits.masked_fill(~(there[:, :, None] & there[:, None, :]), -1e9)
        own = torch.arange(len(rows)).expand(len(active), -1)
        both = F.cross_entropy(logits.mT, own, reduction="none")
        both = both + F.cross_entropy(logits, own, reduction="none")
        count = there.sum(1).clamp(min=1)
        return (both * there).sum(1) / (2 * count)

    def percentile(self, maps: dict[str, Tensor], active: Tensor) -> Tensor:
        """Return the mean percentile (A,) of own genes among all people of the part."""
        u = torch.einsum("bq,gqd->gbd", self.brain, maps["brain"])
        v = torch.einsum("gbe,ged->gbd", self.gene[active], maps["gene"])
        there = self.present[active]
        scores = _scores(u, v, maps).masked_fill(~there[:, None, :], -math.inf)
        above = (scores > scores.diagonal(dim1=1, dim2=2)[:, :, None]).sum(2)
        count = there.sum(1)
        mean = (above * there).sum(1) / count.clamp(min=1)
        return 1 - mean / (count - 1).clamp(min=1)


def _scores(u: Tensor, v: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Return scores (A, b, c) of the vectors (A, b, d) and (A, c, d) of each gene."""
    if "r" not in maps:
        cosines = F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).mT
        return cosines * maps["scale"].exp()[:, None, None]
    # Mutual information, where both sides already hold the root of the weight r / (1 - r^2).
    r = maps["r"].sigmoid()[:, :, None]
    return u @ v.mT - (u.square() @ r + (v.square() @ r).mT) / 2


def train_genes(
    form: ClosedForm,
    train: PairSet,
    val: PairSet | None,
    config: RunConfig,
    *,
    warm: bool,
    listener: Listener,
    until: npt.NDArray[np.int64] | None = None,
) -> Solution:
    """Train every gene's encoders at once.

    Args:
        form: Components of the training part; its pairs are the start when `warm`.
        train: The training part.
        val: Stops each gene on its own; None trains all for all epochs, or as `until` says.
        config: Epochs, rate, batch size and patience.
        warm: Start from the closed form.
        listener: Told of every epoch.
        until: (G,) epochs of each gene; None for those of the configuration.
    """
    task = cast(GenesTaskBlock, config.task)
    start = _start(form, config, warm=warm)
    data = _Training(start, train, config)
    judged = data if val is None else _Training(start, val, config)
    maps = {name: value.clone().requires_grad_() for name, value in start.maps.items()}
    # What starts near the best is not to be pulled to nothing, and has little to learn.
    decay, rate = (0.0, _WARM_RATE) if warm else (config.train.weight_decay, 1.0)
    decayed = {"params": [maps["brain"], maps["gene"]], "weight_decay": decay}
    others = [value for name, value in maps.items() if name not in ("brain", "gene")]
    optimizer = torch.optim.AdamW(
        [decayed, {"params": others, "weight_decay": 0.0}], lr=config.train.lr * rate
    )
    n_genes = len(form.fits)
    last = torch.full((n_genes,), config.train.epochs)
    if until is not None:
        last = torch.from_numpy(until)
    active = torch.arange(n_genes)[last > 0]
    with torch.no_grad():
        best = judged.percentile(maps, torch.arange(n_genes))
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
        active = active[(still[active] < task.patience) & (last[active] > epoch + 1)]
        listener(ItemDone(f"epoch {epoch + 1}: {len(active)} genes go on", "done"))
        if not len(active):
            break
    listener(WorkFinished("train all genes"))
    if "scale" in kept:
        kept["scale"] = kept["scale"].clamp(max=math.log(task.logit_scale_max)).exp()
    return start.solution(kept, epochs)


def better_maps(closed: Solution, trained: Solution, val: PairSet) -> tuple[Solution, list[int]]:
    """Return the closed form with what training made better on validation people.

    Args:
        closed: The floor.
        trained: Maps of the same genes.
        val: Validation people.

    Returns:
        For each gene the trained maps where its percentile is higher by more than a standard error
        of the paired difference, else the closed form, and likewise of all genes at once by
        reciprocal ranks; and which genes are trained ones. The floor itself where training made
        nothing better.
    """
    people = people_of(val, range(len(closed.genes)))
    floor, own = (solved_rows(each, people, by_gene=True) for each in (closed, trained))
    pairs = zip(gene_pairs(closed, floor), gene_pairs(trained, own), strict=True)
    better = {
        index: trained.genes[index]
        for index, (plain, trial) in enumerate(pairs)
        if trained.genes[index].epoch and _is_better(trial, plain, "percentile")
    }
    if not better:
        return closed, []
    chosen = closed.with_maps(better)
    mixed = replace(chosen, side_by_side=trained.side_by_side)
    together = pairs_of(solved_rows(mixed, people, by_gene=False))
    is_better = _is_better(together, pairs_of(floor), "mrr")
    return (mixed if is_better else chosen), list(better)


def epochs_of(solution: Solution, trained: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return (G,) for how many epochs each gene was trained: 0 but for the trained ones."""
    found = np.zeros(len(solution.genes), dtype=np.int64)
    for index in trained:
        found[index] = solution.genes[index].epoch
    return found


def _is_better(trial: Pairs, plain: Pairs, name: str) -> bool:
    """Return whether the same people do better by more than chance would have them."""
    if len(trial.people) < 2:
        return False
    gains = by_person(trial)[name] - by_person(plain)[name]
    return bool(gains.mean() > gains.std(ddof=1) / math.sqrt(len(gains)))


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


def _start(form: ClosedForm, config: RunConfig, *, warm: bool) -> _Start:
    """Return maps to start from: random, or the closed form's surest pairs."""
    seed, model = config.run.seed, cast(GeneModelConfig, config.model)
    width = cast(GenesTaskBlock, config.task).sweep_width
    q = form.components.axes.shape[1]
    e = min(_MAX_COMPONENTS, max(fit.components.axes.shape[1] for fit in form.fits))
    white_brain = form.components.whitener(0.0)
    white_gene = np.zeros((len(form.fits), e))
    for index, fit in enumerate(form.fits):
        own = fit.components.whitener(0.0)[:e]
        white_gene[index, : len(own)] = own
    names = [form.cohort.genes[index] for index in form.genes]
    brain = torch.stack([_random((q, width), f"{seed} brain {name}") for name in names])
    gene = torch.stack([_random((e, width), f"{seed} gene {name}") for name in names])
    if warm:
        start = {"brain": brain * 0, "gene": gene * 0, "r": torch.full((len(names), width), _NO_R)}
        for index, fit in enumerate(form.fits):
            k = min(width, len(fit.r), e)
            r = fit.weights[:k]
            weight = np.sqrt(pmi_terms(r)[0])
            rows = min(e, fit.gene.shape[0])
            start["brain"][index, :, :k] = _narrow(fit.brain[:, :k] / white_brain[:, None] * weight)
            own = fit.gene[:rows, :k] / white_gene[index, :rows, None] * weight
            start["gene"][index, :rows, :k] = _narrow(own)
            start["r"][index, :k] = _narrow(np.log(r / (1 - r)))
        return _Start(form, start, (white_brain, white_gene))
    init = CLIP_INIT if model.logit_scale_init is None else model.logit_scale_init
    maps = {"brain": brain, "gene": gene, "scale": torch.full((len(form.fits),), init)}
    return _Start(form, maps, (white_brain, white_gene))


def _random(shape: tuple[int, int], words: str) -> Tensor:
    # By name, so that a gene starts the same alone and among others.
    generator = torch.Generator().manual_seed(zlib.crc32(words.encode()))
    found: Tensor = torch.randn(shape, generator=generator) / math.sqrt(shape[0])
    return found


def _narrow(x: Float64) -> Tensor:
    return torch.from_numpy(x.astype(np.float32))
