"""The paragraph says what is recorded and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from neurocli.core.report.collect import collect_run
from neurocli.core.report.methods import methods_paragraph, repeat_command

WriteRun = Callable[..., Path]


def test_a_finished_run_in_words(write_run: WriteRun) -> None:
    run = collect_run(write_run(left_out=[["sub-9", "short"]]))
    assert methods_paragraph(run) == (
        "The model fmamba_mlp with 139,008 parameters was trained with the objective "
        "classification. Participants, never their samples, were divided into parts: 33 (train), "
        "7 (val), 4 (test). The division has SHA-256 555555555555. Found and left out: 1. "
        "Training: 12 steps in 2 epochs, optimiser adamw, peak learning rate 0.002, batch size 8, "
        "seed 1234. The checkpoint with the best accuracy on the val part (0.71, epoch 1) was "
        "kept. Intervals are 95 % percentile intervals of a bootstrap over participants, and a "
        "difference from a baseline is claimed only where the two intervals part. Software: "
        "torch 2.13.0, numpy 2.4.6, Python 3.11.7."
    )


def test_an_empty_folder_says_only_that_nothing_ended(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}\n")
    assert methods_paragraph(collect_run(tmp_path)) == (
        "The model unknown model was trained with the objective unknown objective. "
        "The run has not ended, so its figures may still change."
    )


def test_synthetic_data_is_named(write_run: WriteRun) -> None:
    assert "built-in synthetic data" in methods_paragraph(collect_run(write_run(built_in=True)))


def test_a_closed_form_is_told_and_repeated_as_one(write_run: WriteRun) -> None:
    folder = write_run(model="gene_sequence", objective="align")
    record = {"schema": "neuro/align-genes/1", "mode": "sweep", "method": "rcca", "model": "rcca"}
    (folder / "metrics.json").write_text(json.dumps({**record, "part": "test"}))
    for name in ("result.json", "log.jsonl", "metrics.csv"):
        (folder / name).unlink()
    run = collect_run(folder)
    # Nothing is missing: a closed form logs no steps.
    assert (run.method, run.missing) == ("rcca", ())
    assert repeat_command(run) == (
        "neuro align-genes --mode sweep --method rcca --config first/config.yaml"
    )
    text = methods_paragraph(run)
    assert text.startswith("Closed form: rcca; nothing was trained step by step.")
    assert "learning rate" not in text
    # The record of the run and that of its judgement are one judgement.
    assert [evaluation.source for evaluation in run.evaluations] == [
        "evaluations/test/metrics.json"
    ]
