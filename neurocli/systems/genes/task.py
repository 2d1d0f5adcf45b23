"""Aligning brains and genes: the contrastive loss, the judgement, and what it is compared with.

The loss of a step is over all its pairs, however they are read and encoded: batches that are
accumulated are joined before the loss, so that everybody is told from everybody, and encoded in
chunks. Judging is done in float64, so that ranks do not depend on how people are batched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neurocli.core.engine.task import (
    BaselineRows,
    Batch,
    PrimaryMetric,
    Rows,
    RunData,
    SampleSet,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener
from neurocli.core.nn.chunked import encode_in_chunks
from neurocli.core.nn.gathered import gathered_loss
from neurocli.core.nn.pair_loss import pair_loss
from neurocli.systems.genes.beside import differences
from neurocli.systems.genes.config import GenesDataBlock, GenesTaskBlock
from neurocli.systems.genes.floor import FLOORS, RCCA, ClosedForm, floor_rows
from neurocli.systems.genes.judging import judge, pairs_of
from neurocli.systems.genes.models.pair import Aligned
from neurocli.systems.genes.models.solved import SolvedGenes
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.solved_rows import people_of_batch, solved_rows
from neurocli.systems.genes.standards import standards
from neurocli.systems.genes.sweep import judge_genes, screen
from neurocli.systems.genes.warm_start import start_from_closed_form

_TILED_ABOVE = 2048
_TILE = 1024
_MIN_PAIRS = 2
# Tokens encoded at once where activations, and not inputs, fill the memory.
_TOKENS_AT_ONCE = 8 * 111


class AlignTask(Task):
    """Bring a person's brain and genes together and keep others apart."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._standard: dict[str, np.ndarray] = {}
        self._labels_matter = False
        self._train: PairSet | None = None
        self._solution: Solution | None = None
        self._method: str | None = None
        self._by_gene = False
        self._screened: dict[str, float] | None = None
        self._is_screened, self._added = False, list[str]()
        if config.data.batch_size < _MIN_PAIRS:
            raise UsageError(
                f"a batch of {config.data.batch_size} has nothing to be told from",
                where="data.batch_size",
                hint="set it to 2 or more; 128 and up learn better",
            )

    @property
    def _task(self) -> GenesTaskBlock:
        return cast(GenesTaskBlock, self.config.task)

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return what `task.best_metric` names, over the whole validation part."""
        name = self._task.best_metric
        return PrimaryMetric(name, "min" if name == "loss" else "max")

    @property
    def joins_batches(self) -> bool:
        """Return True: a pair is told from all others of a step."""
        return True

    def join(self, batches: Sequence[Batch]) -> Batch:
        """Return one batch of the batches of a step."""
        first = batches[0]
        joined: dict[str, Any] = {"encode_at_once": len(first["participant"])}
        for key, value in first.items():
            parts = [batch[key] for batch in batches if key in batch]
            joined[key] = (
                torch.cat(parts) if isinstance(value, Tensor) else [x for p in parts for x in p]
            )
        if any("present" in batch for batch in batches):
            joined["present"] = torch.cat([_present(batch) for batch in batches])
        return joined

    def fit(self, data: RunData) -> None:
        """Learn means and deviations of the training part, and whether genes repeat.

        Raises:
            UsageError: Fewer than two people are in training.
        """
        samples = data.parts.get("train")
        if not isinstance(samples, PairSet) or len(samples) < _MIN_PAIRS:
            raise UsageError(
                "contrastive training needs 2 people or more in the training part",
                where="--split",
                hint="give more people, or another split",
            )
        self._train = samples
        own = samples.classes[samples.rows]
        self._labels_matter = len(np.unique(own)) < len(own)
        if cast(GenesDataBlock, self.config.data).standardize:
            self._standard = standards(samples)

    @property
    def starts_trained(self) -> bool:
        """Return whether the closed form is the start, which training has to beat."""
        return self._task.warm_start

    def build(self, info: Mapping[str, Any]) -> nn.Module:
        """Return the untrained model, knowing the training part's means and deviations."""
        model = super().build(info)
        if not isinstance(model, Aligned):
            return model
        if self._standard:
            model.set_standard(**self._standard)
        if self._train is not None and self._task.warm_start:
            start_from_closed_form(model, ClosedForm(self._train, self._task))
        return model

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss over all pairs of a step, those of all processes where there are several.

        `model` may stand in a wrapper that averages gradients over processes.
        """
        inner = getattr(model, "module", model)
        assert isinstance(inner, Aligned)
        with torch.no_grad():  # as a step of its own: clamped in the loss it could stick at the cap
            inner.logit_scale.clamp_(0.0, math.log(self._task.logit_scale_max))
        u, v = encode_in_chunks(
            model,
            [
                batch["neuro_embedding"],
                batch["gene_sequence"],
                batch.get("present"),
                batch.get("draw"),
            ],
            self._chunk(batch),
        )
        kept = slice(0, 0) if batch.get("stand_in") else slice(None)
        labels = self._labels(batch)
        loss = self._loss(inner, u[kept], v[kept], None if labels is None else labels[kept])
        with torch.no_grad():
            nearest = (u @ v.T).argmax(1) if len(u) <= _TILED_ABOVE else None
            logs = {"scale": float(inner.logit_scale.detach().exp())}
            if nearest is not None:
                own = torch.arange(len(u), device=u.device)
                logs["in_batch_top1"] = float((nearest == own).float().mean())
        return StepOutput(loss, logs)

    def _chunk(self, batch: Batch) -> int | None:
        if self._task.micro_batch is not None:
            return self._task.micro_batch
        at_once = batch.get("encode_at_once")
        n_genes = batch["gene_sequence"].shape[1]
        most = max(1, _TOKENS_AT_ONCE // n_genes) if n_genes > 1 else None
        known = [size for size in (at_once, most) if size is not None]
        return min(known) if known else None

    def _labels(self, batch: Batch) -> Tensor | None:
        choice = self._task.multi_positive
        wanted = self._labels_matter if choice == "auto" else choice == "on"
        return batch["gene_class"] if wanted else None

    def _loss(self, model: Aligned, u: Tensor, v: Tensor, labels: Tensor | None) -> Tensor:
        tile = self._task.tile or (_TILE if len(u) > _TILED_ABOVE else None)
        return gathered_loss(
            u,
            v,
            model.logit_scale.exp(),
            kind=self._task.loss,
            bias=model.logit_bias,
            labels=labels,
            tile=tile,
        )

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return both vectors of each person, computed in float64."""
        if isinstance(model, SolvedGenes):
            return self._solved_step(model, batch)
        assert isinstance(model, Aligned)
        state = {name: _wide(value) for name, value in model.state_dict().items()}
        inputs = (batch["neuro_embedding"].double(), batch["gene_sequence"].double())
        u, v = functional_call(model, state, (*inputs, batch.get("present")))
        first, second = u.cpu().numpy(), v.cpu().numpy()
        scale, strata = float(model.logit_scale.detach().exp()), batch.get("stratum")
        bias = 0.0 if model.logit_bias is None else float(model.logit_bias.detach())
        return [
            {
                "participant": person,
                "subject": person,
                "start": 0,
                "family": batch["family"][i],
                "neuro": first[i],
                "gene": second[i],
                "gene_class": int(batch["gene_class"][i]),
                **({} if strata is None else {"stratum": int(strata[i])}),
                "scale": min(scale, self._task.logit_scale_max),
                "bias": bias,
            }
            for i, person in enumerate(batch["participant"])
        ]

    def _solved_step(self, model: SolvedGenes, batch: Batch) -> Rows:
        self._solution = model.solution
        return solved_rows(model.solution, people_of_batch(batch), by_gene=self._by_gene)

    def adopt(
        self,
        solution: Solution,
        method: str,
        *,
        by_gene: bool,
        screened: Mapping[str, float] | None = None,
        added: Sequence[str] = (),
    ) -> None:
        """Judge a solution from here on.

        Args:
            solution: The maps.
            method: How they were found.
            by_gene: Whether every gene is judged by itself, too.
            screened: Gene -> p on validation people, of a solution that learned from them
                afterwards; None screens by the solution itself.
            added: Whom it learned from beside the training part, as its floor does then.
        """
        self._added = list(added)
        self._solution, self._method, self._by_gene = solution, method, by_gene
        self._is_screened = screened is not None
        self._screened = None if screened is None else dict(screened)

    @property
    def judges_by_gene(self) -> bool:
        """Return whether every gene of a solution is judged by itself, too."""
        return self._by_gene

    @property
    def needs_validation(self) -> bool:
        """Return whether genes are yet to be screened on validation people."""
        return self._by_gene and not self._is_screened

    def tune(self, rows: Rows | None) -> list[str]:
        """Screen the genes of a sweep."""
        self._screened = None
        if rows and self._solution is not None:
            self._screened = screen(self._solution, rows)
        return []

    def summarise(self, rows: Rows) -> Summary:
        """Return retrieval over all people of the rows, beside chance.

        Raises:
            NeuroError: One person makes no comparison.
        """
        if len(rows) < _MIN_PAIRS:
            raise NeuroError(
                f"{len(rows)} person cannot be told from others", hint="judge a larger part"
            )
        if self._solution is not None and "gene_keys" in rows[0]:
            swept = judge_genes(self._solution, rows, self._screened, self._task)
            told = {**swept.joint.details, "genes": swept.genes, "found": swept.found}
            notes = [*swept.joint.notes, *swept.notes]
            return replace(swept.joint, details=told, notes=notes)
        pairs = pairs_of(rows)
        loss = None
        if "scale" in rows[0]:
            labels = torch.from_numpy(pairs.classes) if self._labels_matter else None
            loss = float(
                pair_loss(
                    torch.from_numpy(pairs.brain),
                    torch.from_numpy(pairs.gene),
                    torch.tensor(rows[0]["scale"], dtype=torch.float64),
                    kind=self._task.loss,
                    bias=torch.tensor(rows[0]["bias"], dtype=torch.float64),
                    labels=labels,
                    tile=_TILE,
                )
            )
        return judge(pairs, permutations=self._task.permutations, loss=loss)

    def embed_step(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the brain's unit vectors (B, E), or what a solution scores it by."""
        if isinstance(model, SolvedGenes):
            return cast(Tensor, model(batch["neuro_embedding"], batch["gene_sequence"])[0])
        assert isinstance(model, Aligned)
        return model.encode_neuro(batch["neuro_embedding"])

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        """Return the closed form fitted on the training part, covariates alone, and the optimum."""
        # Of a closed form the closed form is no baseline.
        return floor_rows(
            cast(PairSet, train).with_ids(self._added),
            [cast(PairSet, part) for part in judged],
            self._task,
            with_rcca=self._method != RCCA,
        )

    def beside(self, rows: Rows, baselines: Mapping[str, Rows]) -> Mapping[str, Any]:
        """Return the paired differences from the floors, in people's ranks."""
        floors = {name: pairs_of(own) for name, own in baselines.items() if name in FLOORS}
        return {"differences": differences(pairs_of(rows), floors)} if floors else {}

    def state_dict(self) -> dict[str, Any]:
        """Return whether gene vectors repeat in training."""
        solved = {"method": self._method, "by_gene": self._by_gene} if self._method else {}
        later: dict[str, Any] = {"screened": self._screened} if self._is_screened else {}
        later |= {"added": self._added} if self._added else {}
        return {"labels_matter": self._labels_matter, **solved, **later}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._labels_matter = bool(state.get("labels_matter", False))
        self._method = state.get("method")
        self._by_gene = bool(state.get("by_gene", False))
        self._screened = state.get("screened")
        self._is_screened, self._added = self._screened is not None, list(state.get("added", ()))


def _present(batch: Batch) -> Tensor:
    genes = batch["gene_sequence"]
    whole = torch.ones(genes.shape[:2], dtype=torch.bool, device=genes.device)
    found: Tensor = batch.get("present", whole)
    return found


def _wide(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value
