"""The task: exact gradients for every chunk, joined batches, judging that no batch size changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.rows import gather_rows
from neurocli.core.engine.task import RunData
from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.models.pair import Aligned
from neurocli.systems.genes.pair_set import PairSet, draw_of
from neurocli.systems.genes.task import AlignTask, standards

Configure = Callable[..., RunConfig]
SMALL = (
    "model.projection_dim=8",
    "model.transformer_hidden_dim=16",
    "model.transformer_num_layers=1",
    "model.transformer_num_heads=2",
    "model.transformer_ff_dim=16",
)
N = 12


def batch_of(part: PairSet, n: int = N, epoch: int = 0) -> dict[str, Any]:
    return part.collate([part.sample(i, epoch) for i in range(n)])


def built(task: AlignTask, data: RunData, dtype: torch.dtype = torch.float64) -> Aligned:
    torch.manual_seed(0)
    task.fit(data)
    return cast(Aligned, task.build(data.info)).to(dtype).train()


def to(batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in batch.items()
    }


def gradients(model: Aligned, task: AlignTask, batch: dict[str, Any]) -> dict[str, Tensor]:
    model.zero_grad()
    task.train_step(model, batch).loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("model", ["gene_pair", "gene_sequence"])
@pytest.mark.parametrize("loss", ["clip", "siglip"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_chunks_have_the_gradient_of_the_whole_batch(
    configure: Configure, opened: RunData, model: str, loss: str, dtype: torch.dtype
) -> None:
    # With dropout on, for every chunk size, the scale (and SigLIP's bias) included.
    hidden = ["model.hidden_dim=10"] if model == "gene_pair" else []
    settings = (*SMALL, *hidden, "model.dropout=0.3", "model.transformer_dropout=0.3")
    data = opened
    if model == "gene_pair":
        data = open_data(configure("data.gene=APOE", model="gene_pair"))
    batch = to(batch_of(cast(PairSet, data.parts["train"])), dtype)
    whole: dict[str, Tensor] = {}
    for chunk in [N, *range(1, N)]:
        config = configure(*settings, f"task.loss={loss}", f"task.micro_batch={chunk}", model=model)
        task = AlignTask(config)
        found = gradients(built(task, data, dtype), task, batch)
        if not whole:
            whole = found
            assert "logit_scale" in whole
            assert ("logit_bias" in whole) == (loss == "siglip")
            continue
        limit = 1e-12 if dtype == torch.float64 else 1e-6
        total = torch.cat([value.flatten() for value in whole.values()]).norm()
        for name, expected in whole.items():
            # A single number may be the small difference of large ones, so the whole counts too.
            size = expected.norm() + total / 10
            assert float((found[name] - expected).norm() / size) < limit, (chunk, name)


def test_dropout_is_on_in_those_gradients(configure: Configure, opened: RunData) -> None:
    part = cast(PairSet, opened.parts["train"])
    config = configure(*SMALL, "model.transformer_dropout=0.3")
    task = AlignTask(config)
    model = built(task, opened)
    first = gradients(model, task, to(batch_of(part), torch.float64))
    other = gradients(model, task, to(batch_of(part, epoch=1), torch.float64))
    name = "layers.0.linear1.weight"
    assert float((first[name] - other[name]).norm() / first[name].norm()) > 0.01


def test_joined_batches_are_one_batch(configure: Configure, opened: RunData) -> None:
    part = cast(PairSet, opened.parts["train"])
    task = AlignTask(configure(*SMALL))
    model = built(task, opened)
    samples = [part.sample(i, 0) for i in range(N)]
    whole = to(part.collate(samples), torch.float64)
    pieces = [to(part.collate(samples[i : i + 5]), torch.float64) for i in range(0, N, 5)]
    joined = task.join(pieces)
    assert joined["encode_at_once"] == 5
    assert joined["participant"] == whole["participant"]
    expected, found = gradients(model, task, whole), gradients(model, task, dict(joined))
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-10, atol=1e-13)


def test_plain_accumulation_would_be_another_gradient(
    configure: Configure, opened: RunData
) -> None:
    # What joining saves from: the mean of small batches' gradients sees few negatives.
    part = cast(PairSet, opened.parts["train"])
    task = AlignTask(configure(*SMALL))
    model = built(task, opened)
    samples = [part.sample(i, 0) for i in range(N)]
    whole = gradients(model, task, to(part.collate(samples), torch.float64))
    pieces = [
        gradients(model, task, to(part.collate(samples[i : i + 3]), torch.float64))
        for i in range(0, N, 3)
    ]
    name = "neuro_projection.first.weight"
    mean = torch.stack([piece[name] for piece in pieces]).mean(0)
    assert float((mean - whole[name]).norm() / whole[name].norm()) > 0.2


def test_joining_keeps_masks_that_some_batches_lack(configure: Configure, opened: RunData) -> None:
    part = cast(PairSet, opened.parts["train"])
    first, second = batch_of(part, 3), batch_of(part, 2)
    second["present"] = torch.zeros(2, 6, dtype=torch.bool)
    joined = AlignTask(configure()).join([first, second])
    assert joined["present"].sum(1).tolist() == [6, 6, 6, 0, 0]


def test_the_scale_stays_within_its_cap(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure(*SMALL, "task.logit_scale_max=20"))
    model = built(task, opened)
    with torch.no_grad():
        model.logit_scale.fill_(10.0)
    out = task.train_step(model, to(batch_of(cast(PairSet, opened.parts["train"])), torch.float64))
    assert float(model.logit_scale.detach()) == pytest.approx(math.log(20))
    assert out.logs["scale"] == pytest.approx(20)
    out.loss.backward()
    # A clamp inside the loss would leave no gradient at the cap.
    assert model.logit_scale.grad is not None
    assert float(model.logit_scale.grad) != 0


def test_chunks_are_chosen_by_tokens(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure())
    batch = batch_of(cast(PairSet, opened.parts["train"]))
    assert task._chunk(batch) == 888 // 6
    assert task._chunk({**batch, "encode_at_once": 5}) == 5
    assert AlignTask(configure("task.micro_batch=7"))._chunk(batch) == 7
    single = {**batch, "gene_sequence": batch["gene_sequence"][:, :1]}
    assert task._chunk(single) is None


def test_moments_are_those_of_the_training_part(train_part: PairSet) -> None:
    found = standards(train_part)
    brain = train_part.cohort.brain(train_part.rows).astype(np.float64)
    assert found["neuro_mean"] == pytest.approx(brain.mean(0), abs=1e-5)
    assert found["neuro_std"] == pytest.approx(brain.std(0), rel=1e-4)
    genes = train_part.cohort.sequence(train_part.rows).astype(np.float64)
    assert found["gene_mean"] == pytest.approx(genes.mean(0), abs=1e-5)
    assert found["gene_std"] == pytest.approx(genes.std(0), rel=1e-4)


def test_standardising_can_be_left_out(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure("data.standardize=false", *SMALL))
    model = built(task, opened)
    assert float(model.neuro_mean.abs().max()) == 0
    assert float(model.neuro_std.max()) == 1


@pytest.mark.parametrize("batch_size", [1, 7, 60, 200])
def test_judging_does_not_depend_on_batches(
    configure: Configure, opened: RunData, batch_size: int
) -> None:
    config = configure(*SMALL, f"data.eval_batch_size={batch_size}")
    task = AlignTask(config)
    model = built(task, opened, torch.float32)
    part = opened.parts["test"]
    rows = gather_rows(task, model, part, config, torch.device("cpu"))
    metrics = dict(task.summarise(rows).metrics)
    reference = AlignTask(configure(*SMALL, "data.eval_batch_size=33"))
    again = gather_rows(reference, model, part, reference.config, torch.device("cpu"))
    expected = dict(task.summarise(again).metrics)
    assert metrics.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-12)
    assert metrics == expected


def test_judging_does_not_depend_on_threads(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure(*SMALL))
    model = built(task, opened, torch.float32)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rows = gather_rows(task, model, opened.parts["test"], task.config, torch.device("cpu"))
            metrics = dict(task.summarise(rows).metrics)
            metrics.pop("loss")
            found.append(metrics)
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_order_of_rows_means_nothing(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure(*SMALL))
    model = built(task, opened, torch.float32)
    rows = gather_rows(task, model, opened.parts["val"], task.config, torch.device("cpu"))
    forward, backward = task.summarise(rows), task.summarise(rows[::-1])
    assert forward.metrics == backward.metrics
    assert forward.per_subject == backward.per_subject


def test_labels_matter_when_genes_repeat(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure())
    task.fit(opened)
    assert task.state_dict() == {"labels_matter": False}
    part = cast(PairSet, opened.parts["train"])
    batch = batch_of(part)
    assert task._labels(batch) is None
    task.load_state_dict({"labels_matter": True})
    labels = task._labels(batch)
    assert labels is not None
    assert len(labels) == N
    assert AlignTask(configure("task.multi_positive=on"))._labels(batch) is not None
    off = AlignTask(configure("task.multi_positive=off"))
    off.load_state_dict({"labels_matter": True})
    assert off._labels(batch) is None


@pytest.mark.parametrize(
    ("name", "mode"), [("percentile", "max"), ("loss", "min"), ("mrr", "max"), ("r_at_1", "max")]
)
def test_the_best_is_chosen_by(configure: Configure, name: str, mode: str) -> None:
    metric = AlignTask(configure(f"task.best_metric={name}")).primary_metric
    assert (metric.name, metric.mode) == (name, mode)


def test_embeddings_are_the_brains(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure(*SMALL))
    model = built(task, opened, torch.float32).eval()
    batch = batch_of(cast(PairSet, opened.parts["test"]))
    assert task.embed_step(model, batch).shape == (N, 8)


def test_baselines_are_the_closed_form_and_the_optimum(
    configure: Configure, opened: RunData
) -> None:
    task = AlignTask(configure())
    parts = [opened.parts["test"]]
    found = task.baseline_rows(opened.parts["train"], parts, lambda _: None)
    assert set(found.rows) == {"rcca", "oracle", "oracle_cosine"}
    values = {
        name: task.summarise_baseline(rows).metrics["percentile"]
        for name, rows in found.rows.items()
    }
    assert 0.6 < values["rcca"] <= values["oracle"] + 0.02
    assert "loss" not in task.summarise_baseline(found.rows["rcca"]).metrics


def test_batches_of_one_are_refused(configure: Configure) -> None:
    with pytest.raises(UsageError, match="nothing to be told from"):
        AlignTask(configure("data.batch_size=1"))


def test_one_person_cannot_be_judged(configure: Configure, opened: RunData) -> None:
    task = AlignTask(configure(*SMALL))
    rows = gather_rows(
        task,
        built(task, opened, torch.float32),
        opened.parts["test"],
        task.config,
        torch.device("cpu"),
    )
    with pytest.raises(NeuroError, match="1 person cannot be told from others"):
        task.summarise(rows[:1])


def test_draws_differ_between_people_epochs_and_seeds() -> None:
    found = {draw_of(s, e, i) for s in range(4) for e in range(4) for i in range(50)}
    assert len(found) == 800
    assert all(0 <= value < 2**62 for value in found)
