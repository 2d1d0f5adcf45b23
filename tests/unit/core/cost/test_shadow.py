"""Models without numbers: nothing is allocated, shapes and counts are those of real ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.cost.fake import measure_fake
from neurocli.core.cost.flops import (
    count_both,
    count_forward,
    count_train_step,
    on_shapes,
    scalar_of,
)
from neurocli.core.cost.measure import Plan, measure, measure_all
from neurocli.core.cost.shadow import build_on_meta, shadow_of
from neurocli.core.cost.target import Target, find_target
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, WorkFinished, WorkStarted

TINY = ["model.width=4"]
GRID = (16, 16, 32)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1)).eval()


class Gate(nn.Module):
    """Run a layer once more where the input is positive: work that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return self.layer(y) if float(x.sum()) > 0 else y  # type: ignore[no-any-return]


class Gated(Target):
    """A target whose cost depends on values."""

    def build(self) -> nn.Module:
        return Gate()

    def example(self) -> Tensor:
        return torch.ones(3, 4)


def test_a_terabyte_is_built_and_counted() -> None:
    build = lambda: nn.Linear(2**20, 2**18, bias=False)  # noqa: E731
    model = build_on_meta(build)
    weight = next(model.parameters())
    assert (weight.is_meta, weight.nbytes) == (True, 2**40)
    # One row, two operations per weight.
    assert count_forward(model, torch.empty(1, 2**20, device="meta")) == 2**39


def test_shadows_know_buffers_and_parameters_and_which_learn() -> None:
    def build() -> nn.Module:
        model = net()
        model[0].weight.requires_grad_(False)
        return model

    mode, model, x = shadow_of(build, lambda: torch.randn(2, 1, 4, 4, 4))
    assert [w.requires_grad for w in model.parameters()] == [False, *[True] * 5]
    with mode:
        assert model(x).shape == (2, 2, 2, 2, 2)
    assert x.device.type == "cpu"  # they pretend to lie on a real device


def test_counts_on_shapes_are_those_of_numbers() -> None:
    example = torch.randn(1, 1, 5, 6, 7)
    (forward, train), is_shape = on_shapes(net, lambda: example, count_both)
    # 3 x 4 x 5 outputs of 27 taps to four channels, then 4 x 2 products; two operations each.
    assert forward == 2 * 60 * (27 * 4 + 4 * 2) == count_forward(net(), example)
    # The images need no gradient: two times the first layer, three times the second.
    assert train == 2 * 60 * (2 * 27 * 4 + 3 * 8) == count_train_step(net(), example)
    assert is_shape


def test_what_depends_on_values_is_run_and_says_so() -> None:
    (forward, _), is_shape = on_shapes(Gate, lambda: torch.ones(3, 4), count_both)
    assert forward == 2 * (2 * 3 * 4 * 4)
    assert not is_shape
    # Another input, another count: this is why it was run.
    (forward, _), _ = on_shapes(Gate, lambda: -torch.ones(3, 4), count_both)
    assert forward == 2 * 3 * 4 * 4


def test_scalars_of_nothing_that_learns() -> None:
    assert float(scalar_of({"mask": torch.ones(3), "names": ["a"]})) == 0
    x = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    assert scalar_of((x, [x])).dtype == torch.float32
    scalar_of((x, [x])).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5] * 4  # a mean over four, twice


@pytest.mark.parametrize("mode", ["train", "inference", "both"])
def test_fake_records_hold_what_was_asked(mode: str) -> None:
    target = find_target("dualbranch_02_unet_xs", settings=TINY, input_shape=GRID)
    record = measure(target, Plan(3, mode, torch.device("cpu"), fake=True, stage_wise=True))
    assert (record["pam_train_bytes"] is None) == (mode == "inference")
    assert (record["pam_inference_bytes"] is None) == (mode == "train")
    assert {row["mode"] for row in record["stages"]} == (
        {"train", "inference"} if mode == "both" else {mode}
    )
    assert record["latency_ms"] == record["latency_train_ms"] == {}
    assert (record["device"], record["input_shape"]) == ("fake cpu", list(GRID))
    assert record["memory_method"].endswith("of tensors without numbers")


def test_no_stage_holds_more_than_the_pass_and_one_holds_as_much() -> None:
    target = find_target("dualbranch_02_unet_xs", settings=TINY, input_shape=GRID)
    record = measure_fake(target, mode="inference", stage_wise=True)
    peaks = [row["pam_mean"] for row in record["stages"]]
    assert max(peaks) == record["pam_inference_bytes"]["mean"]
    assert record["pam_inference_bytes"]["std"] == 0.0


def test_listeners_hear_of_every_model_and_failures_stop_nobody() -> None:
    good = find_target("dualbranch_02_unet_xs", settings=TINY, input_shape=GRID)
    bad = Gated(**vars(find_target("fmamba")))
    heard: list[object] = []
    measured, left_out = measure_all(
        [bad, good], Plan(1, "inference", torch.device("cpu"), fake=True), listener=heard.append
    )
    assert [row["model"] for row in measured] == ["dualbranch_02_unet_xs"]
    assert [name for name, _ in left_out] == ["fmamba"]
    assert heard[0] == WorkStarted("profile", 2, "models")
    assert isinstance(heard[-1], WorkFinished)
    told = [(event.name, event.status) for event in heard if isinstance(event, ItemDone)]
    assert told == [("fmamba", "failed"), ("dualbranch_02_unet_xs", "done")]
    with pytest.raises(NeuroError, match="no model could be measured"):
        measure_all([bad], Plan(1, "train", torch.device("cpu"), fake=True))
