"""A warm start is the closed form: the cosines against variates that are weighted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import ExitCode, UsageError
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.models.build import build
from neurocli.systems.genes.models.pair import Aligned
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.task import standards
from neurocli.systems.genes.warm_start import start_from_closed_form

Configure = Callable[..., RunConfig]
WIDE = "model.projection_dim=64"
SUM = ("model.gene_tower=linear-sum", WIDE)


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def started(config: RunConfig, data: RunData, form: ClosedForm) -> Aligned:
    torch.manual_seed(0)
    model = build(config, data.info)
    model.set_standard(**standards(cast(PairSet, data.parts["train"])))
    start_from_closed_form(model, form)
    return model.eval()


def cosines(model: Aligned, part: PairSet) -> np.ndarray:
    batch = part.collate([part.sample(i, 0) for i in range(len(part))])
    with torch.no_grad():
        u, v = model.double()(batch["neuro_embedding"].double(), batch["gene_sequence"].double())
    return np.asarray((u @ v.T).numpy())


def test_a_pair_starts_with_the_weighted_variates(configure: Configure) -> None:
    config = configure("data.gene=APOE", WIDE, model="gene_pair")
    data = open_data(config)
    train, test = (cast(PairSet, data.parts[name]) for name in ("train", "test"))  # type: ignore[index]
    form = ClosedForm(train, cast(Any, config.task))
    fit = form.fits[0]
    # sqrt(r / (1 - r^2)) on both sides, written out once more.
    weight = np.sqrt(fit.weights / (1 - fit.weights**2))
    u = form.scores(test.rows) @ fit.brain * weight
    v = fit.gene_variates(test.cohort.gene(0, test.rows)) * weight
    found = cosines(started(config, data, form), test)
    # Outputs that the form leaves free hold a thousandth of their first weights.
    assert found == pytest.approx(unit(u) @ unit(v).T, abs=0.02)
    assert np.diag(found).mean() > found.mean() + 0.2


def test_a_sum_starts_with_all_pairs_that_stand_out(
    configure: Configure, opened: RunData, form: ClosedForm, test_part: PairSet
) -> None:
    found = cosines(started(configure(*SUM), opened, form), test_part)
    us, vs = [], []
    for index, fit in enumerate(form.fits):
        at = fit.counted
        weight = np.sqrt(fit.weights / (1 - fit.weights**2))[at]
        us.append((form.scores(test_part.rows) @ fit.brain)[:, at] * weight)
        own = test_part.cohort.gene(index, test_part.rows)
        vs.append(fit.gene_variates(own)[:, at] * weight)
    assert 2 < sum(u.shape[1] for u in us) <= 64
    expected = unit(np.concatenate(us, axis=1)) @ unit(np.concatenate(vs, axis=1)).T
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    assert found == pytest.approx(expected, abs=0.1)


def test_a_narrow_space_takes_the_surest_pairs(configure: Configure) -> None:
    config = configure("data.gene=APOE", "model.projection_dim=2", model="gene_pair")
    data = open_data(config)
    train, test = (cast(PairSet, data.parts[name]) for name in ("train", "test"))  # type: ignore[index]
    form = ClosedForm(train, cast(Any, config.task))
    fit, best = form.fits[0], np.argsort(-form.fits[0].weights)[:2]
    weight = np.sqrt(fit.weights / (1 - fit.weights**2))[best]
    u = (form.scores(test.rows) @ fit.brain)[:, best] * weight
    v = fit.gene_variates(test.cohort.gene(0, test.rows))[:, best] * weight
    found = cosines(started(config, data, form), test)
    assert found == pytest.approx(unit(u) @ unit(v).T, abs=1e-3)


@pytest.mark.parametrize("settings", [("model.hidden_dim=8",), ()], ids=["hidden", "transformer"])
def test_what_is_not_linear_cannot_start(
    settings: tuple[str, ...], configure: Configure, opened: RunData, form: ClosedForm
) -> None:
    config = configure(*settings, model="gene_pair" if settings else "gene_sequence")
    model = build(config, opened.info)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match="starts linear encoders only") as caught:
        start_from_closed_form(model, form)
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.where == "--method rcca+contrastive"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
