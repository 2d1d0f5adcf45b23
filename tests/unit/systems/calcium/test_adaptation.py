"""New sessions under a trained trunk, and what presets say of such runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from neurocli import evaluate, load_config, train
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.outcome import RunResult
from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.calcium.config import FIELDS
from neurocli.systems.calcium.dummy import built_in_sessions
from neurocli.systems.calcium.store import write_stored
from neurocli.systems.calcium.synthetic import CohortSpec

SHORT = ("data.epoch_steps=2", "train.epochs=1", "data.batch_size=16", "run.threads=1")
SIZES = ("model.hidden_dim=8", "model.output_dim=4", *SHORT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return folders of one session each, of 9, 7 and 9 neurons that saw one movie."""
    found = []
    for session in built_in_sessions(
        CohortSpec(n_neurons=(9, 7, 9), n_frames=60, n_repeats=10, n_trials=0)
    ):
        folder = tmp_path_factory.mktemp(session.name)
        (folder / session.name).mkdir()
        write_stored(session, folder / session.name)
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def first(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a short run over the first session."""
    return train("cebra", data=folders[0], out=tmp_path_factory.mktemp("first"), set=SIZES)


def adapt(first: RunResult, folder: Path, out: Path, *settings: str, **options: Any) -> RunResult:
    return train(
        "cebra",
        data=folder,
        out=out,
        init_from=first.checkpoint,
        set=(*SHORT, *settings),
        **options,
    )


def state(result: RunResult) -> dict[str, Any]:
    return dict(load_checkpoint(result.run / "checkpoints" / "last.pth"))


@pytest.mark.parametrize("number", [1, 2])
def test_only_the_input_layer_learns_when_frozen(
    first: RunResult, folders: list[Path], tmp_path: Path, number: int
) -> None:
    result = adapt(first, folders[number], tmp_path / "a", freeze=True, seed=5)
    old, new = load_checkpoint(first.checkpoint), state(result)
    for name, value in new["state_dict"].items():
        if name.startswith("trunks."):
            assert torch.equal(value, old["state_dict"][name])
    # As many neurons as before in session three, and still a layer of its own.
    weight = new["state_dict"]["inputs.0.weight"]
    assert weight.shape == (8, [9, 7, 9][number], 2)
    before = old["state_dict"]["inputs.0.weight"]
    # Two steps at a rate of at most 0.01 would leave an old layer within 0.03 of what it was.
    assert before.shape != weight.shape or (before - weight).abs().max() > 0.05
    # Scales are those of the new session's training part.
    scalers = new["task_state"]["scalers"]
    assert [len(own["factor"]) for own in scalers] == [[9, 7, 9][number]]
    assert not torch.equal(scalers[0]["factor"][:7], old["task_state"]["scalers"][0]["factor"][:7])
    assert evaluate(result.checkpoint).n > 0


def test_everything_learns_when_it_is_not_frozen(
    first: RunResult, folders: list[Path], tmp_path: Path
) -> None:
    result = adapt(first, folders[1], tmp_path / "a")
    old, new = load_checkpoint(first.checkpoint)["state_dict"], state(result)["state_dict"]
    trunk = [name for name in new if name.startswith("trunks.")]
    assert not any(torch.equal(new[name], old[name]) for name in trunk)


def test_adapting_is_a_function_of_the_seed(
    first: RunResult, folders: list[Path], tmp_path: Path
) -> None:
    found = [
        state(adapt(first, folders[1], tmp_path / str(i), freeze=True, seed=seed))["state_dict"]
        for i, seed in enumerate((3, 3, 4))
    ]
    weights = [own["inputs.0.weight"] for own in found]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_notes_tell_what_was_taken(first: RunResult, folders: list[Path], tmp_path: Path) -> None:
    notes = adapt(first, folders[1], tmp_path / "a", freeze=True).notes
    # Three residual layers and the last one have a weight and a bias each: 8 of 10 tensors.
    assert any("8 of 10 tensors were taken; 1 input layers start anew" in note for note in notes)


def test_what_does_not_fit_is_refused(
    first: RunResult, folders: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"model\.output_dim is 6, the weights have 4"):
        adapt(first, folders[1], tmp_path / "a", "model.output_dim=6", freeze=True)
    with pytest.raises(UsageError, match="needs weights"):
        train("cebra", data=folders[1], out=tmp_path / "b", set=SIZES, freeze=True)
    both = tmp_path / "both"
    both.mkdir()
    for path in (path for folder in folders[1:] for path in folder.iterdir()):
        (both / path.name).symlink_to(path)
    with pytest.raises(NeuroError, match=r"missing.*trunks\.1"):
        adapt(first, both, tmp_path / "c", "data.mode=separate", freeze=True)


def test_a_session_with_other_neurons_under_the_same_name_is_refused(
    first: RunResult, folders: list[Path], tmp_path: Path
) -> None:
    session = built_in_sessions(CohortSpec(n_neurons=(5,), n_frames=60, n_repeats=10, n_trials=0))[
        0
    ]
    (tmp_path / session.name).mkdir()
    write_stored(session, tmp_path / session.name)
    with pytest.raises(NeuroError, match=r"has 5 neurons, the model was trained on 9") as caught:
        evaluate(first.checkpoint, data=tmp_path, out=tmp_path / "x")
    assert "--freeze" in str(caught.value.hint)


def test_presets_say_what_their_heads_promise() -> None:
    own = {name: load_config(f"calcium/{name}", model="cebra").model_dump() for name in (
        "default", "tiny", "seed-allen")}  # fmt: skip
    for name in ("default", "tiny"):
        # Heads: ten-frame windows, a shared trunk, drift slower than 50 s taken off.
        assert sum(FIELDS[own[name]["model"]["encoder"]]) == 10
        assert own[name]["data"]["mode"] == "shared"
        assert own[name]["data"]["highpass_hz"] == 1 / 50
        # One cycle is a long rise, three tenths of the steps, and a cosine down.
        assert (own[name]["train"]["schedule"], own[name]["train"]["warmup"]) == ("cosine", 0.3)
    assert own["default"]["train"]["early_stop"] == 5
    assert own["tiny"]["task"]["target"] == "movie_one"
    described = own["seed-allen"]
    # Head: 32 outputs, time, batch 4, rate 3e-4 held, 5000 steps.
    assert described["model"]["output_dim"] == 32
    assert described["task"]["objective"] == "time"
    assert described["data"]["batch_size"] == 4
    assert described["train"]["steps"] == 5000
    assert (described["train"]["lr"], described["train"]["schedule"]) == (3e-4, "constant")


@pytest.mark.parametrize(("setting", "text"), [
    ("data.batch_size=1", "batch_size"),  # a reference needs another window
    ("model.neuron_dropout=1", "neuron_dropout"),
    ("task.temperature=0", "temperature"),
    ("task.distance=manhattan", "cosine"),
    ("data.mode=merged", "first-only"),
    ("model.encoder=offset7", "offset10"),
])  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        load_config("calcium/tiny", model="cebra", set=[setting])
