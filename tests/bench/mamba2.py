"""The whole Mamba-2 block against the torch path of transformers' Mamba-2 mixer.

Run: `python tests/bench/mamba2.py --json`. Width 128, 40,960 tokens, float32, one thread, CPU
time in turns, the same weights in both. `best` is the peer's chunk of 64, `default` its 256;
`..._memory_...` is our extra peak memory over the peer's. The peer is a development dependency.
"""

from __future__ import annotations

import logging
import sys

import torch
from measure import arguments, peak_elsewhere, peak_mib, seconds_in_turns, show
from torch import Tensor, nn

from neurocli.core.nn.mamba2 import Mamba2, RMSNorm

WIDTH, STATE = 128, 32
LENGTH, MODEL_LENGTH, N_LAYERS = 40_960, 20_480, 4
CHUNKS = {"best": 64, "default": 256}


class Layers(nn.Module):
    """Stack blocks with a norm before each and a residual, as FMamba does."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(RMSNorm(WIDTH) for _ in blocks)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens (b,L,E)."""
        for norm, block in zip(self.norms, self.blocks, strict=True):
            tokens = tokens + block(norm(tokens))
        return tokens


def block_of(seed: int = 0) -> Mamba2:
    """Return our block."""
    torch.manual_seed(seed)
    return Mamba2(WIDTH, STATE)


def peer_of(block: Mamba2, chunk: int) -> nn.Module:
    """Return the peer's block with the same weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = Mamba2Config(
        hidden_size=WIDTH, state_size=STATE, num_heads=block.nheads, head_dim=block.headdim,
        expand=2, conv_kernel=block.d_conv, n_groups=1, chunk_size=chunk, use_bias=False,
        use_conv_bias=True, rms_norm=True, time_step_limit=(0.0, float("inf")),
    )  # fmt: skip
    peer = Mamba2Mixer(config, layer_idx=0)
    peer.load_state_dict(block.state_dict())
    return peer


def run(model: nn.Module, u: Tensor, *, train: bool) -> None:
    """Mix once, and differentiate."""
    if not train:
        with torch.no_grad():
            model(u)
        return
    y = model(u)
    torch.autograd.grad(y, [u, *model.parameters()], torch.ones_like(y))


def named(name: str) -> nn.Module:
    """Return "ours", or the peer at "best" or "default"."""
    block = block_of()
    return block if name == "ours" else peer_of(block, CHUNKS[name])


def peak(what: str) -> float:
    """Return the extra peak memory of one pass in this process, MiB."""
    name, mode = what.split("-")
    model, train = named(name), mode == "train"
    for length in (1024, LENGTH):
        u = torch.randn(1, length, WIDTH, requires_grad=train)
        extra = peak_mib(lambda: run(model, u, train=train))  # noqa: B023
    return extra


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=4)
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    models = {name: named(name) for name in ("ours", *CHUNKS)}
    u = torch.randn(1, 4096, WIDTH)
    with torch.no_grad():
        outputs = {name: model(u) for name, model in models.items()}
    figures: dict[str, object] = {"threads": 1, "tokens": LENGTH}
    figures["largest_difference"] = max(
        float((outputs["ours"] - outputs[name]).abs().max()) for name in CHUNKS
    )
    ratios: dict[str, float] = {}
    for mode in ("infer", "train"):
        train = mode == "train"
        u = torch.randn(1, LENGTH, WIDTH, requires_grad=train)
        works = {
            name: (lambda model=model: run(model, u, train=train))  # noqa: B023
            for name, model in models.items()
        }
        times = seconds_in_turns(works, options.runs)
        sizes = {name: peak_elsewhere(__file__, f"{name}-{mode}") for name in ("ours", "best")}
        figures |= {f"{mode}_ms": 1000 * times["ours"], f"{mode}_memory_mib": sizes["ours"]}
        for name in CHUNKS:
            ratios[f"transformers_block_{mode}_{name}"] = times[name] / times["ours"]
        ratios[f"transformers_block_memory_{mode}_best"] = sizes["ours"] / sizes["best"]
    blocks = [block_of(seed) for seed in range(N_LAYERS)]
    stacks = {"ours": Layers([*blocks]), "best": Layers([peer_of(b, 64) for b in blocks])}
    u = torch.randn(1, MODEL_LENGTH, WIDTH, requires_grad=True)
    works = {name: (lambda m=model: run(m, u, train=True)) for name, model in stacks.items()}
    times = seconds_in_turns(works, options.runs)
    ratios[f"transformers_model{N_LAYERS}_train_best"] = times["best"] / times["ours"]
    figures[f"model{N_LAYERS}_train_ms"] = 1000 * times["ours"]
    show("mamba2", ratios, figures, options.json)


if __name__ == "__main__":
    try:
        import transformers  # noqa: F401
    except ImportError:
        sys.exit("the peer is absent: pip install 'neurocli[dev]'")
    main()
