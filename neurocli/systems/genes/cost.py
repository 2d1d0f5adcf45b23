"""The cost of the gene models in closed form: learned numbers and operations; no torch.

Two operations per multiply-add of matrix products; element-wise work is not counted.

Letters: P latent, d gene vector, G genes, E common space, h width of a token, f feed-forward
width, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.systems.genes.config import (
    DESCRIBED_GENE_DIM,
    DESCRIBED_GENES,
    DESCRIBED_LATENT,
    SOLUTION,
    GeneModelConfig,
    GenesTaskBlock,
)


@dataclass(frozen=True)
class InputSizes:
    """Hold P, d and G."""

    neuro: int
    gene: int
    n_genes: int


def input_sizes(config: RunConfig, info: Mapping[str, Any]) -> InputSizes:
    """Return the sizes of a model's inputs.

    Args:
        config: Configuration of a model of this room.
        info: What the data tell; without it the described sizes.
    """
    is_pair = config.model.name == "gene_pair"
    return InputSizes(
        int(info.get("neuro_input_dim", prod(DESCRIBED_LATENT))),
        int(info.get("gene_input_dim", DESCRIBED_GENE_DIM)),
        1 if is_pair else int(info.get("num_genes", DESCRIBED_GENES)),
    )


def default_info(config: RunConfig, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return what building the model must know when no data are opened.

    Args:
        config: Configuration of a model of this room.
        input_shape: P, G and d; None takes the described sizes.

    Returns:
        With `img_size`, the length of a latent with the gene vectors behind it.

    Raises:
        UsageError: `input_shape` has not three sizes >= 1.
    """
    sizes = input_sizes(config, {})
    if input_shape is not None:
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise UsageError(
                f"'{','.join(map(str, input_shape))}' is no size of latents and genes",
                where="--input-shape",
                hint="give P,G,d: numbers of a latent, genes, numbers of a gene's vector",
            )
        neuro, n_genes, gene = (int(size) for size in input_shape)
        sizes = InputSizes(neuro, gene, 1 if config.model.name == "gene_pair" else n_genes)
    return {
        "neuro_input_dim": sizes.neuro,
        "gene_input_dim": sizes.gene,
        "num_genes": sizes.n_genes,
        "img_size": [sizes.neuro + sizes.n_genes * sizes.gene],
    }


def input_shape(config: RunConfig, info: Mapping[str, Any]) -> tuple[int]:
    """Return the length of a latent with the gene vectors behind it."""
    sizes = input_sizes(config, info)
    return (sizes.neuro + sizes.n_genes * sizes.gene,)


def count_parameters(config: RunConfig, info: Mapping[str, Any]) -> int:
    """Return how many numbers a model learns.

    The brain (P+1)E, the scale 1 and a bias of SigLIP; a pair adds (d+1)E. A sequence adds
    (d+1)h, G h positions, L(4h(h+1) + 2hf + f + h + 4h) and (h+1)E. Of solved genes it is all
    that was fitted.

    Args:
        config: Configuration of a model of this room.
        info: What the data tell.
    """
    if SOLUTION in info:
        return sum(prod(shape) for shape in info[SOLUTION].values())
    model, sizes = cast(GeneModelConfig, config.model), input_sizes(config, info)
    out = model.projection_dim
    scale = 1 + (cast(GenesTaskBlock, config.task).loss == "siglip")
    if model.name == "gene_pair":
        both = (_projection(size, model.hidden_dim, out) for size in (sizes.neuro, sizes.gene))
        return sum(both) + scale
    return _projection(sizes.neuro, None, out) + _sequence(model, sizes) + scale


def _projection(n_in: int, n_hidden: int | None, n_out: int) -> int:
    if n_hidden is None:
        return (n_in + 1) * n_out
    return (n_in + 1) * n_hidden + 2 * n_hidden + (n_hidden + 1) * n_out


