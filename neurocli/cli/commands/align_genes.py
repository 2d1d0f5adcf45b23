"""`neuro align-genes`: brain latents and gene tables in; retrieval metrics out, later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.page import RUN_PANEL, add_verb, new_group

_WHAT, _HOW, _FIT, _RUN = "Data", "Alignment", "Optimisation", RUN_PANEL

app = new_group()


@add_verb(
    app,
    "align-genes",
    """
neuro align-genes --latents latents --genes APOE.csv -o apoe
neuro align-genes --latents latents --genes genes --mode sweep
neuro align-genes --mode sequence --gene-input per-gene --loss siglip
""",
)
def align_genes(
    latents: Annotated[
        Path | None, value("DIR", "Brain latents; a cohort of known truth if not given.", _WHAT)
    ] = None,
    genes: Annotated[Path | None, value("PATH", "A gene table or a folder.", _WHAT)] = None,
    group: Annotated[Path | None, value("FILE", "Families that stay together.", _WHAT)] = None,
    covariates: Annotated[str | None, value("A,B", "Columns to take out.", _WHAT)] = None,
    mode: Annotated[str, value("single|sequence|sweep", "One gene, all, each.", _HOW)] = "single",
    gene: Annotated[str | None, value("NAME", "Which gene, such as APOE.", _HOW)] = None,
    method: Annotated[
        str, value("METHOD", "contrastive, rcca or rcca+contrastive.", _HOW)
    ] = "contrastive",
    pooling: Annotated[str, value("mean|max|cls", "Tokens to one vector.", _HOW)] = "mean",
    gene_input: Annotated[
        str, value("shared|per-gene", "Input layer of the genes.", _HOW)
    ] = "shared",
    loss: Annotated[str, value("clip|siglip", "Contrastive loss.", _HOW)] = "clip",
    projection_dim: Annotated[int, value("N", "Common space.", _HOW)] = 512,
    hidden_dim: Annotated[int | None, value("N", "Hidden layer.", _HOW)] = None,
    permutations: Annotated[int, value("N", "For p values.", _HOW)] = 1000,
    batch_size: Annotated[int | None, value("N", "Pairs per batch.", _FIT)] = None,
    epochs: Annotated[int | None, value("N", "Passes.", _FIT)] = None,
    lr: Annotated[float | None, value("X", "Peak learning rate.", _FIT)] = None,
    accumulate: Annotated[int | None, value("N", "Batches per step, exact.", _FIT)] = None,
    settings: options.Settings = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: Annotated[Path | None, value("DIR", "Run folder.", _RUN, "--out", "-o")] = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Align brain latents with gene embeddings (not yet).

    NOT IN THIS VERSION: the command says so and ends with exit code 1. The options below are
    those it will take.
    """
    # No option is read: what they mean is settled when the room is built.
    from neurocli import align_genes as run

    run()
