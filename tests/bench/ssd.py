"""The state-space-dual scan against its segment-sum form, known as ssd_minimal.

Run: `python tests/bench/ssd.py --json`. Batch 1, 4 heads of 64, state 32, float32, one thread,
CPU time in turns; the peer at its best chunk of 32, 64 and 128. `..._train_...` is forward and
backward; `..._memory_...` is our extra peak memory over the peer's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from measure import arguments, peak_elsewhere, peak_mib, seconds_in_turns, show
from torch import Tensor

from neurocli.core.nn.ssd import ssd_scan

LENGTHS = (16_384, 81_920)
MEMORY_LENGTH = 40_960
SCALES = (1, 3, 10, 30, 100, 300, 1000)
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(length: int, *, scale: float = 1.0, trained: bool = False) -> Inputs:
    """Return x, dt, A, B, C as a fresh Mamba-2 block makes them: dt 0.001 to 0.1, A -1 to -16."""
    gen = torch.Generator().manual_seed(0)
    low, high = math.log(1e-3), math.log(1e-1)
    made = (
        torch.randn(1, length, 4, 64, generator=gen),
        torch.empty(1, length, 4).uniform_(low, high, generator=gen).exp() * scale,
        -torch.empty(4).uniform_(1, 16, generator=gen),
        torch.randn(1, length, 1, 32, generator=gen),
        torch.randn(1, length, 1, 32, generator=gen),
    )
    return tuple(part.requires_grad_(trained) for part in made)  # type: ignore[return-value]


def segment_sums(logs: Tensor) -> Tensor:
    """Return sums of logs over j < k <= i as (..., i, j), minus infinity above the diagonal."""
    size = logs.shape[-1]
    square = logs.unsqueeze(-1).expand(*logs.shape, size)
    lower = torch.ones(size, size, dtype=torch.bool).tril(-1)
    sums = square.masked_fill(~lower, 0).cumsum(-2)
    return sums.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), -math.inf)


def ssd_minimal(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> Tensor:
    """Scan as Dao and Gu 2024 define it in section 6: decay matrices per head, states by a product.

    Letters: c chunks, l and s tokens of a chunk, z chunks again.
    """
    n_heads = x.shape[2]
    B, C = (maps.expand(-1, -1, n_heads, -1).unflatten(1, (-1, chunk)) for maps in (B, C))
    steps = (x * dt.unsqueeze(-1)).unflatten(1, (-1, chunk))
    logs = (dt * A).unflatten(1, (-1, chunk)).permute(0, 3, 1, 2)
    summed = logs.cumsum(-1)
    decay = segment_sums(logs).exp()
    inside = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, decay, steps)
    to_end = (summed[..., -1:] - summed).exp()
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, to_end, steps)
    states = F.pad(states, (0, 0) * 3 + (1, 0))
    between = segment_sums(F.pad(summed[..., -1], (1, 0))).exp()
    states = torch.einsum("bhzc,bchpn->bzhpn", between, states)[:, :-1]
    carried = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, states, summed.exp())
    return (inside + carried).flatten(1, 2)


def slow_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Step through the recurrence in float64."""
    x, dt, A, B, C = (part.double() for part in (x, dt, A, B, C))
    state = x.new_zeros(*x.shape[2:], B.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        added = (dt[0, t, :, None] * x[0, t]).unsqueeze(-1) * B[0, t]
        state = (dt[0, t] * A).exp()[:, None, None] * state + added
        outputs.append(state @ C[0, t, 0])
    return torch.stack(outputs).unsqueeze(0)


def run(name: str, parts: Inputs, chunk: int, *, train: bool) -> None:
    """Scan once, and differentiate."""
    if not train:
        with torch.no_grad():
            ssd_scan(*parts, chunk) if name == "ours" else ssd_minimal(*parts, chunk)
        return
    y = ssd_scan(*parts, chunk) if name == "ours" else ssd_minimal(*parts, chunk)
    assert isinstance(y, Tensor)
    torch.autograd.grad(y, parts, torch.ones_like(y))


def peak(what: str) -> float:
    """Return the extra peak memory of one scan in this process, MiB."""
    name, mode = what.split("-")
    for length in (1024, MEMORY_LENGTH):
        parts = inputs(length, trained=mode == "train")
        extra = peak_mib(lambda: run(name, parts, 64, train=mode == "train"))  # noqa: B023
    return extra


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=5)
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    short = inputs(8192)
    chunks = {str(q): (lambda q=q: run("peer", short, q, train=False)) for q in (32, 64, 128)}
    taken = seconds_in_turns(chunks, options.runs)
    best = int(min(taken, key=lambda q: taken[q]))
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {"threads": 1, "peer_chunk": best}
    ours: dict[str, dict[int, float]] = {"fwd": {}, "train": {}}
    for length in (4096, *LENGTHS):
        for mode in ours:
            train = mode == "train"
            parts = inputs(length, trained=train)
            # The longest peer run takes seconds and much memory, so it gets fewer turns.
            turns = min(options.runs, 2) if length > LENGTHS[0] else options.runs
            works = {
                name: (lambda name=name: run(name, parts, best, train=train))  # noqa: B023
                for name in ("ours", "peer")
            }
            times = seconds_in_turns(works, turns)
            ours[mode][length] = times["ours"]
            figures[f"{mode}_{length}_ms"] = 1000 * times["ours"]
            if length in LENGTHS:
                ratios[f"ssd_minimal_{mode}_{length}"] = times["peer"] / times["ours"]
    for mode, taken_by in ours.items():
        grown = taken_by[LENGTHS[-1]] / taken_by[4096]
        figures[f"{mode}_length_exponent"] = math.log(grown) / math.log(LENGTHS[-1] / 4096)
        sizes = [peak_elsewhere(__file__, f"{name}-{mode}") for name in ("ours", "peer")]
        ratios[f"ssd_minimal_memory_{mode}_{MEMORY_LENGTH}"] = sizes[0] / sizes[1]
        figures[f"{mode}_memory_mib"] = sizes[0]
    for scale in SCALES:
        parts = inputs(1024, scale=scale)
        want, got = slow_scan(*parts), ssd_scan(*parts, 64)
        assert isinstance(got, Tensor)
        figures[f"error_dt_x{scale}"] = float((got - want).abs().max() / want.abs().max())
    show("ssd", ratios, figures, options.json)


if __name__ == "__main__":
    main()
