"""FMamba's construction, its state dict and its errors; its numbers are in tests/numerics."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.heads import FMambaWithHead, build_head


def model(**changed: Any) -> FMamba:
    config: dict[str, Any] = {
        "embed_dim": 16,
        "num_layers": 1,
        "d_state": 4,
        "d_conv": 4,
        "expand": 2,
        "img_size": (4, 4, 4, 4),
        "patch_size": (2, 2, 2, 2),
        "pe_method": "nerf",
        "calc_loss_without_background": True,
        "input_scaling_method": "minmax",
    }
    return FMamba(**config | changed)


@pytest.mark.parametrize(
    ("embed_dim", "expand", "head"), [(128, 2, 64), (48, 2, 32), (24, 2, 16), (20, 2, 8), (8, 1, 8)]
)
def test_the_largest_fitting_head_size_is_taken(embed_dim: int, expand: int, head: int) -> None:
    built = model(embed_dim=embed_dim, expand=expand)
    assert built.mamba_layers[0][1].headdim == head
    built(torch.ones(1, 1, 4, 4, 4, 4))


@pytest.mark.parametrize(
    ("changed", "message", "hint"),
    [
        ({"embed_dim": 18}, "embed_dim 18 with expand 2.* 36", "can be built: 16, 20, 24"),
        ({"embed_dim": 3, "expand": 3}, "embed_dim 3 with expand 3", "can be built: 8, 16"),
        ({"embed_dim": 0}, "embed_dim 0", "4, 8"),
        ({"num_layers": 0}, "num_layers is 0", ""),
        ({"pe_method": "sin"}, "unknown positional encoding 'sin'", "none, ff, nerf, cpe"),
        ({"token_mask": "persample"}, "did you mean per-sample", "union, per-sample, none"),
        ({"patch_size": (3, 2, 2, 2)}, "patch size 3 does not divide H = 4", "bring H to 3 or 6"),
        ({"patch_size": (2, 2, 2, 3)}, "patch size 3 does not divide T = 4", "1, 2, 4"),
        ({"embed_dim": 4, "pe_method": "cpe"}, "cpe needs an embedding size", ""),
    ],
)
def test_what_cannot_be_built_is_named(changed: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        model(**changed)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("token_mask", ["union", "per-sample"])
def test_a_batch_without_brain_is_named(token_mask: str) -> None:
    with pytest.raises(NeuroError, match="sample 0 of the batch has no brain token"):
        model(token_mask=token_mask)(torch.zeros(2, 1, 4, 4, 4, 4))


def test_one_sample_without_brain_fails_only_per_sample() -> None:
    x = torch.ones(2, 1, 4, 4, 4, 4)
    x[1] = 0
    model()(x)
    with pytest.raises(NeuroError, match="sample 1 of the batch has no brain token"):
        model(token_mask="per-sample")(x)


def test_wrong_clips_and_masks_are_named() -> None:
    with pytest.raises(ValueError, match="clip has T = 6, the model was built for T = 4"):
        model()(torch.ones(1, 1, 4, 4, 4, 6))
    with pytest.raises(ValueError, match="brain has shape"):
        model()(torch.ones(2, 1, 4, 4, 4, 4), torch.ones(1, 4, 4, 4, dtype=torch.bool))


def test_several_channels() -> None:
    built = model(in_chans=3)
    output = built(torch.ones(1, 3, 4, 4, 4, 4))
    assert output["pred"].shape == output["patches"].shape == (1, 16, 48)
    assert built.embedder.projection.shape == (48, 16)


def test_downstream_has_no_output_layer() -> None:
    built = model(pretraining=False)
    assert not any(key.startswith("output_layer") for key in built.state_dict())
    assert "pred" not in built(torch.ones(1, 1, 4, 4, 4, 4))
    with pytest.raises(UsageError, match="without its output layer"):
        built.ar_loss(torch.ones(1, 1, 4, 4, 4, 4))


def test_positions_are_saved_and_not_trained() -> None:
    built = model()
    assert "embedder.pos" in built.state_dict()
    assert "embedder.pos" not in dict(built.named_parameters())
    torch.manual_seed(99)
    assert torch.equal(built.embedder.pos, model().embedder.pos)
    other = model(pe_seed=1)
    assert not torch.equal(built.embedder.pos, other.embedder.pos)
    other.load_state_dict(built.state_dict())
    x = torch.randn(1, 1, 4, 4, 4, 4)
    assert torch.equal(built(x)["pred"], other(x)["pred"])


def test_the_mask_token_is_learned_only_when_asked_for() -> None:
    plain, hiding = model(), model(mask_token=True)
    assert "embedder.mask_token" not in plain.state_dict()
    assert hiding.state_dict()["embedder.mask_token"].shape == (16,)
    x, masked = torch.ones(1, 1, 4, 4, 4, 4), torch.zeros(1, 16, dtype=torch.bool)
    hiding(x, masked=masked)
    with pytest.raises(UsageError, match="has no mask token") as caught:
        plain(x, masked=masked)
    assert caught.value.hint == "build it with mask_token=True"
    with pytest.raises(ValueError, match=r"masked has shape \(1, 15\)"):
        hiding(x, masked=masked[:, :15])
    with pytest.raises(ValueError, match=r"masked has dtype torch.float32, expected bool"):
        hiding(x, masked=masked.float())


def test_reading_both_ways_cannot_predict_the_next_token() -> None:
    with pytest.raises(UsageError, match="reads both ways"):
        model(bidirectional=True).ar_loss(torch.ones(1, 1, 4, 4, 4, 4))


def test_the_chunk_does_not_change_the_result() -> None:
    built = model(embed_dim=32)
    other = model(embed_dim=32, chunk_size=3)
    other.load_state_dict(built.state_dict())
    x = torch.randn(1, 1, 4, 4, 4, 4)
    torch.testing.assert_close(built(x)["pred"], other(x)["pred"], rtol=1e-5, atol=1e-5)


def test_the_scan_that_ran_is_shown() -> None:
    built = model()
    assert built.scan_backend is None
    built(torch.ones(1, 1, 4, 4, 4, 4))
    assert built.scan_backend == "torch"


def test_head_prefixes_and_outputs() -> None:
    whole = FMambaWithHead(model(pretraining=False), build_head("mlp", 16, 2))
    prefixes = {key.split(".")[0] for key in whole.state_dict()}
    assert prefixes == {"model", "output_head"}
    output = whole(torch.ones(3, 1, 4, 4, 4, 4))
    assert output["logits"].shape == (3, 2)
    assert output["features"].shape == (3, 16, 16)
