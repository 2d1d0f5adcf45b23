"""The objective on tiny sessions: losses written out, hybrids, hiding, starting weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli import load_config
from neurocli.core.engine.task import RunData
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import ignore
from neurocli.systems.calcium.data import open_data
from neurocli.systems.calcium.dummy import built_in_sessions
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.samples import PieceSet, SlotSet
from neurocli.systems.calcium.store import write_stored
from neurocli.systems.calcium.synthetic import CohortSpec
from neurocli.systems.calcium.task import EmbeddingTask

SIZES = ("model.hidden_dim=8", "model.output_dim=4", "data.batch_size=6", "data.epoch_steps=2",
         "data.sampling=windows", "model.neuron_dropout=0")  # fmt: skip
FROZEN = ("train.freeze=true", "train.init_from=source.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two sessions of 9 and 7 neurons that saw one movie."""
    found = tmp_path_factory.mktemp("tiny")
    for session in built_in_sessions(
        CohortSpec(n_neurons=(9, 7), n_frames=60, n_repeats=10, n_trials=0)
    ):
        (found / session.name).mkdir()
        write_stored(session, found / session.name)
    return found


def opened(folder: Path, *settings: str) -> tuple[EmbeddingTask, SessionEncoders, RunData]:
    """Return a task that was fitted, its model in float64 and the data."""
    config = load_config(model="cebra", set=[f"data.path={folder}", *SIZES, *settings])
    data = open_data(config)
    task = EmbeddingTask(config)
    task.fit(data)
    torch.manual_seed(0)
    model = cast(SessionEncoders, task.build(data.info)).double()
    return task, model, data


def batch_of(data: RunData, n: int = 6, slot: int = 0, epoch: int = 0) -> dict[str, Any]:
    part = cast(SlotSet, data.parts["train"])
    return wide(part.collate([part.sample(slot + i, epoch) for i in range(n)]))


def wide(value: Any) -> Any:
    """Return a batch in float64."""
    if isinstance(value, dict):
        return {key: wide(own) for key, own in value.items()}
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def embedded(model: SessionEncoders, task: EmbeddingTask, taken: Tensor, number: int) -> np.ndarray:
    """Return embeddings of windows that are scaled first, one window at a time."""
    scaler = task.state_dict()["scalers"][number]
    rows = taken * scaler["factor"].double() + scaler["shift"].double()
    with torch.no_grad():
        return np.stack([model(row[None], number)[0].numpy() for row in rows])


def slow_loss(ref: np.ndarray, pos: np.ndarray, neg: np.ndarray, scale: float = 1.0) -> float:
    values = [
        math.log(sum(math.exp(scale * float(r @ n)) for n in neg)) - scale * float(r @ p)
        for r, p in zip(ref, pos, strict=True)
    ]
    return sum(values) / len(values)


def test_aligned_sessions_are_one_pool_in_the_loss(folder: Path) -> None:
    task, model, data = opened(folder)
    batch = batch_of(data)
    draw = batch["draws"]["labels"]
    parts = [embedded(model, task, draw["taken"][str(s)], s) for s in range(2)]
    ref, pos, neg = (np.concatenate([own[i * 6 : (i + 1) * 6] for own in parts]) for i in range(3))
    expected = slow_loss(ref, pos[draw["align"].numpy()], neg)
    assert float(task.train_step(model, batch).loss.detach()) == pytest.approx(expected, abs=1e-9)
    # It can fail: in their own order positives belong to other references.
    assert expected != pytest.approx(slow_loss(ref, pos, neg), abs=1e-4)


def test_time_keeps_sessions_apart(folder: Path) -> None:
    task, model, data = opened(folder, "task.objective=time", "task.temperature=0.5")
    batch = batch_of(data)
    draw = batch["draws"]["time"]
    assert draw["align"] is None
    losses = []
    for s in range(2):
        own = embedded(model, task, draw["taken"][str(s)], s)
        losses.append(slow_loss(own[:6], own[6:12], own[12:], 2.0))
    found = float(task.train_step(model, batch).loss.detach())
    assert found == pytest.approx(np.mean(losses), abs=1e-9)


