"""What becomes of positions when weights are loaded for another grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neurocli.core.engine.weights import load_weights
from neurocli.core.nn.positions import METHODS, encode
from neurocli.core.nn.shapes import ShapeError
from neurocli.systems.fmri.models.embedder import TokenEmbedder
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.heads import FMambaWithHead, build_head
from neurocli.systems.fmri.task import ArTask


def model(frames: int = 4, **changed: Any) -> FMamba:
    config: dict[str, Any] = {
        "embed_dim": 16,
        "num_layers": 1,
        "d_state": 4,
        "d_conv": 4,
        "expand": 2,
        "img_size": (4, 4, 4, frames),
        "patch_size": (2, 2, 2, 2),
        "pe_method": "nerf",
        "calc_loss_without_background": True,
        "input_scaling_method": "minmax",
    }
    return FMamba(**config | changed)


def official(saved: FMamba) -> dict[str, Tensor]:
    """Return weights like those of an official file: nobody knows the positions' projection."""
    weights = dict(saved.state_dict())
    weights["embedder.pos"] = torch.randn_like(weights["embedder.pos"])
    return weights


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [2, 8, 10])
def test_our_own_weights_load_for_another_clip_length(method: str, frames: int) -> None:
    # Expected: every learned number as saved, and the positions a new model of that length has.
    saved = model(frames=frames, pe_method=method)
    before = {key: value.clone() for key, value in saved.state_dict().items()}
    fresh = model(pe_method=method)
    want = fresh.embedder.pos.clone()
    fresh.load_state_dict(before)
    assert torch.equal(fresh.embedder.pos, want)
    for key, value in fresh.state_dict().items():
        if key != "embedder.pos":
            assert torch.equal(value, before[key]), key
    assert before["embedder.pos"].shape[1] == 8 * frames // 2
    fresh(torch.randn(1, 1, 4, 4, 4, 4))


def test_another_grid_with_as_many_tokens_is_noticed() -> None:
    # Both grids have 16 tokens, so shapes alone would let the wrong positions in.
    saved = model(img_size=(8, 4, 4, 2))
    fresh = model()
    want = fresh.embedder.pos.clone()
    assert not torch.equal(saved.embedder.pos, want)
    fresh.load_state_dict(saved.state_dict())
    assert torch.equal(fresh.embedder.pos, want)


def test_the_own_grid_keeps_every_bit_of_any_file() -> None:
    for weights in (model().state_dict(), official(model()), model(pe_seed=4).state_dict()):
        fresh = model()
        fresh.load_state_dict(weights)
        assert torch.equal(fresh.embedder.pos, weights["embedder.pos"])


@pytest.mark.parametrize("method", ["nerf", "ff", "none"])
def test_an_official_file_is_refused_for_another_grid(method: str) -> None:
    weights = official(model(frames=8, pe_method=method))
    fresh = model(pe_method=method)
    with pytest.raises(ShapeError, match=r"random projection .* is not in the file") as caught:
        fresh.fitted(weights)
    assert "positions of 32 tokens, the grid (2, 2, 2, 2) of this model has 16" in str(caught.value)
    assert "sequence_length" in (caught.value.hint or "")
    assert "\n" not in str(caught.value)
    with pytest.raises(ShapeError, match="is not in the file"):
        fresh.load_state_dict(weights)


def test_another_seed_is_refused_for_another_grid() -> None:
    with pytest.raises(ShapeError, match="is not in the file") as caught:
        model().fitted(model(frames=8, pe_seed=1).state_dict())
    assert "pe_seed" in (caught.value.hint or "")


def test_cpe_is_always_computed_anew() -> None:
    # Nothing in it is random, so even a file of unknown origin fits another grid.
    fresh = model(pe_method="cpe")
    fresh.load_state_dict(official(model(frames=8, pe_method="cpe")))
    assert torch.equal(fresh.embedder.pos[0], encode("cpe", (2, 2, 2, 2), dim=16))


@pytest.mark.parametrize(
    ("changed", "message", "where"),
    [
        ({"patch_size": (2, 2, 2, 1)}, r"16 voxels, patch_size \(2, 2, 2, 1\) has 8", "patch_size"),
        ({"embed_dim": 32}, r"\(1, 16, 16\), embed_dim 32 needs \(1, tokens, 32\)", "embed_dim"),
    ],
)
def test_other_patches_and_widths_are_named(
    changed: dict[str, Any], message: str, where: str
) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        model(**changed).fitted(model().state_dict())
    assert where in (caught.value.where or "")


def test_weights_that_were_passed_in_stay_as_they_are() -> None:
    weights = model(frames=8).state_dict()
    pos = weights["embedder.pos"]
    fresh = model()
    fitted = fresh.fitted(weights)
    assert weights["embedder.pos"] is pos
    assert fitted["embedder.pos"].shape == (1, 16, 16)
    load_weights(fresh, fitted, label="test")


def test_a_downstream_run_starts_from_longer_pretraining_clips() -> None:
    # The case that matters: --init-from with another sequence length and a head.
    saved = model(frames=8)
    whole = FMambaWithHead(model(pretraining=False), build_head("mlp", 16, 2))
    said = ArTask.init_from(ArTask.__new__(ArTask), whole, saved.state_dict())
    # Expected: all but the head loads, and of the file only the output layer stays unused.
    assert said == (
        "12 tensors loaded, 2 missing (output_head.head.weight, output_head.head.bias), "
        "2 unexpected (output_layer.weight, output_layer.bias)"
    )
    learned = saved.state_dict()["embedder.projection"]
    assert torch.equal(whole.model.embedder.projection, learned)
    whole(torch.randn(1, 1, 4, 4, 4, 4))


@pytest.mark.parametrize(("source", "target"), [(False, True), (True, False), (True, True)])
def test_pretraining_goes_on_with_another_objective(source: bool, target: bool) -> None:
    # ar has no mask token and mim has: it is taken where both have it, else it stays as drawn.
    saved, fresh = model(mask_token=source), model(mask_token=target)
    drawn = {key: value.clone() for key, value in fresh.state_dict().items()}
    ArTask.init_from(ArTask.__new__(ArTask), fresh, saved.state_dict())
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, saved.state_dict().get(key, drawn[key])), key


def test_drawing_positions_leaves_other_draws_alone() -> None:
    # Expected: the same weights whatever the method, because positions draw from their own seed.
    weights = []
    for method in METHODS:
        torch.manual_seed(0)
        embedder = TokenEmbedder(8, 16, grid=(2, 2, 2, 2), pe_method=method)
        weights.append((embedder.projection.detach(), torch.randn(3)))
    for projection, drawn in weights[1:]:
        assert torch.equal(projection, weights[0][0])
        assert torch.equal(drawn, weights[0][1])
