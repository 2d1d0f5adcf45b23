"""Official-style Lightning checkpoints, made from golden weights, load whole and stay equal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurocli
from neurocli.core.engine.weights import export_safetensors, read_weights
from neurocli.core.errors import InputError, NeuroError, UsageError

SHAPES = {"img_size": (30, 30, 30, 4), "patch_size": (6, 6, 6, 1)}
HEADS = {
    "mlp": "fmamba_mlp",
    "conv": "fmamba_conv_mlp",
    "mamba": "fmamba_mamba_head",
    "mamba_fn": "fmamba_mamba_head_fn",
}


@pytest.fixture
def arrays(golden: Path) -> dict[str, Any]:
    return dict(np.load(golden / "fmamba_nerf_heads.npz"))


def lightning(path: Path, arrays: dict[str, Any], head: str | None, prefix: str = "") -> Path:
    """Write what Lightning writes: prefixed tensors, and options of argparse."""
    state = {
        f"{prefix}model.{key[2:]}": torch.tensor(value)
        for key, value in arrays.items()
        if key.startswith("w.") and (head is None or not key.startswith("w.output_layer."))
    }
    if head is not None:
        start = f"head_{head}_2."
        state |= {
            f"{prefix}output_head.{key.removeprefix(start)}": torch.tensor(value)
            for key, value in arrays.items()
            if key.startswith(start)
        }
    options = argparse.Namespace(embed_dim=64, patch_size=[6, 6, 6, 1], lr=1e-3)
    content = {
        "state_dict": state, "hyper_parameters": vars(options) | {"args": options}, "epoch": 3,
        "global_step": 70, "pytorch-lightning_version": "1.9.4", "optimizer_states": [],
    }  # fmt: skip
    torch.save(content, path)
    return path


@pytest.mark.parametrize("prefix", ["", "_forward_module.", "module._orig_mod.", "model.module."])
def test_a_pretrained_checkpoint_predicts_as_it_did(
    tmp_path: Path, arrays: dict[str, Any], prefix: str
) -> None:
    # Expected: the golden predictions of the same weights.
    path = lightning(tmp_path / "official.ckpt", arrays, None, prefix)
    model = neurocli.load_model(path, **SHAPES, token_mask="union", scaling="znorm_minback")
    with torch.no_grad():
        got = model(torch.tensor(arrays["x"]))["pred"].numpy()
    want = arrays["pred"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_recognised_by_its_tensors(
    tmp_path: Path, arrays: dict[str, Any], head: str
) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, head)
    model = neurocli.load_model(path, **SHAPES, token_mask="union", scaling="znorm_minback")
    with torch.no_grad():
        got = model(torch.tensor(arrays["x"]))["logits"].numpy()
    assert np.abs(got - arrays[f"head_{head}_2"]).max() <= 2e-5 * np.abs(got).max()
    # Exported, every tensor is the one that came, under the same name.
    out = export_safetensors(tmp_path / "back.safetensors", model.state_dict(), {})
    back, original = read_weights(out)[0], read_weights(path)[0]
    renamed = {name.removeprefix("model."): value for name, value in back.items()}
    assert renamed.keys() == original.keys()
    assert all(torch.equal(renamed[name], value) for name, value in original.items())


def test_what_shapes_cannot_tell_is_asked_for(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, None)
    with pytest.raises(UsageError, match="216 voxels") as caught:
        neurocli.load_model(path)
    assert "500 patches" in caught.value.message
    assert "patch_size=..., img_size=..." in str(caught.value.hint)
    with pytest.raises(NeuroError, match=r"embedder\.pos \(1, 500, 64\) for \(1, 750, 64\)"):
        neurocli.load_model(path, patch_size=(6, 6, 6, 1), img_size=(30, 30, 30, 6))


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(NeuroError, match=r"no model here.*conv1\.weight"):
        neurocli.load_model(path)


def test_other_objects_are_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "model": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(InputError, match=r"torch\.nn"):
        neurocli.load_model(path)
