"""A run in words: the paragraph for a paper and the command that repeats it.

Only what the run folder records is said; a clause whose facts are missing is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from neurocli.core.metrics.measures import measure
from neurocli.core.report.collect import Run
from neurocli.core.report.records import as_mapping, as_number
from neurocli.core.report.results import parameters
from neurocli.core.report.text import number_text

_NAMED_PACKAGES = ("neurocli", "torch", "numpy", "nibabel", "nilearn", "scikit-learn", "monai")


def methods_paragraph(run: Run) -> str:
    """Return the methods of a run as sentences, with the versions of what computed it."""
    return " ".join(
        sentence
        for part in (_model, _data, _training, _choice, _judgement, _software)
        for sentence in part(run)
    )


def repeat_command(run: Run) -> str:
    """Return the command line that repeats a run, from its configuration."""
    if run.alignment:
        mode = ("--mode", str(run.alignment.get("mode")))
        method = ("--method", str(run.alignment.get("method")))
        words = ["neuro", "align-genes", *mode, *method, "--config", f"{run.name}/config.yaml"]
        return shlex.join(words)
    return shlex.join(["neuro", "train", run.model, "--config", f"{run.name}/config.yaml"])


def _model(run: Run) -> Iterator[str]:
    size = parameters(run)
    learned = f" with {number_text(size)} parameters" if size is not None else ""
    if run.method != run.model:
        yield f"Closed form: {run.method}; nothing was trained step by step."
        return
    yield f"The model {run.model}{learned} was trained with the objective {run.objective}."


def _data(run: Run) -> Iterator[str]:
    if run.is_built_in:
        yield "The data were built-in synthetic data, not recordings of people."
    counts = run.n_participants
    if counts:
        people = ", ".join(f"{number_text(n)} ({part})" for part, n in counts.items())
        yield f"Participants, never their samples, were divided into parts: {people}."
    digest = run.data.get("split_sha256")
    if isinstance(digest, str) and digest:
        yield f"The division has SHA-256 {digest[:12]}."
    left_out = run.data.get("left_out")
    if isinstance(left_out, (list, tuple)) and left_out:
        yield f"Found and left out: {len(left_out)}."


def _training(run: Run) -> Iterator[str]:
    if run.method != run.model:
        return  # a closed form has no steps, whatever its configuration could say
    keys: Mapping[str, str] = {
        "train.optimizer": "optimiser {}",
        "train.lr": "peak learning rate {}",
        "train.schedule": "{} schedule",
        "train.weight_decay": "weight decay {}",
        "data.batch_size": "batch size {}",
        "train.accumulate": "{} batches per step",
        "train.precision": "{} precision",
        "run.seed": "seed {}",
    }
    said = [
        words.format(run.settings[key])
        for key, words in keys.items()
        if run.settings.get(key) is not None and (key, run.settings[key]) != ("train.accumulate", 1)
    ]
    # A run that was killed has no counts of its own; its configuration is still said.
    steps, epochs = as_number(run.result.get("steps")), as_number(run.result.get("epochs"))
    length = f"{number_text(steps)} steps in {number_text(epochs)} epochs" if steps else ""
    clauses = [clause for clause in (length, *said) if clause]
    if clauses:
        yield f"Training: {', '.join(clauses)}."
    if not run.result and not run.alignment:
        yield "The run has not ended, so its figures may still change."


def _choice(run: Run) -> Iterator[str]:
    best = as_mapping(run.result.get("best"))
    value = as_number(best.get("value"))
    if value is not None:
        yield (
            f"The checkpoint with the best {measure(str(best.get('metric'))).label} on the "
            f"{best.get('part')} part ({number_text(value)}, epoch {best.get('epoch')}) was kept."
        )


def _judgement(run: Run) -> Iterator[str]:
    if any(evaluation.ci95 for evaluation in run.evaluations):
        yield (
            "Intervals are 95 % percentile intervals of a bootstrap over participants, and a "
            "difference from a baseline is claimed only where the two intervals part."
        )


def _software(run: Run) -> Iterator[str]:
    packages = as_mapping(run.environment.get("packages"))
    named = [f"{name} {packages[name]}" for name in _NAMED_PACKAGES if name in packages]
    python = run.environment.get("python")
    if python:
        named.append(f"Python {python}")
    if named:
        yield f"Software: {', '.join(named)}."


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the entries of nested records as (dotted name, text).

    >>> list(flat({"packages": {"torch": "2.10"}, "devices": ["cpu"]}))
    [('packages.torch', '2.10'), ('devices', 'cpu')]
    """
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{name}", "null" if value is None else str(value)
