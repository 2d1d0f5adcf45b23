"""Encoders layer by layer against functional torch, their symmetries, and how they are built."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli import load_config
from neurocli.systems.calcium.config import FIELDS, N_SKIPS
from neurocli.systems.calcium.models.build import build
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.models.products import convolved


def encoders(encoder: str, neurons: tuple[int, ...] = (5,), **options: Any) -> SessionEncoders:
    """Return encoders in float64."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden": 8, "outputs": 3, **options}
    return SessionEncoders(neurons, encoder=encoder, **sizes).double().eval()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Return normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(model: SessionEncoders, windows: Tensor, session: int = 0) -> Tensor:
    """Return what the published layers give, with torch's own convolutions, channels first."""
    state, x = dict(model.named_parameters()), windows.mT
    trunk = 0 if model.is_shared else session

    def layer(name: str, value: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv1d(value, weight if weight.ndim == 3 else weight[..., None], bias)

    x = F.gelu(layer(f"inputs.{session}", x))
    n_skips = sum(name.startswith(f"trunks.{trunk}.skips") for name in state) // 2
    for number in range(n_skips):
        found = F.gelu(layer(f"trunks.{trunk}.skips.{number}", x))
        x = found if model.trunks[trunk].is_framewise else found + x[..., 1:-1]
    x = layer(f"trunks.{trunk}.out", x).squeeze(-1)
    return x / x.norm(dim=1, keepdim=True) if model.is_normalised else x


@pytest.mark.parametrize("encoder", FIELDS)
@pytest.mark.parametrize("is_normalised", [True, False])
def test_layers_are_those_of_the_family(encoder: str, is_normalised: bool) -> None:
    model = encoders(encoder, is_normalised=is_normalised)
    windows = drawn(4, sum(FIELDS[encoder]), 5)
    assert torch.allclose(model(windows), plain(model, windows), atol=1e-12)


@pytest.mark.parametrize("is_shared", [True, False])
def test_each_session_takes_layers_of_its_own(is_shared: bool) -> None:
    model = encoders("offset10", (5, 5), is_shared=is_shared)
    windows = drawn(4, 10, 5)
    first, second = model(windows, 0), model(windows, 1)
    assert torch.allclose(first, plain(model, windows, 0), atol=1e-12)
    assert torch.allclose(second, plain(model, windows, 1), atol=1e-12)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("encoder", "expected"), [
    # N = 5, H = 8, D = 3, taps times channels times width plus width, layer by layer:
    ("offset1", 5 * 8 + 8 + 8 * 8 + 8 + 8 * 4 + 4 + 4 * 3 + 3),
    ("offset5", 2 * 5 * 8 + 8 + 1 * (3 * 64 + 8) + 2 * 8 * 3 + 3),
    ("offset10", 2 * 5 * 8 + 8 + 3 * (3 * 64 + 8) + 3 * 8 * 3 + 3),
    ("offset36", 2 * 5 * 8 + 8 + 16 * (3 * 64 + 8) + 3 * 8 * 3 + 3),
])  # fmt: skip
def test_parameters_by_hand(encoder: str, expected: int) -> None:
    assert sum(p.numel() for p in encoders(encoder).parameters()) == expected


@pytest.mark.parametrize("encoder", N_SKIPS)
def test_the_field_is_what_the_layers_eat(encoder: str) -> None:
    # One frame by the first layer, two by each residual one, the rest by the last layer.
    last = {"offset5": 2, "offset10": 3, "offset36": 3}[encoder]
    assert sum(FIELDS[encoder]) == 1 + 2 * N_SKIPS[encoder] + last
    model = encoders(encoder)
    length = sum(FIELDS[encoder])
    assert model.along(drawn(1, length, 5)).shape == (1, 1, 3)
    # Every frame of the field counts, the first and the last one too.
    windows = drawn(1, length, 5).requires_grad_()
    model(windows)[0, 0].backward()
    assert windows.grad is not None
    assert (windows.grad.abs().sum(2) > 0).all()


