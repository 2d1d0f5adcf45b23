"""The scan's errors and small parts; its numbers are in tests/numerics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from neurocli.core.errors import NeuroError
from neurocli.core.nn.ssd import segment_ids, ssd_scan, step_sizes


def test_segment_ids_number_the_changes() -> None:
    assert segment_ids(torch.tensor([[5, 5, 0, 0, 5]])).tolist() == [[0, 0, 1, 1, 2]]


def test_step_sizes_add_the_bias_before_softplus_and_clamp_after() -> None:
    # Expected: softplus(0) = ln 2 = 0.6931, softplus(-1) = 0.3133.
    got = step_sizes(
        torch.tensor([1.0, 1.0]), torch.tensor([-1.0, -2.0]), softplus=True, limit=(0.0, 0.5)
    )
    torch.testing.assert_close(got, torch.tensor([0.5, 0.31326169]))


def inputs() -> dict[str, Any]:
    return {
        "x": torch.zeros(2, 23, 4, 3),
        "dt": torch.zeros(2, 23, 4),
        "A": torch.zeros(4),
        "B": torch.zeros(2, 23, 2, 5),
        "C": torch.zeros(2, 23, 2, 5),
        "chunk_size": 8,
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "x axes": ({"x": torch.zeros(2, 23, 4)}, r"x has shape \(2, 23, 4\)"),
    "dt length": ({"dt": torch.zeros(2, 22, 4)}, r"dt has shape \(2, 22, 4\).*length 23"),
    "A": ({"A": torch.zeros(3)}, r"A has shape \(3,\).*heads 4"),
    "B batch": ({"B": torch.zeros(1, 23, 2, 5)}, r"B has shape \(1, 23, 2, 5\).*batch 2"),
    "C state": ({"C": torch.zeros(2, 23, 2, 6)}, r"C has shape.*state 5.*B \(2, 23, 2, 5\)"),
    "groups": (
        {"B": torch.zeros(2, 23, 3, 5), "C": torch.zeros(2, 23, 3, 5)},
        "B has 3 groups.*4 heads",
    ),
    "D": ({"D": torch.zeros(4, 2)}, r"D has shape \(4, 2\).*headdim 3"),
    "z": ({"z": torch.zeros(2, 23, 4, 2)}, r"z has shape \(2, 23, 4, 2\)"),
    "dt_bias": ({"dt_bias": torch.zeros(5)}, r"dt_bias has shape \(5,\)"),
    "initial_states": ({"initial_states": torch.zeros(2, 4, 5, 3)}, "initial_states has shape"),
    "seq_idx": ({"seq_idx": torch.zeros(23, dtype=torch.int32)}, r"seq_idx has shape \(23,\)"),
    "seq_idx dtype": ({"seq_idx": torch.zeros(2, 23)}, "seq_idx has dtype torch.float32"),
    "integer x": ({"x": torch.zeros(2, 23, 4, 3, dtype=torch.int64)}, "x has dtype torch.int64"),
    "chunk_size": ({"chunk_size": 0}, "chunk_size is 0"),
    "dt_limit": ({"dt_limit": (1.0, 0.5)}, r"dt_limit \(1.0, 0.5\)"),
    "no tokens": ({"x": torch.zeros(2, 0, 4, 3)}, r"x has shape \(2, 0, 4, 3\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case: str) -> None:
    changed, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        ssd_scan(**inputs() | changed)
    assert isinstance(caught.value, NeuroError)


def test_work_is_linear_in_length() -> None:
    # Expected: twice the tokens, twice the operations (a product over all chunks would give four
    # times), also with recomputation for the backward pass.
    counts = []
    for length in (2048, 4096):
        call = {
            name: value.repeat(1, length, *[1] * (value.ndim - 2)).requires_grad_()
            for name, value in inputs().items()
            if name in ("x", "dt", "B", "C")
            for value in [value[:1, :1]]
        }
        with FlopCounterMode(display=False) as counter:
            ssd_scan(**call, A=torch.zeros(4), chunk_size=8).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.01)


def test_training_keeps_the_inputs_only() -> None:
    # Expected: blocks are computed again, so nothing of size tokens x chunk x heads stays alive.
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    call = inputs() | {"chunk_size": 64}
    for name in ("x", "dt", "B", "C"):
        value = call[name][:1, :1]
        call[name] = value.repeat(1, 8192, *[1] * (value.ndim - 2)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = ssd_scan(**call)
    assert max(kept, default=0) <= call["x"].numel()
    y.sum().backward()
    assert bool(torch.isfinite(call["x"].grad).all())
