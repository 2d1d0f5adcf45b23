"""A solved alignment as a model: its maps are buffers, so that it is kept and judged like others.

Letters: B people, P numbers of a latent, G genes, d numbers of a gene's vector, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.systems.genes.solution import Solution

_WHOLE = frozenset({"joint.gene", "joint.side_by_side"})
_SINGLE = frozenset({"mean", "axes"})


class SolvedGenes(nn.Module):
    """Hold the maps of a solution.

    Args:
        names: Genes.
        sizes: Shape of every tensor by name, as `Solution.sizes` gives them.
    """

    def __init__(self, names: list[str], sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self.names = list(names)
        for name, shape in sizes.items():
            *holders, last = name.split(".")
            module: nn.Module = self
            for holder in holders:
                if not hasattr(module, holder):
                    module.add_module(holder, nn.Module())
                module = module.get_submodule(holder)
            module.register_buffer(last, torch.zeros(tuple(shape), dtype=_kind(name)))
        self._solution: Solution | None = None

    @property
    def solution(self) -> Solution:
        """Return the maps as arrays."""
        if self._solution is None:
            self._solution = Solution.of_tensors(self.names, dict(self.named_buffers()))
        return self._solution

    def forward(
        self, neuro: Tensor, genes: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return vectors (B, F) of both sides, whose inner products score pairs.

        Args:
            neuro: (B, P) latents; without `genes` the gene vectors follow in the same row.
            genes: (B, G, d).
            present: (B, G).
        """
        solution = self.solution
        row = neuro.detach().cpu().flatten(1).numpy()
        n_latent = len(solution.mean)
        values = row[:, n_latent:] if genes is None else genes.detach().cpu().numpy()
        values = values.reshape(len(row), len(self.names), -1)
        there = np.ones(values.shape[:2], dtype=bool)
        if present is not None:
            there = present.cpu().numpy()
        rows = {index: values[:, index] for index in range(len(self.names))}
        brain, gene = solution.vectors(solution.scores(row[:, :n_latent]), rows, there)
        return torch.from_numpy(brain).to(neuro.device), torch.from_numpy(gene).to(neuro.device)


def _kind(name: str) -> torch.dtype:
    holder, _, last = name.rpartition(".")
    if name in _WHOLE or last == "epoch":
        return torch.int64
    return torch.float32 if last in _SINGLE and holder != "joint" else torch.float64


def solved_model(solution: Solution) -> SolvedGenes:
    """Return a solution as a model.

    Args:
        solution: The maps.
    """
    model = SolvedGenes(solution.names, solution.sizes())
    model.load_state_dict(solution.tensors())
    return model.eval()
