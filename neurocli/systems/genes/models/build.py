"""From a configuration and what the data tell to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.systems.genes.config import (
    DESCRIBED_GENE_DIM,
    DESCRIBED_GENES,
    SOLUTION,
    GeneModelConfig,
    GenesTaskBlock,
)
from neurocli.systems.genes.cost import input_sizes
from neurocli.systems.genes.models.pair import CLIP_INIT, SIGLIP_INIT, Aligned, GenePair
from neurocli.systems.genes.models.sequence import GeneSequence
from neurocli.systems.genes.models.solved import SolvedGenes

__all__ = ["DESCRIBED_GENES", "DESCRIBED_GENE_DIM", "build"]


def build(config: RunConfig, info: Mapping[str, Any]) -> Aligned | SolvedGenes:
    """Build gene_pair or gene_sequence, or what holds the maps of genes that were solved.

    Args:
        config: The run's configuration.
        info: `neuro_input_dim`, `gene_input_dim` and `num_genes`; the described sizes if absent.
            `solution`, the shapes of its maps, of a run that solved its genes.

    Raises:
        UsageError: The heads do not divide the width.
    """
    if SOLUTION in info:
        return SolvedGenes(list(info["gene_names"]), info[SOLUTION])
    model = cast(GeneModelConfig, config.model)
    loss = cast(GenesTaskBlock, config.task).loss
    sizes = input_sizes(config, info)
    init = model.logit_scale_init
    options: dict[str, Any] = {
        "projection_dim": model.projection_dim,
        "hidden_dim": model.hidden_dim,
        "dropout": model.dropout,
        "logit_scale_init": (CLIP_INIT if loss == "clip" else SIGLIP_INIT)
        if init is None
        else init,
        "with_bias": loss == "siglip",
    }
    if model.name == "gene_pair":
        return GenePair(sizes.neuro, sizes.gene, **options)
    if model.transformer_hidden_dim % model.transformer_num_heads:
        raise UsageError(
            f"{model.transformer_num_heads} heads do not divide {model.transformer_hidden_dim}",
            where="model.transformer_num_heads",
            hint="choose a divisor of the width",
        )
    options["hidden_dim"] = None  # the brain's encoder of the described sequence model is linear
    return GeneSequence(sizes.neuro, sizes.gene, sizes.n_genes, model, **options)