def _sequence(model: GeneModelConfig, sizes: InputSizes) -> int:
    width, inner, out = (
        model.transformer_hidden_dim,
        model.transformer_ff_dim,
        model.projection_dim,
    )
    if model.gene_tower == "linear-sum":
        return sizes.n_genes * (sizes.gene + 1) * out
    layer = 4 * width * (width + 1) + 2 * width * inner + inner + width + 4 * width
    n_inputs = sizes.n_genes if model.gene_input == "per-gene" else 1
    total = n_inputs * (sizes.gene + 1) * width + (width + 1) * out
    total += sizes.n_genes * width if model.pos_encoding == "learned" else 0
    total += width if model.pooling == "cls" else 0
    total += 2 * width if model.transformer_norm == "pre" else 0
    return total + model.transformer_num_layers * layer


def clip_cost(config: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one person costs, forward and in a training step.

    Args:
        config: Configuration of a model of this room.
        info: What the data tell.

    Returns:
        params, macs, flops, flops_train_step, tokens, tokens_total, input_shape, components.
    """
    model, sizes = cast(GeneModelConfig, config.model), input_sizes(config, info)
    if SOLUTION in info:
        return _solved_cost(config, info)
    hidden, out = model.hidden_dim, model.projection_dim
    is_pair = model.name == "gene_pair"
    components = {"brain": _dense(sizes.neuro, hidden if is_pair else None, out)}
    tokens = 1
    if is_pair:
        components["gene"] = _dense(sizes.gene, hidden, out)
    elif model.gene_tower == "linear-sum":
        components["genes"] = 2 * sizes.n_genes * sizes.gene * out
        tokens = sizes.n_genes
    else:
        width, inner = model.transformer_hidden_dim, model.transformer_ff_dim
        tokens = sizes.n_genes + (model.pooling == "cls")
        layers = model.transformer_num_layers
        components["input"] = 2 * sizes.n_genes * sizes.gene * width
        components["attention"] = layers * (8 * tokens * width**2 + 4 * tokens**2 * width)
        components["feed_forward"] = layers * 4 * tokens * width * inner
        components["output"] = 2 * width * out
    forward = sum(components.values())
    read = _first_layers(components, model, sizes)
    shape = [sizes.neuro + sizes.n_genes * sizes.gene]
    return {
        "params": count_parameters(config, info),
        "macs": forward // 2,
        "flops": forward,
        "flops_train_step": 3 * forward - read,
        "tokens": tokens,
        "tokens_total": tokens,
        "input_shape": shape,
        "components": components,
    }


def _solved_cost(config: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what scoring one person by solved genes costs: each map once; they take no steps."""
    sizes = input_sizes(config, info)
    maps = {name: shape for name, shape in info[SOLUTION].items() if len(shape) == 2}
    components = {"brain": 2 * prod(maps.pop("brain.axes"))}
    components["joint"] = sum(2 * prod(maps.pop(f"joint.{side}")) for side in ("brain", "own"))
    components["genes"] = sum(2 * prod(shape) for name, shape in maps.items() if "genes." in name)
    forward = sum(components.values())
    return {
        "params": count_parameters(config, info),
        "macs": forward // 2,
        "flops": forward,
        "flops_train_step": 0,
        "tokens": 1,
        "tokens_total": 1,
        "input_shape": [sizes.neuro + sizes.n_genes * sizes.gene],
        "components": components,
    }


def _first_layers(components: Mapping[str, int], model: GeneModelConfig, sizes: InputSizes) -> int:
    """Return the operations that read the inputs; nobody needs gradients to those."""
    if model.name == "gene_pair":
        return 2 * (sizes.neuro + sizes.gene) * (model.hidden_dim or model.projection_dim)
    return components["brain"] + components.get("genes", components.get("input", 0))


def _dense(n_in: int, n_hidden: int | None, n_out: int) -> int:
    return 2 * n_in * n_out if n_hidden is None else 2 * n_in * n_hidden + 2 * n_hidden * n_out
