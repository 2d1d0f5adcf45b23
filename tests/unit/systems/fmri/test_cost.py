"""The closed formulas against the spec's table, the built model and torch's mended counter."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.cost.flops import count_forward, count_train_step
from neurocli.core.errors import UsageError
from neurocli.core.nn.mamba2 import head_size
from neurocli.systems.fmri.cost import clip_cost, count_parameters, default_info

SMALL = (24, 24, 24, 8)
CASES: list[tuple[str, list[str], tuple[int, ...]]] = [
    ("fmamba", ["model.embed_dim=64", "model.depth=2"], SMALL),
    ("fmamba", ["model.embed_dim=128", "model.depth=2", "model.patch_size=6,6,6,2"], SMALL),
    ("fmamba", ["model.embed_dim=40", "model.depth=1", "model.d_state=7"], (12, 18, 6, 3)),
    ("fmamba", ["model.embed_dim=32", "model.depth=1", "model.d_state=72"], SMALL),
    ("fmamba", ["model.embed_dim=32", "model.depth=1", "model.expand=3"], (12, 12, 12, 2)),
    ("fmamba", ["model.embed_dim=64", "model.depth=1", "model.chunk_size=32"], (36, 36, 36, 6)),
    ("fmamba_mlp", ["model.embed_dim=64", "model.depth=3"], (24, 30, 24, 8)),
    ("fmamba_mlp", ["model.embed_dim=64", "model.depth=1", "model.pe_method=cpe"], SMALL),
    ("fmamba_mlp", ["model.embed_dim=64", "model.depth=1", "model.bidirectional=true"], SMALL),
    ("fmamba_conv_mlp", ["model.embed_dim=32", "model.depth=1"], SMALL),
    ("fmamba_conv_mlp", ["model.embed_dim=24", "model.depth=1"], (12, 18, 12, 9)),
    ("fmamba_mamba_head", ["model.embed_dim=64", "model.depth=1"], SMALL),
    ("fmamba_mamba_head", ["model.embed_dim=48", "model.depth=1"], (12, 18, 12, 9)),
    ("fmamba_mamba_head_fn", ["model.embed_dim=64", "model.depth=2"], SMALL),
    ("fmamba", ["model.embed_dim=40", "model.depth=1", "task.objective=mim"], SMALL),
    ("fmamba", ["model.embed_dim=40", "model.depth=1", "task.objective=contrastive"], SMALL),
]


def _build(name: str, settings: list[str], shape: tuple[int, ...]) -> tuple[Any, RunConfig, dict]:
    config = load_config(set=settings, model=name)
    info = default_info(config, shape)
    _, card = find_model(name)
    return resolve(card.build)(config, info).eval(), config, info


# The published sizes (E, parameters with and without the output layer), patch 6,6,6,2, 12 layers.
@pytest.mark.parametrize(
    ("width", "pretrain", "backbone"),
    [
        (64, "0.389", "0.361"),
        (128, "1.419", "1.363"),
        (192, "3.092", "3.008"),
        (256, "5.406", "5.295"),
        (384, "11.96", "11.80"),
        (512, "21.09", "20.86"),
        (768, "47.04", "46.70"),
    ],
)
def test_parameters_of_the_published_sizes(width: int, pretrain: str, backbone: str) -> None:
    settings = [f"model.embed_dim={width}", "model.depth=12", "model.patch_size=6,6,6,2"]
    count = count_parameters(load_config(set=settings, model="fmamba"), {})
    with_head = count_parameters(load_config(set=settings, model="fmamba_mlp"), {"n_outputs": 2})
    # The table is rounded, not always to the nearest: one unit of its last digit.
    for found, said in ((count, pretrain), (with_head - 2 * (width + 1), backbone)):
        digits = len(said.partition(".")[2])
        assert found / 1e6 == pytest.approx(float(said), abs=10**-digits)


@pytest.mark.parametrize(("name", "settings", "shape"), CASES)
def test_parameters_equal_the_built_model(
    name: str, settings: list[str], shape: tuple[int, ...]
) -> None:
    model, config, info = _build(name, settings, shape)
    assert count_parameters(config, info) == sum(part.numel() for part in model.parameters())


def test_the_head_counts_its_outputs() -> None:
    config = load_config(set=["model.embed_dim=64"], model="fmamba_mlp")
    one, five = (count_parameters(config, {"n_outputs": n}) for n in (1, 5))
    assert five - one == 4 * 65
    assert count_parameters(config, {}) == one + 65


@pytest.mark.parametrize(("name", "settings", "shape"), CASES)
def test_operations_equal_torchs_counter(
    name: str, settings: list[str], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model, config, info = _build(name, settings, shape)
    example = torch.randn(1, 1, *shape)
    cost = clip_cost(config, info)
    # The formula lets the convolution read before the first token, and torch does not.
    assert cost["flops"] == pytest.approx(count_forward(model, example), rel=2e-3)
    assert cost["flops_train_step"] == pytest.approx(count_train_step(model, example), rel=1e-2)


def test_only_large_states_are_computed_again_backwards() -> None:
    # E 64, I 128, chunks of 64: 2QN and 2NI per token and layer where N is above 64, the chunk.
    for state, again in {16: 0, 64: 0, 72: 64 * 72 + 72 * 128}.items():
        settings = ["model.embed_dim=64", "model.depth=1", f"model.d_state={state}"]
        config = load_config(set=settings, model="fmamba")
        cost = clip_cost(config, default_info(config, (24, 24, 24, 80)))
        extra = cost["flops_train_step"] - 3 * cost["flops"] + cost["components"]["embedding"]
        assert extra == 2 * cost["tokens"] * again


def test_reading_both_ways_does_the_layers_twice() -> None:
    settings = ["model.embed_dim=64", "model.depth=3"]
    one, two = (
        clip_cost(load_config(set=[*settings, *more], model="fmamba_mlp"), {"img_size": SMALL})
        for more in ([], ["model.bidirectional=true"])
    )
    assert one["params"] == two["params"]
    for part, flops in one["components"].items():
        times = 1 if part in ("embedding", "head") else 2
        assert two["components"][part] == times * flops


def test_the_conv_head_says_how_many_tokens_it_needs() -> None:
    config = load_config(set=["model.embed_dim=32", "model.depth=1"], model="fmamba_conv_mlp")
    info = default_info(config, (24, 24, 24, 2))
    assert clip_cost(config, info, tokens_kept=106)["params"] == count_parameters(config, info)
    with pytest.raises(UsageError, match="gets 105 tokens, it needs at least 106"):
        clip_cost(config, info, tokens_kept=105)


def test_components_add_up_and_cost_is_linear_in_kept_tokens() -> None:
    config = load_config(set=["model.patch_size=6,6,6,2"], model="fmamba")
    info = default_info(config)
    cost = clip_cost(config, info)
    assert (cost["tokens"], cost["tokens_total"]) == (40_960, 40_960)
    assert cost["input_shape"] == [96, 96, 96, 20]
    assert sum(cost["components"].values()) == cost["flops"] == 2 * cost["macs"]
    kept = clip_cost(config, info, tokens_kept=14_848)
    assert kept["flops"] / cost["flops"] == pytest.approx(14_848 / 40_960, rel=1e-3)
    assert (kept["tokens"], kept["tokens_total"]) == (14_848, 40_960)


def test_a_hand_counted_case() -> None:
    # E 32, I 64, one head, N 8, F 8, K 4: 8 tokens in one chunk of 8: scores, what it adds to
    # the state, [scores | C] times [inputs ; state], a state that passes it, and the skip.
    settings = ["model.embed_dim=32", "model.depth=1", "model.patch_size=2,2,2,1"]
    config = load_config(set=settings, model="fmamba")
    components = clip_cost(config, default_info(config, (4, 4, 4, 1)))["components"]
    assert components == {
        "embedding": 2 * 8 * 8 * 32,
        "in_proj": 2 * 8 * 32 * (64 + 80 + 1),
        "convolution": 2 * 8 * 4 * 80,
        "scan": 2 * 8 * (8 * 8 + 8 * 64 + (8 + 8) * 64) + 2 * 8 * 64 + 2 * 8 * 64,
        "out_proj": 2 * 8 * 64 * 32,
        "output_layer": 2 * 8 * 32 * 8,
    }


@pytest.mark.parametrize("width", [8, 12, 16, 24, 40, 48, 96, 100, 128, 1024])
def test_the_head_size_is_the_models_own(width: int) -> None:
    config = load_config(set=[f"model.embed_dim={width}"], model="fmamba")
    size = head_size(2 * width)
    assert size is not None
    per_layer_vectors = 3 * (2 * width // size)
    state = max(1, width // 4)
    inner = 2 * width
    block = width * (2 * inner + 2 * state) + 5 * (inner + 2 * state) + inner + inner * width
    block += width * inner // size + per_layer_vectors
    voxels = math.prod((6, 6, 6, 1))
    expected = voxels * width + 12 * (block + width) + width + (width + 1) * voxels
    assert count_parameters(config, {}) == expected


def test_what_cannot_be_built_is_refused() -> None:
    odd = load_config(set=["model.embed_dim=9"], model="fmamba")
    with pytest.raises(UsageError, match="no head size"):
        count_parameters(odd, {})
    config = load_config(model="fmamba")
    with pytest.raises(UsageError, match="6 along W, which does not divide 25") as caught:
        clip_cost(config, default_info(config, (24, 25, 24, 8)))
    assert caught.value.hint == "use 24 or 30 along W, or model.patch_size"
    with pytest.raises(UsageError, match="no clip size"):
        default_info(config, (96, 96, 96))
    with pytest.raises(UsageError, match="no clip size"):
        default_info(config, (96, 96, 0, 20))
    for kept in (0, 513):
        with pytest.raises(UsageError, match="kept tokens"):
            clip_cost(config, default_info(config, SMALL), tokens_kept=kept)


def test_the_configs_grid_wins_over_the_published_one() -> None:
    config = load_config(set=["data.img_size=48,60,48", "data.sequence_length=8"], model="fmamba")
    assert default_info(config) == {"img_size": [48, 60, 48, 8]}


def test_formulas_need_no_torch(root: Path) -> None:
    code = (
        "import sys\nfrom neurocli.core.config.load import load_config\n"
        "from neurocli.systems.fmri import cost\nc = load_config(model='fmamba')\n"
        "cost.clip_cost(c, cost.default_info(c))\n"
        "print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