@pytest.mark.parametrize(("settings", "n_time"), [((), 2), (("task.time_dims=1",), 1)])
def test_hybrid_adds_two_losses_over_outputs_of_their_own(
    folder: Path, settings: tuple[str, ...], n_time: int
) -> None:
    task, model, data = opened(folder, "task.objective=hybrid", "data.mode=first-only", *settings)
    batch = batch_of(data)
    total = 0.0
    for name, outputs in (("labels", slice(0, 4 - n_time)), ("time", slice(4 - n_time, 4))):
        own = embedded(model, task, batch["draws"][name]["taken"]["0"], 0)[:, outputs]
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        total += slow_loss(own[:6], own[6:12], own[12:])
    assert float(task.train_step(model, batch).loss.detach()) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("settings", [(), ("task.objective=time",), ("task.objective=hybrid",)])
def test_dense_rows_and_windows_give_one_loss_and_one_gradient(
    folder: Path, settings: tuple[str, ...]
) -> None:
    found = []
    for how in ("windows", "dense"):
        task, model, data = opened(folder, f"data.sampling={how}", *settings)
        loss = task.train_step(model, batch_of(data, slot=6, epoch=3)).loss
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((float(loss.detach()), torch.cat([g.flatten() for g in grads])))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-12)


def test_draws_are_a_function_of_seed_epoch_and_slot(folder: Path) -> None:
    _, _, data = opened(folder)
    other = opened(folder, "run.seed=7")[2]
    plain = batch_of(data)["draws"]["labels"]["taken"]["0"]
    assert torch.equal(plain, batch_of(data)["draws"]["labels"]["taken"]["0"])
    for batch in (batch_of(data, epoch=1), batch_of(data, slot=6), batch_of(other)):
        assert not torch.equal(plain, batch["draws"]["labels"]["taken"]["0"])


def test_a_learned_temperature_starts_where_told_and_has_a_floor(folder: Path) -> None:
    sets = ("task.learn_temperature=true", "task.temperature=0.5", "task.min_temperature=0.2")
    task, model, data = opened(folder, *sets)
    fixed, _, _ = opened(folder, "task.temperature=0.5")
    batch = batch_of(data)
    found = task.train_step(model, batch)
    assert found.logs == {"temperature": pytest.approx(0.5)}
    plain = opened(folder)[1]
    plain.load_state_dict({n: v for n, v in model.state_dict().items() if n != "log_scale"})
    assert float(found.loss.detach()) == pytest.approx(
        float(fixed.train_step(plain, batch).loss.detach()), abs=1e-6
    )
    assert model.log_scale is not None
    with torch.no_grad():
        model.log_scale.fill_(math.log(100))  # a temperature of 0.01 is below the floor
    assert task.train_step(model, batch).logs == {"temperature": pytest.approx(0.2)}


def test_hidden_neurons_are_hidden_in_training_only(folder: Path) -> None:
    task, model, data = opened(folder, "model.neuron_dropout=0.5")
    batch = batch_of(data)
    losses = [float(task.train_step(model, batch).loss.detach()) for _ in range(2)]
    assert losses[0] != losses[1]  # another mask each time
    model.eval()
    still = [float(task.train_step(model, batch).loss.detach()) for _ in range(2)]
    assert still[0] == still[1]
    none = opened(folder)[0].train_step(model, batch).loss
    assert still[0] == pytest.approx(float(none.detach()), abs=1e-12)


@torch.no_grad()
def judged_rows(folder: Path, *settings: str) -> tuple[list[Any], EmbeddingTask, PieceSet]:
    task, model, data = opened(folder, *settings)
    part = cast(PieceSet, data.parts["val"])
    rows: list[Any] = []
    for index in range(len(part)):
        rows += task.eval_step(model.eval(), wide(part.collate([part.sample(index, 0)])))
    return rows, task, part


@torch.no_grad()
def test_rows_do_not_depend_on_the_batch(folder: Path) -> None:
    rows, _, part = judged_rows(folder)
    task, model, _ = opened(folder)
    batch = wide(part.collate([part.sample(i, 0) for i in range(len(part))]))
    together = task.eval_step(model.eval(), batch)
    assert len(together) == len(rows) >= 2
    for one, other in zip(rows, together, strict=True):
        assert one["participant"] == other["participant"]
        assert np.array_equal(one["embedding"], other["embedding"])
        # A window per centre: as many as frames less the receptive field of ten plus one.
        assert len(one["embedding"]) == one["piece"].stop - one["piece"].start - 9


