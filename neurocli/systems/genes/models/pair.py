"""Two encoders into one space: a brain latent and the vector of one gene, or of all genes.

Inputs are z-scored with the training part's mean and deviation, which travel with the weights.

Letters: B people, P numbers of a latent, G genes, d numbers of a gene's vector, E common space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.systems.genes.models.dropout import SampleDropout

CLIP_INIT, SIGLIP_INIT, SIGLIP_BIAS = 2.6592, math.log(10.0), -10.0
_MIN_STD = 1e-6


class Projection(nn.Module):
    """Map vectors to the common space: linear, or linear, norm, GELU, dropout, linear.

    Args:
        n_in: Width of the input.
        n_out: Width of the output.
        n_hidden: Width between; None is one linear layer.
        dropout: Of the hidden layer.
        layer: Number of its dropout layer.
    """

    def __init__(
        self, n_in: int, n_out: int, *, n_hidden: int | None, dropout: float, layer: int
    ) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_hidden or n_out)
        self.norm = nn.LayerNorm(n_hidden) if n_hidden else None
        self.dropout = SampleDropout(dropout, layer)
        self.last = nn.Linear(n_hidden, n_out) if n_hidden else None

    def forward(self, x: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return (B, n_out) of x (B, n_in)."""
        x = self.first(x)
        if self.norm is None or self.last is None:
            return x
        out: Tensor = self.last(self.dropout(F.gelu(self.norm(x)), draws))
        return out


class Aligned(nn.Module):
    """Share what both models have: the brain's encoder, standardising, the scale.

    Args:
        neuro_input_dim: P.
        gene_input_dim: d.
        num_genes: G.
        projection_dim: E.
        hidden_dim: Width of two-layer encoders; None is linear.
        dropout: Of two-layer encoders.
        logit_scale_init: Log of the first scale.
        with_bias: Whether logits have a learned bias, as SigLIP's.
    """

    neuro_mean: Tensor
    neuro_std: Tensor
    gene_mean: Tensor
    gene_std: Tensor

    def __init__(
        self,
        neuro_input_dim: int,
        gene_input_dim: int,
        num_genes: int = 1,
        *,
        projection_dim: int = 512,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
        logit_scale_init: float = CLIP_INIT,
        with_bias: bool = False,
    ) -> None:
        super().__init__()
        self.neuro_input_dim, self.gene_input_dim = neuro_input_dim, gene_input_dim
        self.num_genes = num_genes
        self.neuro_projection = Projection(
            neuro_input_dim, projection_dim, n_hidden=hidden_dim, dropout=dropout, layer=0
        )
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale_init)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGLIP_BIAS)) if with_bias else None
        self.register_buffer("neuro_mean", torch.zeros(neuro_input_dim))
        self.register_buffer("neuro_std", torch.ones(neuro_input_dim))
        self.register_buffer("gene_mean", torch.zeros(num_genes, gene_input_dim))
        self.register_buffer("gene_std", torch.ones(num_genes, gene_input_dim))

    def set_standard(self, **values: npt.NDArray[Any]) -> None:
        """Take means and deviations of the training part by buffer name."""
        for name, value in values.items():
            floor = _MIN_STD if name.endswith("std") else -np.inf
            self.get_buffer(name).copy_(torch.from_numpy(np.maximum(value, floor)))

    def encode_neuro(self, neuro: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return unit vectors (B, E) of latents (B, P); further axes are flattened."""
        flat = (neuro.flatten(1) - self.neuro_mean) / self.neuro_std
        return _unit(self.neuro_projection(flat, draws))

    def encode_gene(
        self, genes: Tensor, present: Tensor | None = None, draws: Tensor | None = None
    ) -> Tensor:
        """Return unit vectors (B, E) of gene vectors (B, G, d), or (B, d) of one gene.

        Args:
            genes: The vectors.
            present: (B, G) which genes a person has; None for all.
            draws: (B,) seeds of dropout; None draws from torch's generator.
        """
        if genes.ndim == 2:
            genes = genes.unsqueeze(1)
        return _unit(self.gene_features((genes - self.gene_mean) / self.gene_std, present, draws))

    def gene_features(self, genes: Tensor, present: Tensor | None, draws: Tensor | None) -> Tensor:
        """Return (B, E) of z-scored vectors (B, G, d), not yet of length 1.

        Raises:
            NotImplementedError: A subclass says how.
        """
        raise NotImplementedError

    def forward(
        self,
        neuro: Tensor,
        genes: Tensor | None = None,
        present: Tensor | None = None,
        draws: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return both unit vectors (B, E).

        Args:
            neuro: (B, P) latents; without `genes` the gene vectors follow in the same row.
            genes: (B, G, d).
            present: (B, G).
            draws: (B,).
        """
        if genes is None:
            row = neuro.flatten(1)
            neuro, genes = row[:, : self.neuro_input_dim], row[:, self.neuro_input_dim :]
            genes = genes.reshape(len(row), self.num_genes, self.gene_input_dim)
        return self.encode_neuro(neuro, draws), self.encode_gene(genes, present, draws)

    def get_similarity_matrix(self, neuro: Tensor, genes: Tensor) -> Tensor:
        """Return (B, B) cosines of latents with gene vectors, times the scale."""
        u, v = self.forward(neuro, genes)
        return self.logit_scale.exp() * u @ v.T

    def save_embeddings(
        self, loader: Iterable[Any], device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Return the vectors of everybody a loader gives, and their ids.

        Args:
            loader: Yields mappings with `neuro_embedding`, `gene_sequence` and `iid` or
                `participant`.
            device: Where to compute; the model is moved there.
        """
        self.to(device).eval()
        first, second, ids = [], [], []
        with torch.no_grad():
            for batch in loader:
                present = batch.get("present")
                u, v = self.forward(
                    batch["neuro_embedding"].to(device),
                    batch["gene_sequence"].to(device),
                    None if present is None else present.to(device),
                )
                first.append(u.cpu())
                second.append(v.cpu())
                ids += [str(owner) for owner in batch.get("iid", batch.get("participant"))]
        return torch.cat(first), torch.cat(second), ids


def _unit(x: Tensor) -> Tensor:
    # In full precision also under autocast: cosines feed logits that are a hundred times as large.
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


class GenePair(Aligned):
    """Align latents with the vectors of one gene: (3, 15, 18, 15) and 256 numbers as described."""

    def __init__(self, neuro_input_dim: int, gene_input_dim: int, **options: Any) -> None:
        super().__init__(neuro_input_dim, gene_input_dim, 1, **options)
        self.gene_projection = Projection(
            gene_input_dim,
            self.neuro_projection.first.out_features
            if self.neuro_projection.last is None
            else self.neuro_projection.last.out_features,
            n_hidden=options.get("hidden_dim"),
            dropout=options.get("dropout", 0.1),
            layer=1,
        )

    def gene_features(self, genes: Tensor, present: Tensor | None, draws: Tensor | None) -> Tensor:
        """Return (B, E) of z-scored vectors (B, 1, d)."""
        out: Tensor = self.gene_projection(genes[:, 0], draws)
        return out
