"""FMamba against golden arrays, and what its token masks promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.forecast import next_token_loss
from neurocli.systems.fmri.models.patches import unpatchify

GOLDEN = [
    "fmamba_aniso_patch_xyz",
    "fmamba_cpe",
    "fmamba_ff",
    "fmamba_minmax",
    "fmamba_nerf_heads",
    "fmamba_none",
    "fmamba_zeroback",
]


def load(path: Path, **changed: Any) -> tuple[dict[str, Any], FMamba]:
    """Return a golden file's arrays and the model it holds."""
    arrays = dict(np.load(path))
    config = {key[4:]: value.tolist() for key, value in arrays.items() if key.startswith("cfg.")}
    model = FMamba(**config | changed)
    weights = {key[2:]: torch.tensor(v) for key, v in arrays.items() if key.startswith("w.")}
    model.load_state_dict(weights, strict=model.output_layer is not None)
    return arrays, model


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want)
    return float(np.abs(got.detach().numpy() - want).max() / np.abs(want).max())


def small_model(**changed: Any) -> FMamba:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "embed_dim": 16,
        "num_layers": 2,
        "d_state": 4,
        "d_conv": 4,
        "expand": 2,
        "img_size": (6, 4, 4, 4),
        "patch_size": (2, 2, 2, 1),
        "pe_method": "nerf",
        "calc_loss_without_background": True,
        "input_scaling_method": "znorm_zeroback",
    }
    return FMamba(**config | changed)


def clips(n: int = 3) -> tuple[Tensor, Tensor]:
    """Return clips whose brains differ in size, and their voxel masks."""
    torch.manual_seed(1)
    brain = torch.zeros(n, 6, 4, 4, dtype=torch.bool)
    for sample in range(n):
        brain[sample, : 2 + 2 * (sample % 3), : 2 + 2 * (sample % 2)] = True
    x = torch.randn(n, 1, 6, 4, 4, 4) + 2.0
    return x * brain[:, None, ..., None], brain


@pytest.mark.parametrize("name", GOLDEN)
def test_equals_golden(golden: Path, name: str) -> None:
    # Expected: the reference model on synthetic brains of different size, stored in the file.
    arrays, model = load(golden / f"{name}.npz")
    x = torch.tensor(arrays["x"])
    output = model(x)
    assert output["token_mask"].tolist() == arrays["brain_token_mask"].tolist()
    for key in ("pred", "features", "last_block_out", "patches"):
        if key in arrays:
            assert relative(output[key], arrays[key]) <= 1e-5, key
    assert relative(model.ar_loss(x), arrays["ar_loss"]) <= 1e-5


@pytest.mark.parametrize("name", GOLDEN)
def test_tokens_equal_golden(golden: Path, name: str) -> None:
    # Expected: projection plus position of the kept tokens, stored in the file.
    arrays, model = load(golden / f"{name}.npz")
    output = model(torch.tensor(arrays["x"]))
    tokens = model.embedder(output["patches"], output["token_index"])
    assert relative(tokens, arrays["tokens"]) <= 1e-5


@pytest.mark.parametrize("name", GOLDEN)
def test_state_dict_has_the_official_names_and_shapes(golden: Path, name: str) -> None:
    arrays, model = load(golden / f"{name}.npz")
    ours = {f"w.{key}": tuple(value.shape) for key, value in model.state_dict().items()}
    assert ours == {key: v.shape for key, v in arrays.items() if key.startswith("w.")}


def test_fresh_cpe_positions_equal_golden(golden: Path) -> None:
    # Expected: the stored table; cpe is the one encoding without a random projection.
    arrays = np.load(golden / "fmamba_cpe.npz")
    _, model = load(golden / "fmamba_cpe.npz")
    fresh = FMamba(32, 1, 8, 4, 2, model.img_size, model.patch_size, "cpe", True, "znorm_minback")
    assert relative(fresh.embedder.pos, arrays["w.embedder.pos"]) <= 1e-6


@pytest.mark.parametrize(
    ("width", "millions", "downstream"),
    [(64, 0.389, 0.361), (128, 1.419, 1.363), (192, 3.092, 3.008)],
)
def test_parameter_counts_equal_the_published_ones(
    width: int, millions: float, downstream: float
) -> None:
    # Expected: published sizes of the 12-layer models with 6 x 6 x 6 x 2 patches.
    for pretraining, want in ((True, millions), (False, downstream)):
        model = FMamba(
            width, 12, width // 4, 4, 2, (12, 12, 12, 4), (6, 6, 6, 2), "nerf", True,
            "znorm_minback", pretraining=pretraining,
        )  # fmt: skip
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        assert n_parameters / 1e6 == pytest.approx(want, abs=5e-4)