@pytest.mark.parametrize("encoder", ["offset1", "offset10"])
def test_renamed_neurons_change_nothing(encoder: str) -> None:
    model, windows = encoders(encoder), drawn(3, sum(FIELDS[encoder]), 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = model(windows)
    with torch.no_grad():
        model.inputs[0].weight.copy_(model.inputs[0].weight[:, order].clone())  # type: ignore[union-attr,index]
    assert torch.allclose(model(windows[..., order]), expected, atol=1e-12)
    assert not torch.allclose(model(windows), expected)


@pytest.mark.parametrize("encoder", FIELDS)
def test_a_shift_in_time_shifts_embeddings_and_batches_do_not_meet(encoder: str) -> None:
    model, rows = encoders(encoder), drawn(3, 60, 5)
    along = model.along(rows)
    assert torch.allclose(model.along(rows[:, 7:]), along[:, 7:], atol=1e-12)
    assert torch.allclose(model.along(rows[1:2]), along[1:2], atol=1e-12)


def test_gradients_of_products_are_those_of_convolutions() -> None:
    x, weight, bias = drawn(4, 30, 5), drawn(6, 5, 2, seed=2), drawn(6, seed=3)
    for own in (x, weight, bias):
        own.requires_grad_()
    expected = F.conv1d(x.permute(1, 2, 0), weight, bias).permute(2, 0, 1)
    found, cotangent = convolved(x, weight, bias), drawn(3, 30, 6, seed=4)
    for one, other in zip(
        torch.autograd.grad((found * cotangent).sum(), (x, weight, bias)),
        torch.autograd.grad((expected * cotangent).sum(), (x, weight, bias)),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("is_residual", [False, True])
def test_under_autocast_products_are_plain_convolutions(is_residual: bool) -> None:
    x, weight, bias = (v.float() for v in (drawn(7, 2, 4), drawn(4, 4, 3, seed=2), drawn(4)))
    with torch.autocast("cpu", torch.bfloat16):
        found = convolved(x, weight, bias, is_residual=is_residual)
    # bfloat16 keeps 8 bits; twelve products of about 1 are summed.
    assert torch.allclose(
        found.float(), convolved(x, weight, bias, is_residual=is_residual), atol=0.15
    )


@pytest.mark.parametrize("encoder", FIELDS)
def test_gradients_reach_every_weight(encoder: str) -> None:
    model = encoders(encoder, (5, 4), is_shared=False)
    sum(model(drawn(6, sum(FIELDS[encoder]), n), s).prod(1).sum() for s, n in enumerate((5, 4))
        ).backward()  # type: ignore[union-attr]  # fmt: skip
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
def test_a_learned_temperature_is_kept_as_the_logarithm_of_its_inverse(temperature: float) -> None:
    found = encoders("offset1", temperature=temperature).log_scale
    assert found is not None
    assert float(found.detach().exp()) == pytest.approx(1 / temperature)
    assert encoders("offset1").log_scale is None


def built(*settings: str, model: str = "cebra", **info: Any) -> SessionEncoders:
    torch.manual_seed(0)
    return build(load_config(model=model, set=list(settings)), info)


def test_building_follows_the_configuration() -> None:
    plain_one = built(n_neurons=[7, 4])
    assert [own.weight.shape for own in plain_one.inputs] == [(64, 7, 2), (64, 4, 2)]  # type: ignore[union-attr]
    assert len(plain_one.trunks) == 1
    assert plain_one.is_normalised
    assert plain_one.log_scale is None
    other = built(
        "data.mode=separate", "task.distance=euclidean", "task.learn_temperature=true",
        "task.temperature=0.25", "model.hidden_dim=12", "model.output_dim=5", n_neurons=[7, 4],
    )  # fmt: skip
    assert len(other.trunks) == 2
    assert not other.is_normalised
    assert other.trunks[0].out.weight.shape == (5, 12, 3)  # type: ignore[union-attr]
    assert float(other.log_scale.detach()) == pytest.approx(math.log(4))  # type: ignore[union-attr]


@pytest.mark.parametrize("encoder", FIELDS)
def test_the_name_of_a_model_is_its_field(encoder: str) -> None:
    model = built(model=f"cebra-{encoder}", n_neurons=[3])
    assert model.field == FIELDS[encoder]
    assert sum(model.field) == int(encoder.removeprefix("offset"))


def test_without_data_a_session_of_the_described_size_stands_in() -> None:
    assert built().inputs[0].weight.shape[1] == 150


def test_building_is_a_function_of_the_seed() -> None:
    one, two = built(n_neurons=[7]).state_dict(), built(n_neurons=[7]).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
