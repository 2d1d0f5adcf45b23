"""Encoders written out in plain NumPy, and what no order of people or genes may change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.config.load import load_config
from neurocli.core.errors import ExitCode, UsageError
from neurocli.systems.genes.cost import clip_cost, count_parameters, default_info
from neurocli.systems.genes.models.build import build
from neurocli.systems.genes.models.pair import CLIP_INIT, SIGLIP_BIAS, Aligned

N, P, G, D, E = 5, 7, 4, 3, 6
INFO = {"neuro_input_dim": P, "gene_input_dim": D, "num_genes": G}
SMALL = (
    f"model.projection_dim={E}",
    "model.transformer_hidden_dim=8",
    "model.transformer_num_layers=1",
    "model.transformer_num_heads=2",
    "model.transformer_ff_dim=12",
)


def made(*settings: str, model: str = "gene_sequence") -> Aligned:
    torch.manual_seed(0)
    found = build(load_config(set=[*SMALL, *settings], model=model), INFO).double().eval()
    for name in ("neuro_mean", "gene_mean"):
        found.get_buffer(name).copy_(torch.randn_like(found.get_buffer(name)))
    for name in ("neuro_std", "gene_std"):
        found.get_buffer(name).copy_(torch.rand_like(found.get_buffer(name)) + 0.5)
    return found


def people() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    present = torch.rand(N, G) > 0.3
    present[:, 0] = True
    return torch.randn(N, P).double(), torch.randn(N, G, D).double(), present


def state(model: Aligned) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def layer_norm(x: np.ndarray, own: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return np.asarray(scaled * own[f"{name}.weight"] + own[f"{name}.bias"])


def gelu(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(x)


def dense(x: np.ndarray, own: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(x @ own[f"{name}.weight"].T + own[f"{name}.bias"])


def test_a_pair_with_a_hidden_layer_is_written_out() -> None:
    model = made("model.hidden_dim=9", model="gene_pair")
    neuro, genes, _ = people()
    own = state(model)
    with torch.no_grad():
        u, v = model(neuro, genes[:, 0])
    for x, name, found in ((neuro, "neuro", u), (genes[:, 0], "gene", v)):
        z = (x.numpy() - own[f"{name}_mean"]) / own[f"{name}_std"]
        hidden = gelu(
            layer_norm(dense(z, own, f"{name}_projection.first"), own, f"{name}_projection.norm")
        )
        expected = unit(dense(hidden, own, f"{name}_projection.last"))
        assert found.numpy() == pytest.approx(expected, abs=1e-12)


def test_a_sum_of_maps_is_looped_over_people_and_genes() -> None:
    model = made("model.gene_tower=linear-sum")
    _, genes, present = people()
    own = state(model)
    expected = np.zeros((N, E))
    for i in range(N):
        for g in range(G):
            if present[i, g]:
                z = (genes[i, g].numpy() - own["gene_mean"][g]) / own["gene_std"][g]
                expected[i] += z @ own["input_weight"][g] + own["input_bias"][g]
    with torch.no_grad():
        found = model.encode_gene(genes, present)
    assert found.numpy() == pytest.approx(unit(expected), abs=1e-12)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_transformer_is_looped_over_people_heads_and_tokens(pooling: str) -> None:
    model = made(f"model.pooling={pooling}", "model.transformer_norm=post")
    _, genes, present = people()
    own, n_heads, width = state(model), 2, 8
    rows = []
    for i in range(N):
        z = (genes[i].numpy() - own["gene_mean"]) / own["gene_std"]
        x = dense(z, own, "input_projection") + own["positions"]
        shown = np.flatnonzero(present[i].numpy())
        q, k, v = np.split(dense(x, own, "layers.0.in_proj"), 3, axis=1)
        mixed = np.zeros((G, width))
        for head in range(n_heads):
            at = slice(head * width // n_heads, (head + 1) * width // n_heads)
            for token in range(G):
                logits = np.array([q[token, at] @ k[j, at] for j in shown])
                weights = np.exp(logits / math.sqrt(width // n_heads))
                mixed[token, at] = weights / weights.sum() @ v[shown][:, at]
        x = layer_norm(x + dense(mixed, own, "layers.0.out_proj"), own, "layers.0.norm1")
        inner = gelu(dense(x, own, "layers.0.linear1"))
        x = layer_norm(x + dense(inner, own, "layers.0.linear2"), own, "layers.0.norm2")
        pooled = x[shown].mean(0) if pooling == "mean" else x[shown].max(0)
        rows.append(dense(pooled, own, "output_projection"))
    with torch.no_grad():
        found = model.encode_gene(genes, present)
    assert found.numpy() == pytest.approx(unit(np.stack(rows)), abs=1e-10)


@pytest.mark.parametrize("tower", ["transformer", "linear-sum"])
def test_people_in_another_order_have_the_same_vectors(tower: str) -> None:
    model = made(f"model.gene_tower={tower}")
    neuro, genes, present = people()
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        plain = model(neuro, genes, present)
        moved = model(neuro[order], genes[order], present[order])
    for one, other in zip(plain, moved, strict=True):
        torch.testing.assert_close(one[order], other, rtol=0, atol=1e-12)


def test_genes_without_positions_may_stand_in_any_order_and_with_them_not() -> None:
    _, genes, _ = people()
    order = torch.tensor([2, 0, 3, 1])
    for code, is_free in (("none", True), ("learned", False), ("sinusoidal", False)):
        model = made(f"model.pos_encoding={code}")
        for name in ("gene_mean", "gene_std"):  # the same for all genes
            model.get_buffer(name).copy_(model.get_buffer(name)[:1].expand(G, D).clone())
        with torch.no_grad():
            gap = (model.encode_gene(genes) - model.encode_gene(genes[:, order])).abs().max()
        assert (float(gap) < 1e-10) is is_free, code


def test_a_row_holds_the_latent_and_then_its_genes() -> None:
    model = made()
    neuro, genes, _ = people()
    with torch.no_grad():
        pair = model(neuro, genes)
        row = model(torch.cat([neuro, genes.flatten(1)], dim=1))
    for one, other in zip(pair, row, strict=True):
        assert torch.equal(one, other)


def test_scales_and_biases_start_where_their_papers_do() -> None:
    clip, siglip = made(), made("task.loss=siglip")
    # CLIP: ln(1 / 0.07); SigLIP: ln 10 and -10.
    assert float(clip.logit_scale.detach()) == pytest.approx(math.log(1 / 0.07), abs=1e-4)
    assert pytest.approx(math.log(1 / 0.07), abs=1e-4) == CLIP_INIT
    assert clip.logit_bias is None
    assert float(siglip.logit_scale.detach()) == pytest.approx(math.log(10))
    assert siglip.logit_bias is not None
    assert float(siglip.logit_bias.detach()) == SIGLIP_BIAS == -10
    assert float(made("model.logit_scale_init=1.5").logit_scale.detach()) == 1.5


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UsageError, match="3 heads do not divide 8") as caught:
        made("model.transformer_num_heads=3")
    assert caught.value.code == ExitCode.USAGE


def test_costs_of_a_linear_pair_by_hand() -> None:
    config = load_config(set=[f"model.projection_dim={E}"], model="gene_pair")
    info = default_info(config, (P, 9, D))  # a pair has one gene whatever is said
    assert info["img_size"] == [P + D]
    # (P + 1) E + (d + 1) E and the scale.
    assert count_parameters(config, info) == (P + 1) * E + (D + 1) * E + 1
    cost = clip_cost(config, info)
    assert cost["components"] == {"brain": 2 * P * E, "gene": 2 * D * E}
    # Backward costs twice the forward, but nobody asks for the gradient of a latent or of a
    # gene's vector: both are data.
    assert cost["flops_train_step"] == 3 * cost["flops"] - 2 * P * E - 2 * D * E
    for shape in ((P, G), (P, 0, D)):
        with pytest.raises(UsageError, match="is no size of latents and genes"):
            default_info(config, shape)
