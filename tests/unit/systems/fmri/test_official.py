"""Official-style Lightning checkpoints, made from golden weights, load whole and stay equal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import neurocli
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


def lightning(
    path: Path, arrays: dict[str, Any], head: str | None, prefix: str = "", **told: Any
) -> Path:
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
    options = argparse.Namespace(embed_dim=64, lr=1e-3, **told)
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


def raw(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file as it names them, read without any code of ours."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, weights_only=False)
    return content["state_dict"] if path.suffix == ".ckpt" else content


@pytest.mark.parametrize("head", [None, *HEADS])
@pytest.mark.parametrize("ending", [".ckpt", ".pth", ".safetensors"])
def test_an_export_holds_every_tensor_under_its_official_name(
    tmp_path: Path, arrays: dict[str, Any], head: str | None, ending: str
) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, head, "_forward_module.")
    result = neurocli.export_weights(path, tmp_path / f"back{ending}")
    original = {name.removeprefix("_forward_module."): v for name, v in raw(path).items()}
    if ending != ".ckpt":
        original = {name.removeprefix("model."): value for name, value in original.items()}
    back = raw(result.out)
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], value) for name, value in original.items())
    assert (result.tensors, result.left_out) == (len(original), [])
    again = neurocli.export_weights(result.out, tmp_path / "again.safetensors")
    bare = {name.removeprefix("model."): value for name, value in original.items()}
    assert raw(again.out).keys() == bare.keys()
    if ending == ".ckpt":
        content = torch.load(result.out, weights_only=True)
        assert content["hyper_parameters"]["embed_dim"] == 64
        assert {"epoch", "global_step", "pytorch-lightning_version"} <= content.keys()


def test_an_export_refuses_what_it_must(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, None)
    with pytest.raises(UsageError, match="no format"):
        neurocli.export_weights(path, tmp_path / "x.bin")
    with pytest.raises(UsageError, match="exists"):
        neurocli.export_weights(path, path)
    before = path.read_bytes()
    assert neurocli.export_weights(path, tmp_path / "x.pth", dry_run=True).plan is not None
    assert not (tmp_path / "x.pth").exists()
    assert path.read_bytes() == before
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "resnet.pth")
    with pytest.raises(NeuroError, match="no model of the family"):
        neurocli.export_weights(tmp_path / "resnet.pth", tmp_path / "x.pth")


def test_what_shapes_cannot_tell_is_asked_for(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, None)
    with pytest.raises(UsageError, match="500 patches") as caught:
        neurocli.load_model(path)
    # 216 voxels are the family's usual patch of 6,6,6,1.
    assert "img_size=..." in str(caught.value.hint)
    assert "patch_size" not in str(caught.value.hint)
    with pytest.raises(NeuroError, match=r"embedder\.pos \(1, 500, 64\) for \(1, 750, 64\)"):
        neurocli.load_model(path, patch_size=(6, 6, 6, 1), img_size=(30, 30, 30, 6))
    odd = {**arrays, "w.embedder.projection": arrays["w.embedder.projection"][:35]}
    with pytest.raises(UsageError, match="35 voxels"):
        neurocli.load_model(lightning(tmp_path / "odd.ckpt", odd, None))


def test_hyper_parameters_tell_the_rest(tmp_path: Path, arrays: dict[str, Any]) -> None:
    told = {"patch_size": [6, 6, 6, 1], "img_size": [30, 30, 30, 4],
            "input_scaling_method": "znorm_minback", "mamba_pe_method": "nerf"}  # fmt: skip
    path = lightning(tmp_path / "official.ckpt", arrays, None, **told)
    model = neurocli.load_model(path, token_mask="union")
    with torch.no_grad():
        got = model(torch.tensor(arrays["x"]))["pred"].numpy()
    assert np.abs(got - arrays["pred"]).max() <= 1e-5 * np.abs(arrays["pred"]).max()
    # What does not fit the shapes is not believed.
    wrong = lightning(tmp_path / "w.ckpt", arrays, None, patch_size=[2, 2, 2, 1], img_size="big")
    assert neurocli.load_model(wrong, img_size=(30, 30, 30, 4)) is not None


def test_a_run_starts_from_an_official_checkpoint(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = lightning(tmp_path / "official.ckpt", arrays, None)
    grid = ["data.img_size=30,30,30", "data.sequence_length=4"]
    given: dict[str, Any] = {"init_from": path, "steps": 1, "preset": "fmri/tiny", "set": grid}
    result = neurocli.train("fmamba", pretrain="ar", dry_run=True, **given)
    said = " ".join(result.notes)
    assert "fixes the model: " in said
    assert "d_state 16" in said
    assert "patches of 216 voxels are taken to be 6,6,6,1" in said
    plan: Any = result.plan
    assert plan["config"]["model"]["embed_dim"] == 64
    assert plan["config"]["model"]["patch_size"] == [6, 6, 6, 1]
    with pytest.raises(UsageError, match="embed_dim is 32, the weights have 64") as caught:
        neurocli.train("fmamba", pretrain="ar", **{**given, "set": [*grid, "model.embed_dim=32"]})
    assert "--set" in str(caught.value.where)
    # The random projection of an official position code is in no file, so its grid is fixed.
    with pytest.raises(NeuroError, match="not in the file"):
        neurocli.train("fmamba", pretrain="ar", **{**given, "set": []})
    folder = tmp_path / "deepspeed" / "global_step70"
    folder.mkdir(parents=True)
    state = {f"module.{name}": value for name, value in raw(path).items()}
    torch.save({"module": state}, folder / "mp_rank_00_model_states.pt")
    given["init_from"] = folder.parent
    said = " ".join(neurocli.train("fmamba", pretrain="ar", dry_run=True, **given).notes)
    assert "global_step70/mp_rank_00_model_states.pt is taken" in said
    assert "23 tensors loaded, 0 missing, 0 unexpected" in said


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
