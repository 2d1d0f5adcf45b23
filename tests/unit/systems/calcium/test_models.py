"""Encoders against torch's own convolutions and the published package, and the loss in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neurocli.core.engine.weights import read_weights
from neurocli.core.errors import InputError
from neurocli.core.nn.contrastive import prior_info_nce
from neurocli.core.nn.shapes import ShapeError
from neurocli.systems.calcium.config import FIELDS
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.models.products import convolved
from neurocli.systems.calcium.official import layer_names, official_names, recognise


def encoders(encoder: str, neurons: tuple[int, ...] = (9,), **options: Any) -> SessionEncoders:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"encoder": encoder, "hidden": 8, "outputs": 6, **options}
    return SessionEncoders(neurons, **sizes)


@pytest.mark.parametrize("frames", [3, 11])
@pytest.mark.parametrize("taps", [1, 2, 3])
def test_matrix_products_are_convolutions(frames: int, taps: int) -> None:
    layer = nn.Conv1d(5, 7, taps).double()
    x = torch.randn(frames, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = layer(x.permute(1, 2, 0)).permute(2, 0, 1)
    assert torch.allclose(convolved(x, layer.weight, layer.bias), expected, atol=1e-12)
    assert torch.autograd.gradcheck(convolved, (x, layer.weight, layer.bias))


def test_memory_in_another_order_is_the_same_convolution() -> None:
    layer = nn.Conv1d(5, 7, 2).double()
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    other = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not other.is_contiguous()
    assert torch.equal(
        convolved(other, layer.weight, layer.bias), convolved(x, layer.weight, layer.bias)
    )


@pytest.mark.parametrize("frames", [3, 9])
def test_a_residual_layer_is_what_it_says(frames: int) -> None:
    layer = nn.Conv1d(6, 6, 3).double()
    x = torch.randn(frames, 2, 6, dtype=torch.float64, requires_grad=True)
    expected = x[1:-1] + nn.functional.gelu(layer(x.permute(1, 2, 0)).permute(2, 0, 1))

    def residual(*values: torch.Tensor) -> torch.Tensor:
        return convolved(*values, is_residual=True)

    assert torch.allclose(residual(x, layer.weight, layer.bias), expected, atol=1e-12)
    assert torch.autograd.gradcheck(residual, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("encoder", ["offset1", "offset10"])
def test_scaling_in_the_weights_is_scaling_the_traces(encoder: str) -> None:
    model = encoders(encoder).double()
    rows = torch.randn(1, 30, 9, dtype=torch.float64)
    factor, shift = torch.rand(9).double() + 0.5, torch.randn(9).double()
    found = model.along(rows, 0, (factor, shift))
    assert torch.allclose(found, model.along(rows * factor + shift), atol=1e-12)


@pytest.mark.parametrize("encoder", FIELDS)
def test_windows_and_whole_recordings_agree(encoder: str) -> None:
    model = encoders(encoder).double()
    length = sum(FIELDS[encoder])
    rows = torch.randn(1, length + 20, 9, dtype=torch.float64)
    windows = rows[0].unfold(0, length, 1).mT
    along = model.along(rows)[0]
    assert along.shape == (21, 6)
    assert torch.allclose(model(windows), along, atol=1e-12)
    assert torch.allclose(along.norm(dim=1), torch.ones(21, dtype=torch.float64))


def test_sessions_share_the_trunk_unless_they_are_separate() -> None:
    shared, separate = (encoders("offset10", (9, 4), is_shared=own) for own in (True, False))
    assert len(shared.trunks) == 1
    assert len(separate.trunks) == 2
    assert shared(torch.randn(3, 10, 4), 1).shape == (3, 6)


def slow_loss(ref: np.ndarray, pos: np.ndarray, neg: np.ndarray, scale: float, kind: str) -> float:
    total = 0.0
    for i in range(len(ref)):
        if kind == "cosine":
            own, others = ref[i] @ pos[i], neg @ ref[i]
        else:
            own = -np.square(ref[i] - pos[i]).sum()
            others = -np.square(neg - ref[i]).sum(1)
        total += np.log(np.exp(scale * others).sum()) - scale * own
    return total / len(ref)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_the_loss_is_what_its_formula_says(kind: str) -> None:
    rng = np.random.default_rng(0)
    ref, pos, neg = (rng.normal(size=(n, 5)) for n in (7, 7, 12))
    found = prior_info_nce(*(torch.from_numpy(x) for x in (ref, pos, neg)), 1.7, distance=kind)
    assert float(found) == pytest.approx(slow_loss(ref, pos, neg, 1.7, kind), abs=1e-12)


def test_the_loss_refuses_what_makes_no_pairs() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ShapeError):
        prior_info_nce(x, x[:2], x, 1.0)
    with pytest.raises(ShapeError, match=r"manhattan"):
        prior_info_nce(x, x, x, 1.0, distance="manhattan")


@pytest.mark.parametrize("encoder", FIELDS)
@pytest.mark.parametrize("neurons", [(9,), (9, 4)])
def test_names_go_out_and_come_back(encoder: str, neurons: tuple[int, ...]) -> None:
    model = encoders(encoder, neurons, is_shared=len(neurons) == 1)
    weights = model.state_dict()
    official = official_names(weights, {}, {})
    back = recognise(official.bare)
    assert back is not None
    assert back.sizes["encoder"] == encoder
    assert back.sizes["n_neurons"] == list(neurons)
    assert back.weights.keys() == weights.keys()
    assert all(torch.equal(back.weights[name], weights[name]) for name in weights)


def package_model(encoder: str, n: int, normalised: bool = True) -> Any:
    cebra = pytest.importorskip("cebra")
    name = f"{encoder}-model" + ("" if normalised else "-mse")
    return cebra.models.init(name, n, 8, 6)


@pytest.mark.parametrize("encoder", FIELDS)
def test_the_package_takes_our_weights_and_gives_the_same(encoder: str) -> None:
    theirs = package_model(encoder, 9)
    model = encoders(encoder)
    theirs.load_state_dict(dict(official_names(model.state_dict(), {}, {}).bare), strict=True)
    theirs.eval()
    x = torch.randn(16, sum(FIELDS[encoder]), 9)
    assert torch.allclose(model(x), theirs(x.mT), atol=1e-6)
    assert set(layer_names(encoder).values()) == {n.rpartition(".")[0] for n in theirs.state_dict()}


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("is_learned", [False, True])
def test_loss_and_gradients_equal_the_packages(kind: str, is_learned: bool) -> None:
    cebra = pytest.importorskip("cebra")
    normalised = kind == "cosine"
    theirs = package_model("offset10", 9, normalised)
    model = encoders("offset10", is_normalised=normalised, temperature=0.7 if is_learned else None)
    weights = {n: v for n, v in model.state_dict().items() if n != "log_scale"}
    theirs.load_state_dict(dict(official_names(weights, {}, {}).bare))
    names = {("cosine", False): "FixedCosineInfoNCE", ("cosine", True): "LearnableCosineInfoNCE",
             ("euclidean", False): "FixedEuclideanInfoNCE",
             ("euclidean", True): "LearnableEuclideanInfoNCE"}  # fmt: skip
    criterion = getattr(cebra.models, names[kind, is_learned])(temperature=0.7)
    x = torch.randn(3, 64, 10, 9)
    scale = model.log_scale.exp() if model.log_scale is not None else 1 / 0.7
    ours = prior_info_nce(*(model(part) for part in x), scale, distance=kind)
    other = criterion(*(theirs(part.mT) for part in x))[0]
    assert ours.item() == pytest.approx(other.item(), abs=1e-6)
    ours.backward()
    other.backward()
    pairs = []
    for name, layer in layer_names("offset10").items():
        place = "inputs.0" if name == "inputs" else f"trunks.0.{name}"
        for part in ("weight", "bias"):
            own = model.get_parameter(f"{place}.{part}").grad
            assert own is not None
            pairs.append((own.flatten(), theirs.get_parameter(f"{layer}.{part}").grad.flatten()))
    # Together: the last bias moves all points alike, so under distances its gradient is zero.
    mine, peer = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert float((mine - peer).norm() / peer.norm()) < 1e-5
    if is_learned:
        assert model.log_scale is not None
        assert float(model.log_scale.grad) == pytest.approx(
            float(criterion.log_inverse_temperature.grad), rel=1e-4
        )


def test_a_package_file_is_read_and_a_pickled_model_is_not(tmp_path: Path) -> None:
    theirs = package_model("offset10", 9)
    path = tmp_path / "state.pth"
    torch.save({"state_dict": theirs.state_dict()}, path)
    weights, head = read_weights(path)
    assert "config" not in head
    found = recognise(weights)
    assert found is not None
    assert torch.equal(found.weights["inputs.0.weight"], theirs.state_dict()["net.0.weight"])
    whole = tmp_path / "whole.pth"
    torch.save(nn.Linear(2, 2), whole)
    with pytest.raises(InputError, match=r"only tensors and plain values|objects other"):
        read_weights(whole)
