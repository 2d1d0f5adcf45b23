"""`neuro align-genes`: brain latents and gene tables in; retrieval among test people out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.text import cell_text
from neurocli.cli.views import command_line, facts, plan_view

if TYPE_CHECKING:
    from neurocli.systems.genes.result import AlignResult

_WHAT, _HOW, _FIT, _RUN = "Data", "Alignment", "Optimisation", RUN_PANEL
_SHOWN_GENES = 20

app = new_group()


@add_verb(
    app,
    "align-genes",
    """
neuro align-genes
neuro align-genes --mode sweep
neuro align-genes --latents latents --genes APOE.csv -o apoe
neuro align-genes --latents latents --genes genes --gene APOE --method rcca
neuro align-genes --latents latents --genes genes --covariates age,sex
neuro align-genes --mode sequence --gene-input per-gene --loss siglip
""",
)
def align_genes(
    latents: Annotated[
        Path | None,
        value("DIR", "Brain latents, raw or packed; a cohort of known truth if not given.", _WHAT),
    ] = None,
    genes: Annotated[
        Path | None,
        value("PATH", "A gene table or a folder of them.", _WHAT),
    ] = None,
    split: Annotated[
        Path | None, value("FILE", "Split file; by a hash of seed and id if not given.", _WHAT)
    ] = None,
    group: Annotated[Path | None, value("FILE", "Families that stay together.", _WHAT)] = None,
    covariates: Annotated[str | None, value("A,B", "Columns to take out.", _WHAT)] = None,
    mode: Annotated[str, value("single|sequence|sweep", "One gene, all, each.", _HOW)] = "single",
    gene: Annotated[
        str | None,
        value("NAME", "Which gene, such as APOE.", _HOW),
    ] = None,
    method: Annotated[
        str | None,
        value("METHOD", "contrastive, rcca (of a sweep the default) or rcca+contrastive.", _HOW),
    ] = None,
    pooling: Annotated[
        str | None,
        value("mean|max|cls", "Tokens to one vector.", _HOW),
    ] = None,
    gene_input: Annotated[
        str | None, value("shared|per-gene", "Input layer of the genes.", _HOW)
    ] = None,
    loss: Annotated[str | None, value("clip|siglip", "Contrastive loss.", _HOW)] = None,
    projection_dim: Annotated[int | None, value("N", "Common space, 512.", _HOW)] = None,
    hidden_dim: Annotated[int | None, value("N", "Hidden layer of encoders.", _HOW)] = None,
    permutations: Annotated[int | None, value("N", "For p values, 1000.", _HOW)] = None,
    batch_size: Annotated[int | None, value("N", "Pairs per batch.", _FIT)] = None,
    epochs: Annotated[int | None, value("N", "Passes.", _FIT)] = None,
    lr: Annotated[float | None, value("X", "Peak learning rate.", _FIT)] = None,
    accumulate: Annotated[
        int | None,
        value(
            "N",
            "Batches per step, exact: every pair is told from all others of the step.",
            _FIT,
        ),
    ] = None,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: Annotated[Path | None, value("DIR", "Run folder.", _RUN, "--out", "-o")] = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    brain_latent_dir: Annotated[Path | None, options.older("DIR")] = None,
    gene_embedding_path: Annotated[Path | None, options.older("FILE")] = None,
    gene_embedding_dir: Annotated[Path | None, options.older("DIR")] = None,
    single_gene_name: Annotated[str | None, options.older("NAME")] = None,
    transformer_pooling: Annotated[str | None, options.older("mean|max|cls")] = None,
    num_epochs: Annotated[int | None, options.older("N")] = None,
    learning_rate: Annotated[float | None, options.older("X")] = None,
    gradient_accumulation_steps: Annotated[int | None, options.older("N")] = None,
    output_dir: Annotated[Path | None, options.older("DIR")] = None,
    iid_column: Annotated[str | None, options.older("TEXT")] = None,
    gene_embedding_dim: Annotated[int | None, options.older("N")] = None,
    dropout: Annotated[float | None, options.older("X")] = None,
    transformer_hidden_dim: Annotated[int | None, options.older("N")] = None,
    transformer_num_layers: Annotated[int | None, options.older("N")] = None,
    transformer_num_heads: Annotated[int | None, options.older("N")] = None,
    transformer_ff_dim: Annotated[int | None, options.older("N")] = None,
    transformer_dropout: Annotated[float | None, options.older("X")] = None,
    weight_decay: Annotated[float | None, options.older("X")] = None,
    val_split: Annotated[float | None, options.older("X")] = None,
    num_workers: Annotated[int | None, options.older("N")] = None,
) -> int:
    """Align brain latents with gene embeddings.

    Every test person's own gene is looked for among all test people, both ways, and the result
    stands beside chance, the closed form and, for the built-in cohort, the optimum. A sweep
    scores every gene in one run and writes genes.csv with p and q values.
    """
    from neurocli import align_genes as run

    older = {
        "data.iid_column": iid_column,
        "data.gene_dim": gene_embedding_dim,
        "model.dropout": dropout,
        "model.transformer_hidden_dim": transformer_hidden_dim,
        "model.transformer_num_layers": transformer_num_layers,
        "model.transformer_num_heads": transformer_num_heads,
        "model.transformer_ff_dim": transformer_ff_dim,
        "model.transformer_dropout": transformer_dropout,
        "train.weight_decay": weight_decay,
        "data.val_share": val_split,
        "data.prefetch": num_workers,
    }
    extra = [f"{key}={setting}" for key, setting in older.items() if setting is not None]
    with progress() as listener:
        result = run(
            latents=latents or brain_latent_dir,
            genes=genes or gene_embedding_path or gene_embedding_dir,
            split=split,
            group=group,
            covariates=options.words(covariates) or None,
            mode=mode,
            gene=gene or single_gene_name,
            method=method,
            pooling=pooling or transformer_pooling,
            gene_input=gene_input,
            loss=loss,
            projection_dim=projection_dim,
            hidden_dim=hidden_dim,
            permutations=permutations,
            batch_size=batch_size,
            epochs=epochs if epochs is not None else num_epochs,
            lr=lr if lr is not None else learning_rate,
            accumulate=accumulate if accumulate is not None else gradient_accumulation_steps,
            preset=preset,
            config=config,
            set=[*extra, *(settings or ())],
            seed=seed,
            device=device,
            out=out or output_dir,
            force=force,
            dry_run=dry_run,
            listener=listener,
        )
    return _show(result)


def _show(result: AlignResult) -> int:
    output = sink()
    for note in result.notes:
        output.note(note)
    if result.plan is not None:
        values = {"run": result.run, "plan": result.plan, "notes": result.notes}
        output.show("align-genes", values, main=result.run, view=plan_view(result.plan))
        return output.left_out(result.left_out)
    output.show("align-genes", _values(result), main=result.run, view=_tables(result))
    output.hint(f"model: {result.checkpoint}; people: {result.run / 'ranks.csv'}")
    output.hint(command_line("neuro", "report", result.run, "-o", "report.html"))
    return output.left_out(result.left_out)


def _values(result: AlignResult) -> dict[str, Any]:
    from neurocli.systems.genes.result import result_values

    return {**result_values(result), "seconds": result.seconds}


def _tables(result: AlignResult) -> list[Table | str]:
    names = ["r_at_1", "r_at_5", "r_at_10", "median_rank", "mrr", "percentile"]
    others = [
        name for name in ("chance", "rcca", "covariates", "oracle") if name in result.baselines
    ]
    rows = []
    for name in names:
        share = result.share_of_optimum.get(name)
        bounds = result.ci95.get(name)
        rows.append(
            [
                name,
                result.metrics[name],
                None if bounds is None else f"{cell_text(bounds[0])} to {cell_text(bounds[1])}",
                *(result.baselines[other].get(name) for other in others),
                *([None if share is None else f"{share:.0%}"] if result.share_of_optimum else []),
            ]
        )
    what = "all genes at once" if result.mode != "single" else ", ".join(result.gene_names)
    last = ["of the optimum"] if result.share_of_optimum else []
    title = f"{what}: {result.part} part, n = {result.n} people, both ways"
    head = ["metric", result.model, "95 % interval", *others, *last]
    found: list[Table | str] = [Table(head, rows, title)]
    told = {name: result.metrics.get(name) for name in ("p_value", "p_permutation", "z")}
    told |= {name: result.metrics.get(name) for name in ("chance_r_at_1", "ceiling_r_at_1")}
    found.append(facts([*told.items(), ("CPU seconds", round(result.seconds, 1))]))
    found += _against_the_floor(result)
    if result.genes:
        columns = ["gene", "n", "percentile", "z", "p", "q", "share_of_oracle"]
        columns = [name for name in columns if name in result.genes[0]]
        shown = [[row[name] for name in columns] for row in result.genes[:_SHOWN_GENES]]
        title = f"{len(result.found)} of {len(result.genes)} genes found at q < 0.05"
        found.append(Table(columns, shown, title))
    return found


def _against_the_floor(result: AlignResult) -> list[Table | str]:
    """Return how much more is found than by the floors, person by person."""
    rows: list[list[Any]] = []
    for name, measures in result.details.get("differences", {}).items():
        for measure, gain in measures.items():
            bounds = (gain["low"], gain["high"])
            known = None not in bounds
            interval = f"{cell_text(bounds[0])} to {cell_text(bounds[1])}" if known else None
            rows.append([f"{measure} minus {name}", gain["mean"], interval, gain["verdict"]])
    title = "against the floors, the same people"
    return [Table(["difference", "mean", "95 % interval", ""], rows, title)] if rows else []
