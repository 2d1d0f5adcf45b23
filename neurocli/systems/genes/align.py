"""One alignment from options to a run folder: one gene, all genes as a sequence, or each gene.

Training and judging are those of `neuro train` and `neuro evaluate`; what is here chooses the
model, solves the closed form, and writes the files that the described programs write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from neurocli.core.config.flags import flag_layer
from neurocli.core.config.load import Resolved, resolve_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine import run_folder
from neurocli.core.engine.evaluate import evaluate
from neurocli.core.engine.runtime import set_threads
from neurocli.core.engine.task import RunData
from neurocli.core.engine.train import train
from neurocli.core.errors import NeuroError
from neurocli.core.events import Listener, Note, ignore
from neurocli.core.names import lookup
from neurocli.core.paths import folder_lock
from neurocli.systems.genes import export
from neurocli.systems.genes.closed_run import floor_is_kept, parts_of
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.finish import Again, Asked, finish, write_metrics
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult, judged_fields
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.sweep_train import better_maps, epochs_of, train_genes

MODES: Mapping[str, str] = {
    "single": "gene_pair",
    "sequence": "gene_sequence",
    "sweep": "gene_sequence",
}
METHODS = ("contrastive", "rcca", "rcca+contrastive")
ALIGN_KEYS: Mapping[str, str] = {
    "latents": "data.path",
    "genes": "data.genes",
    "group": "data.group",
    "split": "data.split",
    "covariates": "data.covariates",
    "gene": "data.gene",
    "pooling": "model.pooling",
    "gene_input": "model.gene_input",
    "loss": "task.loss",
    "projection_dim": "model.projection_dim",
    "hidden_dim": "model.hidden_dim",
    "permutations": "task.permutations",
    "batch_size": "data.batch_size",
    "epochs": "train.epochs",
    "lr": "train.lr",
    "accumulate": "train.accumulate",
    "seed": "run.seed",
    "device": "run.device",
}


class AlignOptions(TypedDict, total=False):
    """Name every option of `align_genes`; they equal the flags of `neuro align-genes`."""

    latents: str | Path | None
    genes: str | Path | None
    group: str | Path | None
    split: str | Path | None
    covariates: str | Sequence[str] | None
    mode: str
    gene: str | None
    method: str | None
    pooling: str | None
    gene_input: str | None
    loss: str | None
    projection_dim: int | None
    hidden_dim: int | None
    permutations: int | None
    batch_size: int | None
    epochs: int | None
    lr: float | None
    accumulate: int | None
    preset: str | None
    config: str | Path | None
    set: Sequence[str]
    seed: int | None
    device: str | None
    out: str | Path | None
    force: bool
    dry_run: bool
    listener: Listener


def align_genes(**options: Unpack[AlignOptions]) -> AlignResult:
    """Align brain latents with gene embeddings.

    Args:
        **options: The flags of `neuro align-genes`, None where not given.

    Returns:
        Retrieval among all test people, beside the closed form, chance and, for the built-in
        cohort, the optimum.

    Raises:
        UsageError: Options, ids or genes do not fit together.
        NeuroError: The data cannot be used.
        StoppedError: A signal stopped training after its state was saved.
    """
    began = time.process_time()
    mode = str(options.get("mode") or "single")
    lookup("mode", mode, MODES)
    method = str(options.get("method") or ("rcca" if mode == "sweep" else "contrastive"))
    lookup("method", method, dict.fromkeys(METHODS))
    resolved, settings, notes = _resolve(mode, method, options)
    if mode != "sweep" and method != "rcca":
        return _trained(mode, method, resolved, settings, notes, options, began)
    return _solved(mode, method, resolved, notes, options, began)


def _resolve(
    mode: str, method: str, options: AlignOptions
) -> tuple[Resolved, dict[str, Any], list[str]]:
    """Return the checked configuration, what `train` needs to find the same one, and notes."""
    given = {name: cast(Any, options).get(name) for name in ALIGN_KEYS}
    extra = list(options.get("set") or ())
    if method == "rcca+contrastive" and mode != "sweep":
        extra.append("task.warm_start=true")
    preset, notes = options.get("preset"), []
    has_data = given["latents"] or any(text.startswith("data.path=") for text in extra)
    if preset is None and options.get("config") is None:
        preset = "genes/sweep" if mode == "sweep" else "genes/tiny"
        if has_data:
            preset = {"single": "genes/pair", "sequence": "genes/sequence"}.get(mode, preset)
        else:
            notes.append(f"no --latents: built-in cohort with preset {preset}")
    layers: dict[str, Any] = {"preset": preset, "config": options.get("config")}
    flags = flag_layer(given, ALIGN_KEYS)
    resolved = resolve_config(model=MODES[mode], **layers, settings=extra, flags=flags)
    plain = [f"{key}={json.dumps(value)}" for key, (_, value) in flags.items()]
    return resolved, {**layers, "set": [*extra, *plain]}, notes


def _trained(
    mode: str,
    method: str,
    resolved: Resolved,
    settings: Mapping[str, Any],
    notes: list[str],
    options: AlignOptions,
    began: float,
) -> AlignResult:
    listener = options.get("listener", ignore)
    for note in notes:
        listener(Note(note, "warning"))
    kept = {key: cast(Any, options)[key] for key in ("out", "force", "dry_run") if key in options}
    run = train(MODES[mode], **cast(Any, {**settings, **kept}), listener=listener)
    if run.plan is not None:
        return _planned(run.run, mode, method, run.plan, [*notes, *run.notes], run.built_in_data)
    model, payload = export.read_model(run.checkpoint)
    data = open_data(resolved.config, split=payload["split"], like=payload["info"])
    if method == "rcca+contrastive":
        # Where training did not beat the closed form, the closed form is the result.
        form = ClosedForm(_part(data, "train"), cast(GenesTaskBlock, resolved.config.task))
        told = floor_is_kept(form.solution, data, payload["best"])
        notes = [*notes, *run.notes, told.text]
        if told.is_kept:
            asked = Asked(mode, method, resolved.config, run.run, notes, began)
            return finish(asked, form.solution, data, floor=form)
    judged = evaluate(run.checkpoint, part="test", force=True, listener=listener)
    parts = parts_of(data)
    files = {
        "model": export.write_model(run.run, payload, judged.metrics),
        "embeddings": export.write_embeddings(
            run.run,
            {part: export.embed(model, samples) for part, samples in parts.items()},
            float(model.logit_scale.detach().exp()),
        ),
        "ranks": export.copy_ranks(run.run, judged.out),
    }
    attention = export.write_attention(run.run, model, parts["test"])
    if attention is not None:
        files["attention"] = attention
    result = AlignResult(
        run=run.run,
        mode=mode,
        method=method,
        model=run.model,
        checkpoint=files["model"],
        gene_names=list(payload["info"]["gene_names"]),
        files=files,
        built_in_data=run.built_in_data,
        left_out=run.left_out,
        notes=list(dict.fromkeys([*notes, *run.notes, *judged.notes])),
        seconds=time.process_time() - began,
        **judged_fields(judged),
    )
    write_metrics(result)
    return result


def _solved(
    mode: str,
    method: str,
    resolved: Resolved,
    notes: list[str],
    options: AlignOptions,
    began: float,
) -> AlignResult:
    config, listener = resolved.config, options.get("listener", ignore)
    set_threads(config.run.threads)
    for note in notes:
        listener(Note(note, "warning"))
    data = open_data(config, listener)
    for note in data.notes:
        listener(Note(note, "warning" if data.built_in_data else "info"))
    train_part, _ = _part(data, "train"), _part(data, "test")
    out = options.get("out")
    run_dir = Path(out) if out else run_folder.new_run_dir(f"{mode}-{method}", "align")
    notes = [*notes, *data.notes]
    if options.get("dry_run"):
        return _planned(
            run_dir, mode, method, {"genes": data.info["num_genes"]}, notes, data.built_in_data
        )
    with folder_lock(run_dir):
        run_folder.claim(
            run_dir, config, force=bool(options.get("force")) or _is_ours(run_dir, config)
        )
        form = ClosedForm(train_part, cast(GenesTaskBlock, config.task))
        run_folder.write_head(run_dir, resolved, data)
        solution, told, again = _solution(method, form, data, config, listener)
        asked = Asked(mode, method, config, run_dir, [*notes, *told], began)
        return finish(asked, solution, data, floor=form, again=again)


def _solution(
    method: str, form: ClosedForm, data: RunData, config: RunConfig, listener: Listener
) -> tuple[Solution, list[str], Again | None]:
    """Return how genes are scored, what to tell about it, and how to fit it to more people."""
    told = [] if form.n_counted else ["no gene stands out in training; all pairs are scored"]
    if form.joint.is_turned:
        told.append("the genes' directions in the brain were turned to right angles")
    if method == "rcca":
        return form.solution, told, None
    val = data.parts.get("val")
    val_part = cast(PairSet, val) if val is not None and len(val) else None
    is_warm = method == "rcca+contrastive"
    trained = train_genes(
        form, _part(data, "train"), val_part, config, warm=is_warm, listener=listener
    )
    if not is_warm or val_part is None:
        return trained, told, None
    solution, better = better_maps(form.solution, trained, val_part)
    told.append(
        f"training improved {len(better)} of {len(form.fits)} genes on validation people by more "
        "than a standard error; the others keep the closed form"
    )

    def again(floor: ClosedForm, val: PairSet) -> tuple[Solution, Solution]:
        whole = floor.with_people(val)
        if not better:
            return whole.solution, whole.solution
        everyone, until = _part(data, "train").with_people(val), epochs_of(solution, better)
        own = train_genes(whole, everyone, None, config, warm=True, listener=listener, until=until)
        maps = {index: own.genes[index] for index in better}
        side = solution.side_by_side
        return replace(whole.solution.with_maps(maps), side_by_side=side), whole.solution

    return solution, told, again


def _is_ours(run_dir: Path, config: Any) -> bool:
    # A closed form has no state to go on from, so the same run again is done again.
    path = run_dir / "config.yaml"
    return path.is_file() and run_folder.read_config(run_dir) == config


def _part(data: RunData, name: str) -> PairSet:
    for part, samples in data.parts.items():
        if part == name and len(samples):
            return cast(PairSet, samples)
    raise NeuroError(
        f"nobody is in the {name} part", where="--split", hint="give more people or another split"
    )


def _planned(
    run_dir: Path, mode: str, method: str, plan: Mapping[str, Any], notes: list[str], made_up: bool
) -> AlignResult:
    return AlignResult(
        run_dir, mode, method, MODES[mode], None, notes=notes, built_in_data=made_up, plan=plan
    )
