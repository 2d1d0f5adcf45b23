"""The encoders: described sizes, masks, pooling, attention, and dropout that is a function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurocli.core.config.load import load_config
from neurocli.core.cost.target import find_target
from neurocli.core.engine.rebuild import build_model, load_model
from neurocli.core.errors import UsageError
from neurocli.systems.genes.config import GeneModelConfig
from neurocli.systems.genes.models.dropout import SampleDropout, keep_mask
from neurocli.systems.genes.models.pair import GenePair
from neurocli.systems.genes.models.sequence import GeneSequence, Layer, sinusoids

INFO = {"neuro_input_dim": 20, "gene_input_dim": 6, "num_genes": 5}
SMALL = [
    "model.projection_dim=8",
    "model.transformer_hidden_dim=16",
    "model.transformer_num_layers=2",
    "model.transformer_num_heads=4",
    "model.transformer_ff_dim=24",
]


def sequence(*settings: str) -> GeneSequence:
    torch.manual_seed(0)
    config = load_config(set=[*SMALL, *settings], model="gene_sequence")
    built = build_model(config, INFO)
    assert isinstance(built, GeneSequence)
    return built.eval()


def people(n: int = 7, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 20, dtype=dtype), torch.randn(n, 5, 6, dtype=dtype)


@pytest.mark.parametrize(
    ("preset", "model", "millions"),
    [
        ("genes/pair", "gene_pair", 6.35),
        ("genes/sequence", "gene_sequence", 15.0),
        ("genes/sequence-large", "gene_sequence", 30.5),
    ],
)
def test_the_described_sizes(preset: str, model: str, millions: float) -> None:
    target = find_target(model, preset=preset)
    built = sum(parameter.numel() for parameter in target.build().parameters())
    assert built == target.formula()["params"]
    # Learned identities add 111 tokens to the 15.03 and 30.45 million of a feed-forward of 1024.
    assert built / 1e6 == pytest.approx(millions, rel=0.006)


def test_the_single_pair_has_exactly_its_numbers() -> None:
    built = load_model("gene_pair")
    # 12150 * 512 + 512, 256 * 512 + 512, and the scale.
    assert sum(p.numel() for p in built.parameters()) == 6_352_897


def test_two_layers_have_exactly_their_numbers() -> None:
    built = load_model("gene_pair", hidden_dim=1024)
    # (12150+1)*1024 + (256+1)*1024 + 2*(2*1024) + 2*(1024+1)*512 + 1 = 13,759,489.
    assert sum(p.numel() for p in built.parameters()) == 13_759_489


@pytest.mark.parametrize("model", ["gene_pair", "gene_sequence"])
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["model.hidden_dim=9"],
        ["task.loss=siglip"],
        ["model.pooling=cls"],
        ["model.gene_input=per-gene"],
        ["model.gene_tower=linear-sum"],
        ["model.pos_encoding=sinusoidal"],
        ["model.transformer_norm=pre"],
    ],
)
def test_the_formula_counts_every_number(model: str, settings: list[str]) -> None:
    target = find_target(model, settings=[*SMALL, *settings], input_shape=(20, 5, 6))
    built = target.build()
    cost = target.formula()
    assert cost["params"] == sum(p.numel() for p in built.parameters())
    assert cost["macs"] * 2 == cost["flops"] == sum(cost["components"].values())
    u, v = built(target.example())
    assert u.shape == v.shape == (1, 8)


def test_a_shape_needs_three_sizes() -> None:
    with pytest.raises(UsageError, match="no size of latents and genes"):
        find_target("gene_pair", input_shape=(1, 2))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="3 heads do not divide 16"):
        sequence("model.transformer_num_heads=3")


def test_vectors_have_length_one() -> None:
    u, v = sequence()(*people())
    assert torch.allclose(u.norm(dim=1), torch.ones(7))
    assert torch.allclose(v.norm(dim=1), torch.ones(7))


def test_latents_are_flattened() -> None:
    model = GenePair(24, 6, projection_dim=8).eval()
    latents, genes = torch.randn(3, 2, 3, 4), torch.randn(3, 6)
    u, v = model(latents, genes)
    again, other = model(latents.reshape(3, 24), genes[:, None])
    assert torch.equal(u, again)
    assert torch.equal(v, other)


def test_inputs_are_standardised_with_the_stored_moments() -> None:
    model = GenePair(4, 3, projection_dim=8).eval()
    plain = GenePair(4, 3, projection_dim=8).eval()
    plain.load_state_dict(model.state_dict())
    mean, std = np.full(4, 2.0), np.array([0.5, 1.0, 2.0, 0.0])
    model.set_standard(neuro_mean=mean, neuro_std=std)
    x = torch.randn(5, 4)
    # A number that never changes is divided by a floor and not by zero.
    z = (x - 2.0) / torch.tensor([0.5, 1.0, 2.0, 1e-6])
    assert torch.allclose(model.encode_neuro(x), plain.encode_neuro(z))
    assert "neuro_mean" in model.state_dict()


def test_the_similarity_matrix_is_scaled() -> None:
    model = sequence()
    x, genes = people()
    u, v = model(x, genes)
    expected = model.logit_scale.exp() * u @ v.T
    assert torch.equal(model.get_similarity_matrix(x, genes), expected)
    assert float(model.logit_scale.exp().detach()) == pytest.approx(14.285, abs=0.01)


def test_embeddings_of_a_loader() -> None:
    model = sequence()
    x, genes = people()
    present = torch.ones(7, 5, dtype=torch.bool)
    batches = [
        {"neuro_embedding": x[:4], "gene_sequence": genes[:4], "iid": list("abcd")},
        {
            "neuro_embedding": x[4:],
            "gene_sequence": genes[4:],
            "participant": list("efg"),
            "present": present[4:],
        },
    ]
    u, v, ids = model.save_embeddings(batches)
    assert ids == list("abcdefg")
    assert torch.allclose(u, model.encode_neuro(x), atol=1e-6)
    assert torch.allclose(v, model.encode_gene(genes), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_hidden_genes_have_no_influence(pooling: str) -> None:
    model = sequence(f"model.pooling={pooling}")
    _, genes = people()
    present = torch.ones(7, 5, dtype=torch.bool)
    present[:, 2] = False
    changed = genes.clone()
    changed[:, 2] = 100.0
    assert torch.allclose(
        model.encode_gene(genes, present), model.encode_gene(changed, present), atol=1e-6
    )
    assert not torch.allclose(model.encode_gene(genes), model.encode_gene(changed), atol=1e-3)


def test_hidden_genes_of_a_sum_have_no_influence() -> None:
    model = sequence("model.gene_tower=linear-sum")
    _, genes = people()
    present = torch.ones(7, 5, dtype=torch.bool)
    present[:, 2] = False
    changed = genes.clone()
    changed[:, 2] = 100.0
    assert torch.equal(model.encode_gene(genes, present), model.encode_gene(changed, present))


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_all_present_is_like_no_mask(pooling: str) -> None:
    model = sequence(f"model.pooling={pooling}")
    _, genes = people()
    present = torch.ones(7, 5, dtype=torch.bool)
    assert torch.allclose(model.encode_gene(genes), model.encode_gene(genes, present), atol=1e-6)


def test_mean_pooling_is_over_present_tokens() -> None:
    model = sequence()
    tokens = torch.randn(2, 5, 16)
    hidden = torch.tensor([[False] * 5, [False, True, True, False, False]])
    pooled = model._pool(tokens, hidden)
    assert torch.allclose(pooled[0], tokens[0].mean(0))
    assert torch.allclose(pooled[1], tokens[1, [0, 3, 4]].mean(0))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_attention_rows_sum_to_one(pooling: str) -> None:
    model = sequence(f"model.pooling={pooling}")
    _, genes = people()
    n = 6 if pooling == "cls" else 5
    weights = model.attention(genes)
    assert weights.shape == (2, 7, 4, n, n)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 7, 4, n), atol=1e-5)


def test_nobody_attends_to_a_hidden_gene() -> None:
    model = sequence("model.pooling=cls")
    _, genes = people()
    present = torch.ones(7, 5, dtype=torch.bool)
    present[:, 1] = False
    weights = model.attention(genes, present)
    assert weights[..., 2].abs().max() == 0  # the class token is the first
    assert torch.allclose(weights.sum(-1), torch.ones(2, 7, 4, 6), atol=1e-5)


def test_permuting_genes_permutes_the_attention() -> None:
    model = sequence()
    _, genes = people()
    order = torch.tensor([3, 0, 4, 1, 2])
    before = model.attention(genes)
    with torch.no_grad():
        model.positions.copy_(model.positions[order])
    after = model.attention(genes[:, order])
    assert torch.allclose(after, before[..., order, :][..., order], atol=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_layer_is_torchs_encoder_layer(norm: str) -> None:
    # Oracle: torch's own layer with the same weights, which does not show its attention.
    config = GeneModelConfig(
        name="gene_sequence",
        transformer_hidden_dim=16,
        transformer_num_heads=4,
        transformer_ff_dim=24,
        transformer_norm=norm,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    ours = Layer(config, 0).eval()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 24, activation="gelu", batch_first=True, norm_first=norm == "pre"
    ).eval()
    theirs.self_attn.in_proj_weight.data = ours.in_proj.weight.data
    theirs.self_attn.in_proj_bias.data = ours.in_proj.bias.data
    theirs.self_attn.out_proj.load_state_dict(ours.out_proj.state_dict())
    for name in ("linear1", "linear2", "norm1", "norm2"):
        getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
    x = torch.randn(3, 5, 16)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, 2] = True
    out, _ = ours(x, hidden)
    assert torch.allclose(out, theirs(x, src_key_padding_mask=hidden), atol=1e-5)
    _, weights = ours.attend(x, hidden, None)
    _, expected = theirs.self_attn(
        x, x, x, key_padding_mask=hidden, need_weights=True, average_attn_weights=False
    )
    assert torch.allclose(weights, expected, atol=1e-6)


def test_per_gene_inputs_differ_between_genes() -> None:
    model = sequence("model.gene_input=per-gene", "model.pos_encoding=none")
    same = torch.randn(1, 1, 6).expand(1, 5, 6)
    tokens, _ = model._tokens(same, None)
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])
    shared = sequence("model.pos_encoding=none")
    tokens, _ = shared._tokens(same, None)
    assert torch.allclose(tokens[0, 0], tokens[0, 1])


def test_fixed_positions_are_sines() -> None:
    codes = sinusoids(4, 6)
    assert codes[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert float(codes[3, 0]) == pytest.approx(np.sin(3))
    assert "positions" not in sequence("model.pos_encoding=sinusoidal").state_dict()


def draws(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.int64) * 7919 + 13


def test_masks_drop_their_share() -> None:
    mask = keep_mask(draws(200), (200, 500), 0.1, 0)
    # 100,000 draws: a standard error of 0.001.
    assert float((~mask).float().mean()) == pytest.approx(0.1, abs=0.004)
    assert float((~mask).float().mean(0).std()) == pytest.approx(np.sqrt(0.09 / 200), rel=0.15)
    assert float((~mask).float().mean(1).std()) == pytest.approx(np.sqrt(0.09 / 500), rel=0.15)


def test_masks_of_neighbours_are_independent() -> None:
    mask = (~keep_mask(torch.arange(400), (400, 400), 0.5, 3)).float() - 0.5
    for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        assert abs(float((a * b).mean()) * 4) < 0.012  # 160,000 pairs


def test_masks_are_a_function_of_draw_layer_and_place() -> None:
    mask = keep_mask(draws(8), (8, 3, 5), 0.5, 2)
    assert torch.equal(mask[4:6], keep_mask(draws(8)[4:6], (2, 3, 5), 0.5, 2))
    assert not torch.equal(mask, keep_mask(draws(8), (8, 3, 5), 0.5, 3))
    assert not torch.equal(mask, keep_mask(draws(8) + 1, (8, 3, 5), 0.5, 2))


def test_dropout_keeps_the_mean_and_rests_in_evaluation() -> None:
    layer = SampleDropout(0.25, 0)
    x = torch.ones(400, 300)
    out = layer(x, draws(400))
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert layer.eval()(x, draws(400)) is x
    assert SampleDropout(0.0, 0)(x, draws(400)) is x


def test_without_draws_torch_drops() -> None:
    layer = SampleDropout(0.5, 0)
    torch.manual_seed(0)
    first = layer(torch.ones(100))
    torch.manual_seed(0)
    assert torch.equal(first, layer(torch.ones(100)))
    assert (first == 0).any()


@pytest.mark.parametrize("settings", [["model.hidden_dim=9"], ["model.pooling=cls"]])
def test_training_outputs_do_not_depend_on_the_batch(settings: list[str]) -> None:
    config = load_config(
        set=[*SMALL, *settings],
        model="gene_pair" if "hidden" in settings[0] else "gene_sequence",
    )
    torch.manual_seed(0)
    model: Any = build_model(config, INFO).double().train()
    x, genes = people(dtype=torch.float64)
    genes = genes[:, : model.num_genes]
    own = draws(7)
    u, v = model(x, genes, None, own)
    for i in range(7):
        a, b = model(x[i : i + 1], genes[i : i + 1], None, own[i : i + 1])
        assert torch.allclose(u[i], a[0], rtol=1e-12, atol=1e-13)
        assert torch.allclose(v[i], b[0], rtol=1e-12, atol=1e-13)