def test_union_keeps_what_is_brain_in_any_sample() -> None:
    # Expected: a loop over the voxels of each token.
    x, _ = clips()
    output = small_model()(x)
    want = []
    for h in range(3):
        for w in range(2):
            for d in range(2):
                for t in range(4):
                    block = x[:, :, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, 2 * d : 2 * d + 2, t]
                    want.append(bool((block != 0).any()))
    assert output["token_mask"].tolist() == want
    assert output["pred"].shape == (3, sum(want), 8)


def test_union_of_one_sample_equals_per_sample() -> None:
    # Expected: with one sample both masks keep the same tokens.
    x, _ = clips(1)
    union = small_model()(x)
    own = small_model(token_mask="per-sample")(x)
    for key in ("pred", "features", "last_block_out", "patches"):
        torch.testing.assert_close(own[key], union[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_mask", [False, True])
def test_per_sample_does_not_depend_on_the_batch(with_mask: bool) -> None:
    # Expected: each sample alone. Both ways is tested with the heads.
    x, brain = clips()
    model = small_model(token_mask="per-sample")
    batch = model(x, brain if with_mask else None)
    losses = []
    for sample in range(3):
        part = slice(sample, sample + 1)
        alone = model(x[part], brain[part] if with_mask else None)
        n_kept = alone["features"].shape[1]
        real = batch["token_index"][sample] >= 0
        assert int(real.sum()) == n_kept
        assert torch.equal(batch["token_mask"][sample], alone["token_mask"][0])
        for key in ("pred", "features", "last_block_out", "patches"):
            assert relative(batch[key][sample, :n_kept], alone[key][0].detach()) <= 1e-6, key
        assert not bool(batch["features"][sample, n_kept:].any())
        losses.append((model.ar_loss(x[part]).item(), n_kept - 1))
    # The batch's loss weights every target equally.
    want = sum(loss * n for loss, n in losses) / sum(n for _, n in losses)
    assert model.ar_loss(x).item() == pytest.approx(want, rel=1e-5)


def test_union_depends_on_the_batch_as_the_reference_does() -> None:
    x, _ = clips()
    model = small_model()
    n_alone, n_batch = (model(part)["features"].shape[1] for part in (x[:1], x))
    assert n_alone < n_batch


@pytest.mark.parametrize(
    "changed", [{"token_mask": "none"}, {"calc_loss_without_background": False}]
)
def test_all_tokens_are_kept_on_demand(changed: dict[str, Any]) -> None:
    x, brain = clips()
    output = small_model(**changed)(x, brain)
    assert output["token_index"].tolist() == list(range(48))
    assert bool(output["token_mask"].all())


def test_a_stored_brain_mask_outlives_noise() -> None:
    # Expected: the tokens of the clean clip. With noise every voxel differs from the background.
    x, brain = clips()
    model = small_model()
    noisy = x + 0.1 * torch.randn_like(x)
    assert torch.equal(model(noisy, brain)["token_mask"], model(x)["token_mask"])
    assert bool(model(noisy)["token_mask"].all())


def test_the_minimum_is_background_for_znorm_minback_only() -> None:
    # Expected: shifting a zero-background clip moves its background to the minimum of each sample.
    x, _ = clips()
    shifted = x.clamp(min=0) - torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1, 1, 1)
    minimum = small_model(input_scaling_method="znorm_minback")
    assert torch.equal(minimum(shifted)["token_mask"], small_model()(x)["token_mask"])
    assert bool(small_model()(shifted)["token_mask"].all())


def test_predictions_are_causal() -> None:
    # Expected: exactly no gradient from a later voxel to an earlier prediction.
    model = small_model(token_mask="none")
    x = torch.randn(1, 1, 6, 4, 4, 4, requires_grad=True)
    output = model(x)
    grad = torch.autograd.grad(output["pred"][0, 7].sum(), x)[0]
    seen = grad.view(3, 2, 2, 2, 2, 2, 4).abs().sum((1, 3, 5)).flatten() > 0
    assert seen.tolist() == [token <= 7 for token in range(48)]


def test_both_ways_equals_two_passes_written_out() -> None:
    # Expected: per layer, the block on the tokens plus the block on the reversed tokens, turned.
    x, _ = clips(2)
    model = small_model(bidirectional=True)
    output = model(x)
    tokens = model.embedder(output["patches"], output["token_index"])
    for norm, mixer in model.mamba_layers:
        ahead = mixer(norm(tokens))
        back = torch.stack([mixer(norm(row.flip(0)[None]))[0].flip(0) for row in tokens])
        tokens = tokens + ahead + back
    torch.testing.assert_close(output["features"], model.norm(tokens), rtol=1e-5, atol=1e-5)
    same = {name: value.shape for name, value in small_model().named_parameters()}
    assert same == {name: value.shape for name, value in model.named_parameters()}


def test_both_ways_lets_every_token_see_every_other_of_its_sample() -> None:
    # Expected: gradients from all voxels of the own brain, none but rounding from other samples.
    x, brain = clips(3)
    model = small_model(bidirectional=True, token_mask="per-sample")
    x.requires_grad_()
    output = model(x, brain)
    grad = torch.autograd.grad(output["features"][1, 0].sum(), x)[0]
    assert torch.equal((grad[1, 0] != 0).any(-1), brain[1])
    assert float(grad[[0, 2]].abs().max()) <= 1e-6 * float(grad.abs().max())


@pytest.mark.parametrize("token_mask", ["union", "per-sample", "none"])
def test_hidden_tokens_keep_only_their_position(token_mask: str) -> None:
    # Expected: other voxels in the hidden patches change nothing; in the others they do.
    x, brain = clips()
    model = small_model(token_mask=token_mask, mask_token=True, bidirectional=True)
    masked = torch.rand(3, 48) < 0.5
    output = model(x, brain, masked=masked)
    places = output["token_index"].expand(3, -1)
    for sample in range(3):
        want = [i >= 0 and bool(masked[sample, i]) for i in places[sample].tolist()]
        assert output["masked"][sample].tolist() == want
    voxels = torch.ones(3, 48, 1, dtype=torch.bool) & masked.unsqueeze(-1)
    hidden = unpatchify(voxels.expand(3, 48, 8), model.grid, model.patch_size)
    other = model(torch.where(hidden, torch.randn_like(x), x), brain, masked=masked)
    assert torch.equal(output["features"], other["features"])
    assert not torch.equal(output["patches"], other["patches"])
    assert not torch.equal(output["features"], model(x, brain)["features"])
    assert "masked" not in model(x, brain)


def test_a_hidden_token_is_the_mask_token_at_its_place() -> None:
    # Expected: the sum written out.
    model = small_model(mask_token=True)
    patches, places = torch.randn(2, 5, 8), torch.tensor([0, 3, 4, 40, 47])
    masked = torch.tensor([[True, False, True, False, False], [False] * 5])
    embedder = model.embedder
    tokens = embedder(patches, places, masked)
    plain = embedder(patches, places)
    assert torch.equal(tokens[~masked], plain[~masked])
    assert torch.equal(tokens[0, 2], embedder.mask_token + embedder.pos[0, 4])
    tokens.sum().backward()
    assert torch.equal(embedder.mask_token.grad, torch.full((16,), 2.0))


def test_loss_and_gradients_equal_a_plain_computation() -> None:
    # Expected: the mean written out, and finite gradients in every parameter.
    x, _ = clips()
    model = small_model()
    output = model(x)
    want = (output["pred"][:, :-1] - output["patches"][:, 1:]).square().mean()
    loss = model.ar_loss(x)
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(
        loss, next_token_loss(output["pred"], output["patches"], output["token_index"])
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert bool(parameter.grad.any()), name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_bfloat16_autocast_stays_within_two_percent() -> None:
    # Expected: the same 12-layer Small model in float32.
    torch.manual_seed(0)
    model = FMamba(128, 12, 32, 4, 2, (12, 12, 12, 8), (6, 6, 6, 2), "nerf", False, "minmax")
    x = torch.randn(1, 1, 12, 12, 12, 8)
    with torch.no_grad():
        want = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = model(x)
            loss = model.ar_loss(x)
    error = (got["features"] - want["features"]).norm() / want["features"].norm()
    assert float(error) <= 0.02
    assert loss.dtype == torch.float32


def test_the_loss_falls_in_training() -> None:
    # A sanity check of loss, graph and scan together: a constant next patch is learnt quickly.
    torch.manual_seed(0)
    model = small_model(num_layers=1, token_mask="none")
    x = torch.sin(torch.arange(4.0)).expand(2, 1, 6, 4, 4, 4).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.ar_loss(x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
