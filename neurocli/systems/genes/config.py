"""Config blocks of the genes room: how sources are packed, paired, modelled and judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from neurocli.core.config.base import Block, IntTuple, TextTuple, as_texts
from neurocli.core.config.run import DataBlock, ModelBlock, TaskBlock

# Of the described study; used when no data say otherwise.
DESCRIBED_LATENT = (3, 15, 18, 15)
DESCRIBED_GENES = 111
DESCRIBED_GENE_DIM = 256
# Key of what a checkpoint knows of its data: the shapes of the maps of genes that were solved.
SOLUTION = "solution"


class LatentsOptions(Block):
    """Say how latents and gene tables are read and packed."""

    latent_pattern: str = Field("{iid}_latent.npz", description="file name of a latent")
    npz_key: str | None = Field(None, description="array in an .npz; null takes a plausible one")
    latent_shape: IntTuple | None = Field(None, description="refuse latents of another size")
    iid_column: str = Field("IID", description="column of ids in a gene table")
    gene_dim: int | None = Field(None, ge=1, description="refuse tables of another width")
    nonfinite: Literal["error", "drop", "zero"] = Field("error", description="NaN and Inf")
    duplicates: Literal["error", "first", "mean"] = Field(
        "error", description="people with several, different rows in a gene table"
    )
    cohort: Literal["small", "ukb"] = Field("small", description="size of the built-in cohort")
    n_people: int | None = Field(None, ge=20, description="of the built-in cohort")
    n_genes: int | None = Field(None, ge=1, description="of the built-in cohort")
    n_classes: int = Field(0, ge=0, description="distinct vectors of the built-in first gene")
    missing: float = Field(0.0, ge=0, lt=1, description="share of absent built-in vectors")
    ancestry: float = Field(0.0, ge=0, description="built-in confounder of brain and all genes")
    twins: float = Field(0.0, ge=0, le=1, description="share of built-in people with a twin")
    bends: bool = Field(False, description="pass the built-in brain through tanh")
    raw_files: bool = Field(False, description="also write the built-in cohort as raw files")
    seed: int | None = Field(None, ge=0, description="of the built-in cohort; null is its own")


class GenesDataBlock(DataBlock):
    """Say which people and which genes a model sees."""

    batch_size: int = Field(128, ge=1)
    eval_batch_size: int = Field(128, ge=1)
    genes: str | None = Field(None, description="gene table or folder; null looks in data.path")
    gene: str | None = Field(None, description="the gene of gene_pair; null takes the only one")
    gene_subset: TextTuple = Field((), description="names or patterns for gene_sequence; () is all")
    latent_pattern: str = Field("{iid}_latent.npz", description="file name of a latent")
    npz_key: str | None = Field(None, description="array in an .npz; null takes a plausible one")
    iid_column: str = Field("IID", description="column of ids in a gene table")
    gene_dim: int | None = Field(None, ge=1, description="refuse tables of another width")
    iid_match: Literal["auto", "exact", "numeric"] = Field("auto", description="how ids agree")
    nonfinite: Literal["error", "drop", "zero"] = Field("error", description="NaN and Inf")
    duplicates: Literal["error", "first", "mean"] = Field("error", description="differing rows")
    missing_genes: Literal["mask", "drop", "mean"] = Field(
        "mask", description="people without some gene: hide it, leave them out, or fill the mean"
    )
    min_gene_coverage: float = Field(0.9, ge=0, le=1, description="share of genes a person needs")
    val_share: float = Field(0.15, gt=0, lt=1, description="of people, without a split")
    test_share: float = Field(0.15, gt=0, lt=1, description="of people, without a split")
    group: str | None = Field(None, description="table of families that stay together")
    exclude: str | None = Field(None, description="file of ids to leave out, one a line")
    covariates: TextTuple = Field((), description="columns to take out, fitted on training people")
    standardize: bool = Field(True, description="z-score inputs by the training part")
    cohort: Literal["small", "ukb"] = Field("small", description="built-in cohort without a path")


class GenesTaskBlock(TaskBlock):
    """Say what is learned from the pairs."""

    loss: Literal["clip", "siglip"] = Field("clip", description="contrastive loss")
    multi_positive: Literal["auto", "on", "off"] = Field(
        "auto", description="equal gene vectors belong together; auto: when there are any"
    )
    logit_scale_max: float = Field(100.0, gt=1, description="cap of the learned scale")
    micro_batch: int | None = Field(
        None, ge=1, description="people encoded at once; the gradient is the whole batch's"
    )
    tile: int | None = Field(
        None, ge=1, description="side of the tiles of the loss; null tiles batches above 2048"
    )
    best_metric: Literal["percentile", "loss", "mrr", "r_at_1"] = "percentile"
    permutations: int = Field(1000, ge=0, description="random pairings for p_permutation")
    warm_start: bool = Field(False, description="start linear encoders from the closed form")
    screen_p: float = Field(
        0.002, gt=0, le=1, description="sweep: p on validation people above which a gene is dropped"
    )
    patience: int = Field(3, ge=1, description="sweep: epochs a gene may stand still")
    sweep_width: int = Field(16, ge=1, description="sweep: width of each gene's common space")
    pca: int | None = Field(None, ge=1, description="of rcca: components; null finds them")
    ridge: float | None = Field(None, ge=0, le=1, description="of rcca; null chooses by folds")
    refit: bool = Field(
        True, description="solve once more with validation people, when all is chosen"
    )
    hard_gallery: Annotated[tuple[str, ...], BeforeValidator(as_texts)] = Field(
        (), description="columns in which candidates must agree, such as sex,site"
    )


class GeneModelConfig(ModelBlock):
    """Size the two encoders; `transformer_*` and what follows are of gene_sequence alone."""

    projection_dim: int = Field(512, ge=1, description="width of the common space")
    hidden_dim: int | None = Field(None, ge=1, description="of two-layer encoders; null is linear")
    dropout: float = Field(0.1, ge=0, lt=1)
    logit_scale_init: float | None = Field(
        None, description="log of the first scale; null is 2.6592 for clip, ln 10 for siglip"
    )
    transformer_hidden_dim: int = Field(512, ge=1)
    transformer_num_layers: int = Field(4, ge=1)
    transformer_num_heads: int = Field(8, ge=1)
    transformer_ff_dim: int = Field(1024, ge=1)
    transformer_dropout: float = Field(0.1, ge=0, lt=1)
    transformer_norm: Literal["post", "pre"] = "post"
    pooling: Literal["mean", "max", "cls"] = Field("mean", description="tokens to one vector")
    pos_encoding: Literal["learned", "sinusoidal", "none"] = "learned"
    gene_input: Literal["shared", "per-gene"] = Field("shared", description="input layer of genes")
    gene_tower: Literal["transformer", "linear-sum"] = Field(
        "transformer", description="linear-sum adds one linear map per gene"
    )
