"""The five models by name: what their builders make of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config
from neurocli.core.errors import UsageError
from neurocli.systems.fmri.models.build import backbone_of, build
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.heads import ConvHead, FMambaWithHead, MlpHead
from neurocli.systems.fmri.models.heads_mamba import MambaFinalNormHead, MambaHead

HEADS: dict[str, type[nn.Module]] = {
    "fmamba_mlp": MlpHead,
    "fmamba_conv_mlp": ConvHead,
    "fmamba_mamba_head": MambaHead,
    "fmamba_mamba_head_fn": MambaFinalNormHead,
}
INFO: dict[str, Any] = {"img_size": [12, 12, 12, 16], "scaling": "voxel-z"}


def built(name: str, *settings: str, **info: Any) -> nn.Module:
    config = load_config(set=["model.embed_dim=24", "model.depth=1", *settings], model=name)
    model: nn.Module = resolve(find_model(name)[1].build)(config, {**INFO, **info})
    return model


@pytest.mark.parametrize("name", ["fmamba", *HEADS])
def test_every_name_builds_and_runs(name: str) -> None:
    # Width 24, the family's described default, is no multiple of 32 and still has fitting heads.
    model = built(name, n_outputs=3)
    assert backbone_of(model).mamba_layers[0][1].headdim == 16
    output = model(torch.randn(2, 1, 12, 12, 12, 16))
    if name == "fmamba":
        assert output["pred"].shape == (2, 128, 216)
    else:
        assert isinstance(model, FMambaWithHead)
        assert type(model.output_head) is HEADS[name]
        assert output["logits"].shape == (2, 3)


def test_keys_reach_the_model() -> None:
    one = built("fmamba", "model.bidirectional=true", "model.pe_seed=3", objective="mim")
    assert isinstance(one, FMamba)
    assert one.bidirectional
    assert one.embedder.pe_seed == 3
    assert one.embedder.mask_token is not None
    kept = built("fmamba_mamba_head_fn", "model.keep_dt_init=true")
    assert bool(kept.output_head.mamba_layers[0][1].dt_proj.bias.any())


def test_the_objective_decides_what_stands_on_the_backbone() -> None:
    ar, mim = (built("fmamba", objective=objective) for objective in ("ar", "mim"))
    plain = built("fmamba")
    assert all(isinstance(model, FMamba) and model.output_layer for model in (ar, mim, plain))
    assert ar.state_dict().keys() == plain.state_dict().keys()
    assert mim.state_dict().keys() - ar.state_dict().keys() == {"embedder.mask_token"}
    contrastive = built("fmamba", "task.projection_dim=7", objective="contrastive")
    assert backbone_of(contrastive).output_layer is None
    assert not isinstance(contrastive, FMamba)


def test_next_token_prediction_both_ways_is_refused() -> None:
    with pytest.raises(UsageError, match="has seen the token") as caught:
        built("fmamba", "model.bidirectional=true", objective="ar")
    assert caught.value.where == "model.bidirectional"
    assert "mim or contrastive" in (caught.value.hint or "")


def test_the_backbone_is_found_in_any_wrapping() -> None:
    model = built("fmamba_mlp")
    assert backbone_of(nn.Sequential(model)) is model.model
    assert backbone_of(model.model) is model.model
    with pytest.raises(UsageError, match="a Linear holds no FMamba"):
        backbone_of(nn.Linear(1, 1))


def test_widths_that_cannot_be_built_are_refused_with_those_that_can() -> None:
    with pytest.raises(UsageError, match="embed_dim 26") as caught:
        built("fmamba_mlp", "model.embed_dim=26")
    assert "can be built: 24, 28, 32" in (caught.value.hint or "")


def test_the_config_decides_when_no_data_say_the_objective() -> None:
    config = load_config(set=["model.embed_dim=8", "model.depth=1"], model="fmamba")
    hiding = config.model_copy(update={"task": config.task.model_copy(update={"objective": "mim"})})
    assert backbone_of(build(hiding, INFO)).embedder.mask_token is not None
