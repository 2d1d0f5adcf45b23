"""Encoding in chunks has the gradient of the whole batch, for every chunk, with dropout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.nn.chunked import encode_in_chunks
from neurocli.core.nn.pair_loss import pair_loss

N = 12


class Towers(nn.Module):
    """Encode two inputs; counts how often it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(7, 9), nn.GELU(), nn.Linear(9, 4))
        self.right = nn.Linear(5, 4)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls: list[int] = []

    def forward(self, a: Tensor, b: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.calls.append(len(a))
        right = self.right(b) if c is None else self.right(b) * c
        return (
            nn.functional.normalize(self.left(a), dim=-1),
            nn.functional.normalize(right, dim=-1),
        )


def gradients(model: Towers, chunk: int | None, *, with_third: bool = False) -> list[Tensor]:
    torch.manual_seed(1)
    dtype = next(model.parameters()).dtype
    a, b = torch.randn(N, 7, dtype=dtype), torch.randn(N, 5, dtype=dtype)
    third = torch.rand(N, 1, dtype=dtype) if with_third else None
    model.zero_grad()
    u, v = encode_in_chunks(model, [a, b, third], chunk)
    pair_loss(u, v, model.scale.exp()).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]


@pytest.mark.parametrize("chunk", range(1, N + 2))
@pytest.mark.parametrize("with_third", [False, True])
def test_every_chunk_has_the_gradient_of_the_whole(chunk: int, with_third: bool) -> None:
    torch.manual_seed(0)
    model = Towers().double()
    whole = gradients(model, None, with_third=with_third)
    cut = gradients(model, chunk, with_third=with_third)
    for mine, other in zip(cut, whole, strict=True):
        assert torch.allclose(mine, other, rtol=1e-12, atol=1e-14)


def test_the_scale_is_counted_once() -> None:
    # Caching features with a whole loss per chunk counts the scale's gradient once per chunk.
    model = Towers().double()
    whole, cut = gradients(model, None), gradients(model, 3)
    names = [name for name, _ in model.named_parameters()]
    at = names.index("scale")
    assert float(cut[at] / whole[at]) == pytest.approx(1.0, abs=1e-12)


def test_chunks_are_encoded_twice_and_the_whole_once() -> None:
    model = Towers()
    gradients(model, 5)
    assert sorted(model.calls) == [2, 2, 5, 5, 5, 5]
    model.calls.clear()
    gradients(model, None)
    assert model.calls == [N]


def test_random_state_is_replayed() -> None:
    # A module that draws from torch's own generator sees the same draws the second time.
    seen: list[Tensor] = []

    def encode(x: Tensor) -> tuple[Tensor]:
        noise = torch.rand_like(x)
        seen.append(noise)
        return (x * noise,)

    x = torch.ones(4, 3, requires_grad=True)
    torch.manual_seed(5)
    (out,) = encode_in_chunks(encode, [x], 2)
    out.sum().backward()
    assert len(seen) == 4
    first = torch.cat(seen[:2])
    assert torch.equal(out.detach(), first)
    assert torch.equal(x.grad, first)  # type: ignore[arg-type]


def test_without_gradients_nothing_is_cut() -> None:
    model = Towers()
    with torch.no_grad():
        encode_in_chunks(model, [torch.zeros(N, 7), torch.zeros(N, 5), None], 3)
    assert model.calls == [N]
