"""`models show`, `flops` and `profile` over networks that are drawn stage by stage."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def test_show_draws_the_stages(neuro: Any) -> None:
    answer = neuro("models", "show", "dualbranch_13_unet_s", "--json")
    stages = {row["stage"]: row for row in answer.json["stages"]}
    assert list(stages)[:2] == ["stem_flair", "branch_flair2"]
    assert sum(row["params"] for row in stages.values()) == answer.json["params"] == 32_219_636
    text = neuro("models", "show", "dualbranch_13_unet_s").out
    for word in ("branch_t1ce4", "mobilevit", "8x8x8", "model.encoder"):
        assert word in text
    assert neuro("models", "show", "fmamba", "--json").json["stages"] == []


def test_show_needs_no_torch() -> None:
    code = (
        "import sys; from neurocli.cli.main import main; main(['models', 'show', 'unet3d_xs']);"
        "print('loaded', [name for name in ('torch', 'numpy', 'monai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_names_stay_in_one_piece_on_a_narrow_terminal(neuro: Any) -> None:
    text = neuro("models", "list", "dualbranch_mobilenetv2*").out
    assert "dualbranch_mobilenetv2_dilated_fixed_xs" in text
    assert max(map(len, text.splitlines())) <= 80


def test_flops_tell_the_stages(neuro: Any) -> None:
    answer = neuro("flops", "unet3d_xs", "--input-shape", "64,64,64", "--json").json
    assert answer["input_shape"] == [64, 64, 64]
    assert answer["tokens"] is None
    # 120.4e9 for 128^3, and an eighth of the voxels.
    assert abs(answer["macs"] / (120.4e9 / 8) - 1) < 1e-2
    assert set(answer["components"]) >= {"enc1", "enc5", "up4", "outc"}
    wrong = neuro("flops", "unet3d_xs", "--input-shape", "64,64")
    assert wrong.code == 2
    assert "3 sizes" in wrong.err


def test_profile_without_computing(neuro: Any) -> None:
    words = ("profile", "unet3d_xs", "dualbranch_04_unet_m", "--fake", "--stage-wise")
    answer = neuro(*words, "--mode", "inference", "--json")
    rows = answer.json["models"]
    assert [row["model"] for row in rows] == ["unet3d_xs", "dualbranch_04_unet_m"]
    assert all(row["latency_ms"] == {} and row["pam_train_bytes"] is None for row in rows)
    assert {stage["mode"] for row in rows for stage in row["stages"]} == {"inference"}
    text = neuro("profile", words[2], *words[3:], "--mode", "train").out
    assert "branch_flair3" in text
    assert "kept MiB" in text


def test_a_mistyped_name_is_mended(neuro: Any) -> None:
    answer = neuro("models", "show", "dualbranch_14_ghostnt_s")
    assert answer.code == 2
    assert "dualbranch_14_ghostnet_s" in answer.err
