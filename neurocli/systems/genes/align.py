"""One alignment from options to a run folder: one gene, all genes as a sequence, or each gene.

Training and judging are those of `neuro train` and `neuro evaluate`; what is here chooses the
model, solves the closed form, and writes the files that the described programs write.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

from neurocli.core.config.flags import flag_layer
from neurocli.core.config.load import Resolved, resolve_config
from neurocli.core.engine import run_folder
from neurocli.core.engine.evaluate import evaluate
from neurocli.core.engine.runtime import set_threads
from neurocli.core.engine.task import RunData
from neurocli.core.engine.train import ALREADY_ENDED, train
from neurocli.core.errors import NeuroError
from neurocli.core.events import Listener, Note, ignore
from neurocli.core.names import lookup
from neurocli.core.paths import durable_json, folder_lock
from neurocli.systems.genes import export
from neurocli.systems.genes.closed_run import closed_judgement, closed_payload, optimum_by_gene
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.floor import ClosedForm, part_rows
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult, judged_fields, result_values
from neurocli.systems.genes.sweep import ClosedSweep, add_optimum, judge_genes
from neurocli.systems.genes.sweep_train import train_genes

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
_PARTS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


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
        preset = "genes/tiny"
        if has_data:
            preset = "genes/pair" if mode == "single" else "genes/sequence"
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
    judged = evaluate(run.checkpoint, part="test", force=True, listener=listener)
    model, payload = export.read_model(run.checkpoint)
    data = open_data(resolved.config, split=payload["split"], like=payload["info"])
    parts = {part: cast(PairSet, data.parts[part]) for part in _PARTS if part in data.parts}
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
    if method == "rcca+contrastive" and payload["best"]["epoch"] == 0:
        notes.append("training did not improve on the closed form on validation people; it is kept")
    told = [*notes, *run.notes, *(note for note in judged.notes if note not in run.notes)]
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
        notes=told,
        seconds=time.process_time() - began,
        **judged_fields(judged),
    )
    _write_metrics(result)
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
    task = cast(GenesTaskBlock, config.task)
    set_threads(config.run.threads)
    for note in notes:
        listener(Note(note, "warning"))
    data = open_data(config, listener)
    for note in data.notes:
        listener(Note(note, "warning" if data.built_in_data else "info"))
    train_part, test = _part(data, "train"), _part(data, "test")
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
        form = ClosedForm(train_part, task)
        run_folder.write_head(run_dir, resolved, data)
        fields: dict[str, Any]
        if mode == "sweep":
            fields, more = _swept(method, form, data, config, run_dir, listener)
        else:
            rows = part_rows(test, form.joint_vectors(test.rows)[:2])
            judged = closed_judgement(rows, data, task, run_dir)
            fields, more = judged_fields(judged), judged.notes
        payload = closed_payload(form, data, config.model_dump(mode="json"), fields["metrics"])
        files = {
            **fields.pop("files", {}),
            "model": export.write_plain(run_dir / export.BEST_MODEL, payload),
            "ranks": export.copy_ranks(run_dir, run_dir / "evaluations" / "test"),
        }
        result = AlignResult(
            run=run_dir,
            mode=mode,
            method=method,
            model="rcca" if method == "rcca" else "sweep",
            checkpoint=files["model"],
            gene_names=list(data.info["gene_names"]),
            files=files,
            built_in_data=data.built_in_data,
            left_out=data.left_out,
            notes=[*notes, *(note for note in more if note not in notes)],
            seconds=time.process_time() - began,
            **fields,
        )
        _write_metrics(result)
    return result


def _swept(
    method: str,
    form: ClosedForm,
    data: RunData,
    config: Any,
    run_dir: Path,
    listener: Listener,
) -> tuple[dict[str, Any], list[str]]:
    task = cast(GenesTaskBlock, config.task)
    test, val = _part(data, "test"), data.parts.get("val")
    val_part = cast(PairSet, val) if val is not None and len(val) else None
    solved: Any = ClosedSweep(form)
    if method != "rcca":
        solved = train_genes(
            form,
            _part(data, "train"),
            val_part,
            config,
            warm=method == "rcca+contrastive",
            listener=listener,
        )
    swept = judge_genes(solved, test, val_part, task, listener)
    add_optimum(swept.genes, optimum_by_gene(test))
    judged = closed_judgement(swept.joint_rows, data, task, run_dir, summary=swept.joint)
    files = {
        "genes": export.write_rows(run_dir / export.GENES, swept.genes),
        "sweep": export.write_plain(run_dir / "sweep.pt", solved.stacked()),
    }
    fields = {**judged_fields(judged), "genes": swept.genes, "files": files}
    return fields, [*swept.notes, *judged.notes]


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


def _write_metrics(result: AlignResult) -> None:
    record = {"schema": "neuro/align-genes/1", **result_values(result)}
    # The file tells of the run, not of the call that wrote it: killed and gone on with, it is the
    # same.
    record["notes"] = [note for note in result.notes if note != ALREADY_ENDED]
    durable_json(result.run / "metrics.json", record)
