"""oneDNN's products are taken only where they cost no precision, and torch's setting comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from neurocli.core.nn import products


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    products.onednn_is_exact.cache_clear()
    yield
    products.onednn_is_exact.cache_clear()
    torch.set_float32_matmul_precision(before)


def test_the_check_leaves_no_trace() -> None:
    torch.set_float32_matmul_precision("highest")
    assert products.onednn_is_exact() in (True, False)
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_setting_comes_back_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_exact", lambda: True)
    torch.set_float32_matmul_precision("highest")
    seen = []

    def fail() -> None:
        with products.fast_products(torch.device("cpu")):
            seen.append(torch.get_float32_matmul_precision())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_inexact_products_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_exact", lambda: False)
    torch.set_float32_matmul_precision("highest")
    with products.fast_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_users_own_setting_stays() -> None:
    torch.set_float32_matmul_precision("high")
    with products.fast_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "high"
    with products.fast_products(torch.device("meta")):
        assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("n_sequences", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_products_are_written_and_summed_where_they_belong(
    n_sequences: int, dtype: torch.dtype
) -> None:
    # Expected: torch's own products of whole numbers, exact in both dtypes.
    gen = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (n_sequences, 6, 4), generator=gen).to(dtype)
    weight = torch.randint(-3, 4, (5, 4), generator=gen).to(dtype)
    whole = torch.zeros(n_sequences, 9, 5, dtype=torch.float64)
    products.project(x, weight, whole[:, 2:8])
    assert torch.equal(whole[:, 2:8], (x @ weight.t()).double())
    assert not whole[:, :2].any()
    assert not whole[:, 8:].any()
    total = torch.ones(5, 4, dtype=torch.float64)
    products.add_outer(total, whole[:, 2:8].to(dtype), x)
    assert torch.equal(total, 1 + torch.einsum("btf,bte->fe", whole[:, 2:8], x.double()))