@torch.no_grad()
@pytest.mark.parametrize("is_learned", [False, True])
def test_plain_features_are_judged_at_the_models_temperature(
    folder: Path, is_learned: bool
) -> None:
    task, model, data = opened(
        folder, "task.temperature=0.5", f"task.learn_temperature={str(is_learned).lower()}"
    )
    if is_learned:
        assert model.log_scale is not None
        model.log_scale.fill_(math.log(4))  # learned since: 0.25
    part = cast(PieceSet, data.parts["val"])
    rows = list(task.eval_step(model.eval(), wide(part.collate([part.sample(0, 0)]))))
    plain = task.baseline_rows(part, [part], ignore)
    scales = [row["scale"] for own in (rows, *plain.rows.values()) for row in own]
    assert scales == pytest.approx([4.0 if is_learned else 2.0] * len(scales))


def test_a_baseline_has_no_controls_and_no_embeddings(folder: Path) -> None:
    rows, task, _ = judged_rows(folder)
    own, plain = task.summarise(rows), task.summarise_baseline(rows)
    assert own.metrics["infonce"] == plain.metrics["infonce"]
    assert own.details["goodness_of_fit_null"] is not None
    assert plain.details == plain.baselines == plain.arrays == {}
    assert not plain.per_subject


def test_the_state_comes_back(folder: Path) -> None:
    task, model, data = opened(folder, "task.objective=time")
    again = EmbeddingTask(task.config)
    again.load_state_dict(task.state_dict())
    batch = batch_of(data)
    assert torch.equal(again.train_step(model, batch).loss, task.train_step(model, batch).loss)
    assert again.state_dict()["objective"] == "time"
    assert task.primary_metric.name == "infonce"
    assert task.primary_metric.is_better(1.0, 2.0)


def test_embeddings_are_written_anyway(folder: Path) -> None:
    task, model, _ = opened(folder)
    with pytest.raises(UsageError, match="written anyway") as caught:
        task.embed_step(model, {})
    assert "leave the option out" in str(caught.value.hint)


def started(folder: Path, source: SessionEncoders, *settings: str) -> tuple[str, SessionEncoders]:
    task, model, _ = opened(folder, *settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.125)
    return task.init_from(model, source.state_dict()), model


def test_starting_weights_fit_and_inputs_start_anew_when_frozen(folder: Path) -> None:
    _, source, _ = opened(folder)
    text, model = started(folder, source)
    n = len(source.state_dict())
    assert text == f"{n} of {n} tensors were taken"
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in source.state_dict().items())
    text, model = started(folder, source, *FROZEN)
    # Two sessions with a weight and a bias each are four tensors less.
    assert text == f"{n - 4} of {n} tensors were taken; 2 input layers start anew"
    for name, value in model.state_dict().items():
        fresh = torch.full_like(value, 0.125)
        assert torch.equal(
            value, fresh if name.startswith("inputs.") else source.state_dict()[name]
        )


def test_layers_of_other_neurons_start_anew(folder: Path) -> None:
    torch.manual_seed(1)
    source = SessionEncoders([9, 5], encoder="offset10", hidden=8, outputs=4).double()
    text, model = started(folder, source)
    # The bias of the second session fits; its weight over 5 neurons does not fit 7.
    n = len(source.state_dict())
    assert text == f"{n - 1} of {n} tensors were taken; 1 input layers start anew"
    assert torch.equal(model.inputs[0].weight, source.inputs[0].weight)  # type: ignore[arg-type]
    assert (model.inputs[1].weight == 0.125).all()


def test_a_trunk_that_the_weights_lack_is_refused(folder: Path) -> None:
    # One shared trunk for two separate ones: the second would stay as it was drawn.
    _, source, _ = opened(folder)
    with pytest.raises(
        NeuroError, match=r"do not fit SessionEncoders: 8 missing.*trunks\.1"
    ) as caught:
        started(folder, source, "data.mode=separate", *FROZEN)
    assert caught.value.where == "--init-from"
    # Ten frames' three residual layers are no trunk for 36 frames' sixteen.
    with pytest.raises(NeuroError, match=r"missing.*trunks\.0\.skips\.3"):
        started(folder, source, "model.encoder=offset36")
    with pytest.raises(NeuroError, match=r"of another shape.*trunks\.0\.out\.weight"):
        started(folder, source, "model.encoder=offset5")


def test_a_temperature_comes_along_only_where_one_is_learned(folder: Path) -> None:
    _, source, _ = opened(folder, "task.learn_temperature=true", "task.temperature=0.3")
    text, model = started(folder, source)
    assert model.log_scale is None
    assert text.startswith(f"{len(source.state_dict()) - 1} of")
    text, model = started(folder, opened(folder)[1], "task.learn_temperature=true")
    assert model.log_scale is not None
    assert float(model.log_scale.detach()) == 0.125  # nothing to take: as it was
