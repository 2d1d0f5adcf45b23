"""Runs of the room from data to files: training, judging, resuming, adapting, modes, controls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocli import evaluate, load_model, train
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.outcome import RunResult
from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.calcium.report import figures
from neurocli.systems.calcium.scaling import fit_scaler
from neurocli.systems.calcium.store import read_stored

SETTINGS = ("model.hidden_dim=16", "model.output_dim=8", "data.epoch_steps=30", "train.lr=3e-3",
            "data.batch_size=128", "run.threads=1", "train.epochs=4",
            "data.highpass_hz=0.02", "model.neuron_dropout=0.4")  # fmt: skip
SHORT = ("model.hidden_dim=8", "model.output_dim=4", "data.epoch_steps=3", "train.epochs=2",
         "data.batch_size=32", "run.threads=1")  # fmt: skip


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(checkpoint)["state_dict"]
    return found


@pytest.fixture(scope="module")
def judged(run: RunResult) -> Any:
    return evaluate(run.checkpoint)


def test_metrics_and_their_names(judged: Any) -> None:
    assert list(judged.metrics) == [
        "infonce", "goodness_of_fit", "consistency", "decode_r2", "decode_accuracy"
    ]  # fmt: skip
    assert 0 < judged.details["goodness_of_fit_share"] < 1
    # By chance 2 x 30 + 1 of 240 frames are right, 0.25; some 30 of 80 neurons follow the movie.
    assert judged.metrics["decode_accuracy"] > 0.38
    assert judged.metrics["decode_r2"] > 0.2  # the mean of the training part gives 0
    assert not judged.in_sample


def test_controls_are_at_chance(judged: Any) -> None:
    for name in ("null_shift", "null_shuffle"):
        assert judged.baselines[name]["decode_accuracy"] == pytest.approx(61 / 240, abs=0.08)
    assert judged.details["goodness_of_fit_null"] < 0.05


def test_baselines_and_intervals_stand_beside(judged: Any) -> None:
    for name in ("raw", "pca"):
        assert 0 < judged.baselines[name]["decode_accuracy"] <= 1
        low, high = judged.baseline_ci95[name]["decode_accuracy"]
        assert low <= judged.baselines[name]["decode_accuracy"] <= high
    low, high = judged.ci95["decode_accuracy"]
    assert low < judged.metrics["decode_accuracy"] <= high


def test_embeddings_are_files_with_time_and_labels(judged: Any, run: RunResult) -> None:
    folder = run.run / "evaluations" / "test" / "embeddings"
    x = np.load(folder / "synthetic-1.npy")
    seconds = np.load(folder / "synthetic-1.time_s.npy")
    frame = np.load(folder / "synthetic-1.movie_one.npy")
    # One presentation of 240 frames holds 240 - 10 + 1 windows.
    assert x.shape == (231, 8)
    assert x.dtype == np.float32
    assert seconds.shape == frame.shape == (231,)
    assert np.allclose(np.diff(seconds), 1 / 30)
    assert frame.tolist() == list(range(5, 236))


def test_figures_show_every_session(judged: Any, run: RunResult) -> None:
    found = figures(run.run)
    *embeddings, matrix = found
    assert len(embeddings) == 2
    assert all("movie one" in picture.caption for picture in embeddings)
    assert matrix.title == "Consistency between sessions, test"


def test_the_scale_comes_from_the_training_part(run: RunResult, stored: Path) -> None:
    kept = load_checkpoint(run.checkpoint)["task_state"]["scalers"]
    assert [len(own["factor"]) for own in kept] == [80, 70]
    scaler = vars(fit_scaler(read_stored(stored / "s0")))
    record = json.loads((stored / "s0" / "session.json").read_text())
    traces = np.load(stored / "s0" / "traces.npy").astype(np.float64)
    own = np.concatenate([traces[a:b] for a, b in record["segments"]["train"]])
    assert np.allclose(1 / scaler["factor"].numpy(), own.std(0), rtol=1e-5)
    mean = -(scaler["shift"] / scaler["factor"]).numpy()
    assert np.allclose(mean, own.mean(0), atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_so_does_resuming(
    stored: Path, tmp_path: Path
) -> None:
    first = train("cebra", data=stored, out=tmp_path / "a", set=SHORT)
    again = train("cebra", data=stored, out=tmp_path / "b", set=SHORT)
    other = train("cebra", data=stored, out=tmp_path / "c", set=SHORT, seed=7)
    one, two, three = (weights(r.run / "checkpoints" / "last.pth") for r in (first, again, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["trunks.0.out.weight"], three["trunks.0.out.weight"])

    class Stop(Exception):
        pass

    def listen(event: Any) -> None:
        if type(event).__name__ == "EvalDone" and event.epoch == 1 and event.part == "val":
            raise Stop

    with pytest.raises(Stop):
        train("cebra", data=stored, out=tmp_path / "d", set=SHORT, listener=listen)
    resumed = train(resume=tmp_path / "d")
    found = weights(resumed.run / "checkpoints" / "last.pth")
    assert all(torch.equal(one[name], found[name]) for name in one)


def test_dense_and_window_sampling_are_one_law(stored: Path, tmp_path: Path) -> None:
    found = []
    for how in ("windows", "dense"):
        sets = (*SHORT, f"data.sampling={how}", "model.neuron_dropout=0")
        result = train("cebra", data=stored, out=tmp_path / how, set=sets)
        found.append(weights(result.run / "checkpoints" / "last.pth"))
    for name in found[0]:
        assert torch.allclose(found[0][name], found[1][name], atol=1e-5), name


def test_an_unseen_session_is_refused_then_adapted_to(
    run: RunResult, unseen: Path, tmp_path: Path
) -> None:
    with pytest.raises(NeuroError, match=r"synthetic-1") as caught:
        evaluate(run.checkpoint, data=unseen, out=tmp_path / "x")
    assert "--freeze" in str(caught.value.hint)
    adapted = train(
        "cebra", data=unseen, out=tmp_path / "adapted", init_from=run.checkpoint, freeze=True,
        set=("data.batch_size=128", "data.epoch_steps=30", "train.epochs=4", "train.lr=1e-2",
             "data.highpass_hz=0.02", "model.neuron_dropout=0.4"),
    )  # fmt: skip
    old, new = weights(run.checkpoint), weights(adapted.checkpoint)
    assert new["inputs.0.weight"].shape[1] == 75
    assert all(torch.equal(old[n], new[n]) for n in old if n.startswith("trunks."))
    result = evaluate(adapted.checkpoint)
    fresh = train("cebra", data=unseen, out=tmp_path / "fresh", set=SETTINGS)
    full = evaluate(fresh.checkpoint).metrics["decode_accuracy"]
    assert result.metrics["decode_accuracy"] >= 0.9 * full


@pytest.mark.parametrize(("mode", "n_inputs", "n_trunks"), [
    ("shared", 2, 1), ("separate", 2, 2), ("pad", 1, 1), ("first-only", 1, 1)
])  # fmt: skip
def test_modes(stored: Path, tmp_path: Path, mode: str, n_inputs: int, n_trunks: int) -> None:
    result = train("cebra", data=stored, out=tmp_path, set=(*SHORT, f"data.mode={mode}"))
    model = load_model(result.checkpoint)
    assert len(model.inputs) == n_inputs  # type: ignore[arg-type]
    assert len(model.trunks) == n_trunks  # type: ignore[arg-type]
    assert evaluate(result.checkpoint).n > 0


@pytest.mark.parametrize("objective", ["time", "hybrid"])
def test_other_objectives(stored: Path, tmp_path: Path, objective: str) -> None:
    result = train("cebra", data=stored, out=tmp_path, pretrain=objective, set=SHORT)
    found = evaluate(result.checkpoint)
    assert np.isfinite(found.metrics["infonce"])


def test_a_run_on_shuffled_labels_learns_nothing(stored: Path, tmp_path: Path) -> None:
    sets = (*SETTINGS, "task.null=shuffle", "data.mode=first-only")
    result = train("cebra", data=stored, out=tmp_path, set=sets)
    found = evaluate(result.checkpoint)
    assert found.details["goodness_of_fit_share"] < 0.05
    assert found.metrics["decode_accuracy"] < 2 * 61 / 240
    assert any("control run" in note for note in found.notes)


def test_bad_requests(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not in every session"):
        train("cebra", data=stored, out=tmp_path / "a", task="smell", set=SHORT)
    with pytest.raises(UsageError, match=r"parts in time"):
        train("cebra", data=stored, out=tmp_path / "b", split="s.json", set=SHORT)
    path = tmp_path / "short.npz"
    np.savez(path, neural=np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
    with pytest.raises(NeuroError, match=r"receptive field, 10 frames"):
        train("cebra", data=path, out=tmp_path / "c", set=SHORT)
