"""A transformer over genes: one token per gene, pooled to one vector of a person.

The order of genes has no meaning, so the position code is an identity per gene. A person without
some gene has that token hidden from attention and pooling.

Letters: B people, G genes (plus one for a class token), d numbers of a gene's vector, h width of
a token, H heads, E common space.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.systems.genes.config import GeneModelConfig
from neurocli.systems.genes.models.dropout import SampleDropout
from neurocli.systems.genes.models.pair import Aligned

_PER_LAYER = 4  # dropouts in a layer
_FIRST = 10  # number of the first layer's first dropout


class Layer(nn.Module):
    """Attend over genes, then transform each: one encoder layer that can show its attention.

    Args:
        config: Width, heads, feed-forward width, dropout, and whether norms come first.
        index: Number of the layer.
    """

    def __init__(self, config: GeneModelConfig, index: int) -> None:
        super().__init__()
        width, p = config.transformer_hidden_dim, config.transformer_dropout
        self.n_heads, self.is_pre = config.transformer_num_heads, config.transformer_norm == "pre"
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.linear1 = nn.Linear(width, config.transformer_ff_dim)
        self.linear2 = nn.Linear(config.transformer_ff_dim, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        first = _FIRST + _PER_LAYER * index
        self.drops = nn.ModuleList(SampleDropout(p, first + i) for i in range(_PER_LAYER))

    def attend(
        self, x: Tensor, hidden: Tensor | None, draws: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the attended tokens (B, G, h) and the weights (B, H, G, G); rows sum to 1."""
        batch, n, width = x.shape
        q, k, v = (
            part.reshape(batch, n, self.n_heads, -1).transpose(1, 2)
            for part in self.in_proj(x).chunk(3, dim=-1)
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None, :], -math.inf)
        weights = scores.softmax(-1)
        mixed = self.drops[0](weights, draws) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, n, width)), weights

    def forward(
        self, x: Tensor, hidden: Tensor | None = None, draws: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return tokens (B, G, h) and attention weights (B, H, G, G).

        Args:
            x: Tokens.
            hidden: (B, G) tokens that nobody attends to; None for none.
            draws: (B,) seeds of dropout.
        """
        mixed, weights = self.attend(self.norm1(x) if self.is_pre else x, hidden, draws)
        x = x + self.drops[1](mixed, draws)
        x = x if self.is_pre else self.norm1(x)
        inner = self.linear1(self.norm2(x) if self.is_pre else x)
        x = x + self.drops[3](self.linear2(self.drops[2](F.gelu(inner), draws)), draws)
        return (x if self.is_pre else self.norm2(x)), weights


class GeneSequence(Aligned):
    """Align latents with the vectors of many genes.

    Args:
        neuro_input_dim: P.
        gene_input_dim: d.
        num_genes: G.
        config: Sizes of the gene encoder.
        **options: See `Aligned`.
    """

    def __init__(
        self,
        neuro_input_dim: int,
        gene_input_dim: int,
        num_genes: int,
        config: GeneModelConfig,
        **options: Any,
    ) -> None:
        super().__init__(neuro_input_dim, gene_input_dim, num_genes, **options)
        self.config = config
        width, out = config.transformer_hidden_dim, config.projection_dim
        is_sum = config.gene_tower == "linear-sum"
        n_out = out if is_sum else width
        if is_sum or config.gene_input == "per-gene":
            self.input_weight = nn.Parameter(torch.empty(num_genes, gene_input_dim, n_out))
            self.input_bias = nn.Parameter(torch.zeros(num_genes, n_out))
            nn.init.uniform_(self.input_weight, -1, 1)
            with torch.no_grad():
                self.input_weight.mul_(gene_input_dim**-0.5)
        else:
            self.input_projection = nn.Linear(gene_input_dim, width)
        if is_sum:
            return
        if config.pos_encoding == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn(num_genes, width))
        elif config.pos_encoding == "sinusoidal":
            self.register_buffer("positions", sinusoids(num_genes, width), persistent=False)
        if config.pooling == "cls":
            self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        layers = range(config.transformer_num_layers)
        self.layers = nn.ModuleList(Layer(config, index) for index in layers)
        self.last_norm = nn.LayerNorm(width) if config.transformer_norm == "pre" else None
        self.output_projection = nn.Linear(width, out)

    def gene_features(self, genes: Tensor, present: Tensor | None, draws: Tensor | None) -> Tensor:
        """Return (B, E) of z-scored vectors (B, G, d)."""
        if self.config.gene_tower == "linear-sum":
            own = torch.einsum("bgd,gde->bge", genes, self.input_weight) + self.input_bias
            if present is not None:
                own = own * present.unsqueeze(-1)
            return own.sum(1)
        tokens, hidden = self._tokens(genes, present)
        for layer in self.layers:
            tokens, _ = layer(tokens, hidden, draws)
        if self.last_norm is not None:
            tokens = self.last_norm(tokens)
        out: Tensor = self.output_projection(self._pool(tokens, hidden))
        return out

    def attention(self, genes: Tensor, present: Tensor | None = None) -> Tensor:
        """Return attention weights (layers, B, H, G, G) of raw vectors (B, G, d).

        With a class token it is the first of G + 1. The model should be in evaluation mode.
        """
        tokens, hidden = self._tokens((genes - self.gene_mean) / self.gene_std, present)
        found = []
        for layer in self.layers:
            tokens, weights = layer(tokens, hidden)
            found.append(weights)
        return torch.stack(found)

    def _tokens(self, genes: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.config.gene_input == "per-gene":
            tokens = torch.einsum("bgd,gdh->bgh", genes, self.input_weight) + self.input_bias
        else:
            tokens = self.input_projection(genes)
        if self.config.pos_encoding != "none":
            tokens = tokens + self.positions
        hidden = None if present is None else ~present
        if self.config.pooling == "cls":
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
            if hidden is not None:
                hidden = F.pad(hidden, (1, 0), value=False)
        return tokens, hidden

    def _pool(self, tokens: Tensor, hidden: Tensor | None) -> Tensor:
        if self.config.pooling == "cls":
            return tokens[:, 0]
        if self.config.pooling == "max":
            if hidden is not None:
                tokens = tokens.masked_fill(hidden.unsqueeze(-1), -math.inf)
            return tokens.amax(1)
        if hidden is None:
            return tokens.mean(1)
        shown = (~hidden).unsqueeze(-1).to(tokens.dtype)
        return (tokens * shown).sum(1) / shown.sum(1)


def sinusoids(n: int, width: int) -> Tensor:
    """Return fixed position codes (n, width): sines and cosines of falling frequency."""
    places = torch.arange(n).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    codes = torch.zeros(n, width)
    codes[:, 0::2] = torch.sin(places * rates)
    codes[:, 1::2] = torch.cos(places * rates[: width // 2])
    return codes
