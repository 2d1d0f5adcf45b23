"""Weights from common files, and what does not fit; names are written out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neurocli.core.engine.checkpoint import (
    export_safetensors,
    load_weights,
    read_weights,
    save_checkpoint,
)
from neurocli.core.errors import InputError, NeuroError


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_all_weights_and_buffers_are_loaded() -> None:
    source, target = _model(), _model()
    with torch.no_grad():
        source[0].weight.fill_(2.0)
        source[1].running_mean.fill_(3.0)
    report = load_weights(target, source.state_dict(), label="x.pth")
    assert bool((target[0].weight == 2.0).all())
    assert bool((target[1].running_mean == 3.0).all())
    assert len(report.loaded) == len(source.state_dict())
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())


def test_what_does_not_fit_is_one_line_of_few_names() -> None:
    weights: dict[str, Any] = dict(_model().state_dict())
    del weights["0.bias"]
    weights["0.weight"] = torch.zeros(3, 3)
    weights.update({f"extra.{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(NeuroError) as caught:
        load_weights(_model(), weights, label="x.pth")
    assert str(caught.value) == (
        "x.pth: the weights do not fit Sequential: 1 missing (0.bias); "
        "9 unexpected (extra.0, extra.1, extra.2, extra.3, extra.4, ...); "
        "1 of another shape (0.weight (3, 3) for (2, 3))"
    )


def test_not_strict_loads_what_fits_and_reports_the_rest() -> None:
    weights = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(5), "head.weight": torch.ones(1)}
    model = _model()
    report = load_weights(model, weights, strict=False, label="x.pth")
    assert report.loaded == ("0.weight",)
    assert report.misshapen == ("0.bias",)
    assert report.unexpected == ("head.weight",)
    assert "1.weight" in report.missing
    assert bool((model[0].weight == 1.0).all())


def test_not_strict_but_nothing_fits_is_an_error() -> None:
    with pytest.raises(NeuroError, match="do not fit"):
        load_weights(_model(), {"other": torch.ones(1)}, strict=False, label="x.pth")
    with pytest.raises(NeuroError, match="do not fit"):
        load_weights(_model(), {}, strict=False, label="x.pth")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.full((2, 3), float("nan")), "0.weight holds NaN or infinity"),
        (torch.ones(2, 3, dtype=torch.int64), r"0.weight is torch.int64, the model holds"),
        ("not a tensor", r"1 of another shape \(0.weight str for"),
    ],
)
def test_values_that_cannot_be_weights(value: Any, problem: str) -> None:
    with pytest.raises(NeuroError, match=problem):
        load_weights(_model(), {**_model().state_dict(), "0.weight": value}, label="x.pth")


def test_half_precision_weights_are_widened() -> None:
    weights = {
        name: v.half() if v.is_floating_point() else v for name, v in _model().state_dict().items()
    }
    model = _model()
    load_weights(model, weights, label="x.pth")
    assert model[0].weight.dtype is torch.float32


def test_our_checkpoint_gives_weights_and_the_run(tmp_path: Path) -> None:
    weights = {"model.inner.weight": torch.ones(2)}
    payload = {"state_dict": weights, "optimizer": {"state": {}}, "rng": {}, "split": {"train": []}}
    path = save_checkpoint(tmp_path / "last.pth", payload)
    found, head = read_weights(path)
    # Our own names are never touched, whatever they begin with.
    assert list(found) == ["model.inner.weight"]
    assert head == {"schema": "neuro/checkpoint/1", "split": {"train": []}}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["model.a", "model.b"], ["a", "b"]),
        (["_forward_module.module.model._orig_mod.a"], ["a"]),
        (["model.a", "criterion.weight"], ["a", "criterion.weight"]),
        (["model.a", "a"], ["model.a", "a"]),
        (["encoder.model.a"], ["encoder.model.a"]),
    ],
)
def test_prefixes_of_wrappers(tmp_path: Path, names: list[str], wanted: list[str]) -> None:
    path = tmp_path / "x.ckpt"
    state = {name: torch.ones(1) for name in names}
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, path)
    assert list(read_weights(path)[0]) == wanted
    torch.save(state, path)  # a bare state dict
    assert list(read_weights(path)[0]) == wanted
    assert read_weights(path)[1] == {}


@pytest.mark.parametrize(
    "content", [[torch.ones(1)], {"epoch": 3}, {"state_dict": {}}, torch.ones(2)]
)
def test_files_without_weights_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no weights"):
        read_weights(tmp_path / "x.pth")


def test_safetensors_round_trip_with_tied_weights(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {"a": shared, "b": shared.T, "n": torch.tensor(3), "h": torch.ones(2).half()}
    path = export_safetensors(tmp_path / "x.safetensors", weights, {"model": "fmamba"})
    found, head = read_weights(path)
    assert head == {}
    assert set(found) == set(weights)
    for name, value in weights.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype is value.dtype


def test_safetensors_of_others_and_under_another_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"model.w": torch.ones(2)}, tmp_path / "x.safetensors")
    assert list(read_weights(tmp_path / "x.safetensors")[0]) == ["w"]
    (tmp_path / "x.safetensors").rename(tmp_path / "x.bin")
    assert list(read_weights(tmp_path / "x.bin")[0]) == ["w"]


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = export_safetensors(tmp_path / "x.safetensors", _model().state_dict(), {})
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[-3] ^= 1
    claims = (10**17).to_bytes(8, "little") + content[8:]
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}).encode()
    lies = len(header).to_bytes(8, "little") + header + bytes(4)
    cases = {
        "SHA-256": bytes(damaged),
        "claims a header": claims,
        "no sound safetensors": lies,
        "no sound": content[:-5],
    }
    for problem, bad in cases.items():
        path.write_bytes(bad)
        with pytest.raises(InputError, match=problem):
            read_weights(path)


def test_a_torch_file_named_safetensors_is_still_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "x.safetensors")
    assert list(read_weights(tmp_path / "x.safetensors")[0]) == ["w"]
