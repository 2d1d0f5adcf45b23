"""The scan over packed sequences, in blocks and in pieces: nothing leaks over a border."""

from __future__ import annotations

import pytest
import torch
from scan_calls import both, random_call, relative, slow_scan
from torch import Tensor

from neurocli.core.nn import ssd_blocks

SEGMENTS = {
    "rising": [0] * 5 + [1] * 9 + [2] * 9,
    "at chunk borders": [0] * 8 + [1] * 8 + [2] * 7,
    "single tokens": list(range(23)),
    "value comes back": [4] * 3 + [1] * 2 + [4] * 10 + [0] * 8,
    "within one chunk": [0, 1, 1, 2, 0] + [5] * 18,
    "one segment": [3] * 23,
}


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("chunk_size", [1, 4, 8, 64])
def test_state_restarts_where_the_segment_changes(name: str, chunk_size: int) -> None:
    # Expected: the float64 loop; the second row has other borders than the first.
    rows = [SEGMENTS[name], SEGMENTS[name][::-1]]
    call = random_call() | {"seq_idx": torch.tensor(rows)}
    y, states = both(call, chunk_size)
    want_y, want_states = slow_scan(**call)
    assert relative(y, want_y) <= 1e-12
    assert relative(states, want_states) <= 1e-12


def test_packed_sequences_equal_separate_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # Expected: our own scan of each piece; blocks are made tiny, so borders meet block borders.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 1)
    call = random_call(batch=1, length=40)
    del call["initial_states"]
    pieces = [11, 5, 1, 23]
    seq_idx = torch.repeat_interleave(torch.arange(4), torch.tensor(pieces)).unsqueeze(0)
    packed, _ = both(call | {"seq_idx": seq_idx}, 4)
    start = 0
    for length in pieces:
        part = {
            key: value[:, start : start + length] if key in ("x", "dt", "B", "C", "z") else value
            for key, value in call.items()
        }
        alone, _ = both(part, 4)
        assert relative(packed[:, start : start + length], alone) <= 1e-13
        start += length


@pytest.mark.parametrize("chunk_size", [1, 4, 5])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk_size: int) -> None:
    # Expected: the same call in one block; outputs and every gradient.
    seq_idx = torch.tensor([[0] * 9 + [1] * 14, [0] * 20 + [2] * 3])
    results = []
    for limit in (1, 1 << 20):
        monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", limit)
        call = random_call()
        floats = [value.requires_grad_() for value in call.values() if isinstance(value, Tensor)]
        y, states = both(call | {"seq_idx": seq_idx}, chunk_size)
        (y.sin().sum() + states.cos().sum()).backward()
        results.append([y.detach(), states.detach(), *(value.grad for value in floats)])
    for many, one in zip(*results, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-12, atol=1e-12)


def test_a_scan_may_be_continued() -> None:
    # Expected: the scan in one go.
    call = random_call(length=30)
    y, states = both(call)
    halves = []
    carried = call["initial_states"]
    for part in (slice(0, 13), slice(13, 30)):
        piece = {k: v[:, part] if k in ("x", "dt", "B", "C", "z") else v for k, v in call.items()}
        half, carried = both(piece | {"initial_states": carried})
        halves.append(half)
    assert relative(torch.cat(halves, 1), y) <= 1e-12
    assert relative(carried, states) <= 1e-12


def test_a_row_does_not_feel_the_other_rows() -> None:
    # Expected: the row alone.
    call = random_call(batch=3, dtype=torch.float32)
    y, _ = both(call)
    batched = ("x", "dt", "B", "C", "z", "initial_states")
    alone, _ = both({k: v[1:2] if k in batched else v for k, v in call.items()})
    assert relative(y[1:2], alone.numpy()) <= 1e-6


def test_later_tokens_do_not_reach_earlier_ones() -> None:
    # Expected: exactly no gradient from the past to the future, over chunk and block borders.
    call = random_call(length=20)
    call["x"].requires_grad_()
    both(call, 4)[0][:, :11].sum().backward()
    assert torch.equal(call["x"].grad[:, 11:], torch.zeros(2, 9, 4, 3, dtype=torch.float64))
