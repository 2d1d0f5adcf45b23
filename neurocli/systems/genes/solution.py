"""Solved alignments: maps from latents and gene vectors to scores, however they were found.

A closed form scores pairs of variates by mutual information; a trained map gives unit vectors
whose cosines do. Both are a few matrices per gene, kept as plain tensors, so that what a run found
can be loaded again and used on other people, who may lack some of the genes.

Letters: S people, P numbers of a latent, d of a gene's vector, q components of the brain, e of a
gene, K pairs, G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurocli.systems.genes.closed_form import Components, GeneFit, pmi_vectors
from neurocli.systems.genes.joint import Joint

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
_BLOCK = 2048


@dataclass(frozen=True)
class GeneMaps:
    """Hold how one gene is scored.

    Args:
        mean: (d,) taken from its vectors.
        axes: (d, e).
        brain: (q, K), from the brain's scores to variates.
        gene: (e, K), from the gene's scores to variates.
        r: (K,) correlations by which pairs are scored.
        scale: Learned scale of cosines; 0 scores by mutual information.
        epoch: Epoch of training it is of.
    """

    mean: Float32
    axes: Float32
    brain: Float64
    gene: Float64
    r: Float64
    scale: float = 0.0
    epoch: int = 0

    @classmethod
    def of_fit(cls, fit: GeneFit) -> GeneMaps:
        """Return the maps of a closed form."""
        return cls(fit.components.mean, fit.components.axes, fit.brain, fit.gene, fit.weights)

    def variates(self, rows: Float32) -> Float64:
        """Return (S, K) of gene vectors (S, d)."""
        return (rows.astype(np.float64) - self.mean) @ self.axes.astype(np.float64) @ self.gene

    def vectors(self, u: Float64, v: Float64) -> tuple[Float64, Float64]:
        """Return vectors (S, F) whose inner products score the brain's and the gene's variates."""
        return (unit(u), unit(v)) if self.scale else pmi_vectors(u, v, self.r)


@dataclass(frozen=True)
class Solution:
    """Hold how all genes are scored, each and together.

    Args:
        names: Genes.
        mean: (P,) taken from latents.
        axes: (P, q).
        genes: One per name.
        joint: The set that is scored together by mutual information.
        side_by_side: Genes whose own vectors are laid side by side instead; empty for `joint`.
    """

    names: list[str]
    mean: Float32
    axes: Float32
    genes: list[GeneMaps]
    joint: Joint
    side_by_side: tuple[int, ...] = ()

    @cached_property
    def _axes(self) -> Float64:
        return self.axes.astype(np.float64)

    def scores(self, rows: Float32) -> Float64:
        """Return the brain's scores (S, q) of latents (S, P).

        In float64, so that ranks do not depend on how people are batched.
        """
        found = np.empty((len(rows), self.axes.shape[1]))
        for first in range(0, len(rows), _BLOCK):
            at = slice(first, first + _BLOCK)
            found[at] = (rows[at].astype(np.float64) - self.mean) @ self._axes
        return found

    @property
    def joined(self) -> list[int]:
        """Return the genes that the score of all takes in."""
        return list(self.side_by_side) or self.joint.genes

    def vectors(
        self, scores: Float64, rows: Mapping[int, Float32], present: npt.NDArray[np.bool_]
    ) -> tuple[Float64, Float64]:
        """Return vectors (S, F) whose inner products score people by all genes at once.

        Args:
            scores: (S, q) the brain's.
            rows: Gene -> (S, d) its vectors, at least of those in `joined`; of a single gene its.
            present: (S, G) who has which gene.
        """
        if len(self.genes) == 1:
            maps = self.genes[0]
            return maps.vectors(scores @ maps.brain, maps.variates(rows[0]))
        there = present[:, self.joined]
        if not self.side_by_side:
            v = self.joint.variates(rows)
            return self.joint.brain_vectors(scores), self.joint.gene_vectors(v, there)
        brain, gene = [], []
        for place, index in enumerate(self.side_by_side):
            maps = self.genes[index]
            left, right = maps.vectors(scores @ maps.brain, maps.variates(rows[index]))
            weight = np.sqrt(maps.scale or 1.0)  # both are logarithms of how likely a pair is
            brain.append(left * weight)
            gene.append(right * weight * there[:, [place]])
        return np.concatenate(brain, axis=1), np.concatenate(gene, axis=1)

    def with_maps(self, maps: Mapping[int, GeneMaps]) -> Solution:
        """Return the solution with other maps of some genes."""
        genes = [maps.get(index, own) for index, own in enumerate(self.genes)]
        return replace(self, genes=genes)

    def sizes(self) -> dict[str, Any]:
        """Return the shapes of `tensors` as plain values."""
        return {name: list(value.shape) for name, value in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as plain tensors by name."""
        found: dict[str, npt.NDArray[Any]] = {
            "brain.mean": self.mean,
            "brain.axes": self.axes,
            **{f"joint.{key}": getattr(self.joint, key) for key in _JOINT},
            "joint.side_by_side": np.array(self.side_by_side, dtype=np.int64),
        }
        for index, maps in enumerate(self.genes):
            own: dict[str, npt.NDArray[Any]] = {key: getattr(maps, key) for key in _MAPS}
            own |= {"scale": np.array(maps.scale), "epoch": np.array(maps.epoch)}
            found |= {f"genes.{index}.{name}": value for name, value in own.items()}
        return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}

    @classmethod
    def of_tensors(cls, names: Sequence[str], tensors: Mapping[str, Tensor]) -> Solution:
        """Return what `tensors` of a solution gave.

        Args:
            names: Its genes.
            tensors: By name.
        """
        plain = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        genes = []
        for index in range(len(names)):
            own = {key: plain[f"genes.{index}.{key}"] for key in _MAPS}
            scale, epoch = (plain[f"genes.{index}.{key}"].item() for key in ("scale", "epoch"))
            genes.append(GeneMaps(**own, scale=float(scale), epoch=int(epoch)))
        brain, own_side, mean, gene, r = (plain[f"joint.{key}"] for key in _JOINT)
        joint = Joint(brain, own_side, mean, gene, r)
        beside = tuple(plain["joint.side_by_side"].tolist())
        return cls(list(names), plain["brain.mean"], plain["brain.axes"], genes, joint, beside)


_MAPS = ("mean", "axes", "brain", "gene", "r")
_JOINT = ("brain", "own", "mean", "gene", "r")


def closed_solution(
    names: Sequence[str], components: Components, fits: Sequence[GeneFit], joint: Joint
) -> Solution:
    """Return the solution of a closed form.

    Args:
        names: Its genes.
        components: The brain's.
        fits: One per gene.
        joint: The set scored together.
    """
    genes = [GeneMaps.of_fit(fit) for fit in fits]
    return Solution(list(names), components.mean, components.axes, genes, joint)


def unit(x: Float64) -> Float64:
    """Return rows at length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
