"""The four heads against golden arrays, and what they promise about padded batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.nn.mamba1 import Mamba1
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.head_sizes import conv_length, shortest_conv_input
from neurocli.systems.fmri.models.heads import HEADS, FMambaWithHead, MlpHead, build_head

CASES = [("mlp", 1), ("mlp", 2), ("conv", 2), ("mamba", 2), ("mamba_fn", 2)]


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want)
    return float(np.abs(got.detach().numpy() - want).max() / np.abs(want).max())


def small(head: str, *, bidirectional: bool) -> FMambaWithHead:
    """Return an untrained model on an odd grid of 5 x 5 x 3 x 4 patches with a head."""
    torch.manual_seed(0)
    backbone = FMamba(
        24, 2, 6, 4, 2, (10, 15, 6, 4), (2, 3, 2, 1), "nerf", True, "znorm_zeroback",
        token_mask="per-sample", pretraining=False, bidirectional=bidirectional,
    )  # fmt: skip
    return FMambaWithHead(backbone, build_head(head, 24, 2)).eval()


def clips() -> tuple[Tensor, Tensor]:
    """Return clips whose brains keep 300, 120 and 180 of 300 tokens."""
    torch.manual_seed(1)
    brain = torch.zeros(3, 10, 15, 6, dtype=torch.bool)
    brain[0] = True
    brain[1, 3:7, 1:13, 2:6] = True
    brain[2, :5] = True
    return torch.randn(3, 1, 10, 15, 6, 4) * brain[:, None, ..., None], brain


@pytest.mark.parametrize(("name", "n_outputs"), CASES)
def test_equals_golden(golden: Path, name: str, n_outputs: int) -> None:
    # Expected: the reference head on the reference features, both stored in the file.
    arrays = dict(np.load(golden / "fmamba_nerf_heads.npz"))
    config = {key[4:]: value.tolist() for key, value in arrays.items() if key.startswith("cfg.")}
    model = FMambaWithHead(FMamba(**config), build_head(name, config["embed_dim"], n_outputs))
    prefix = f"head_{name}_{n_outputs}"
    weights = {f"model.{key[2:]}": v for key, v in arrays.items() if key.startswith("w.")}
    weights |= {
        f"output_head.{key.removeprefix(prefix + '.')}": value
        for key, value in arrays.items()
        if key.startswith(f"{prefix}.")
    }
    # Strict: the names and shapes of the official downstream checkpoints, no more and no fewer.
    model.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    assert relative(model(torch.tensor(arrays["x"]))["logits"], arrays[prefix]) <= 1e-5
    features = torch.tensor(arrays["features"])
    assert relative(model.output_head(features), arrays[prefix]) <= 1e-5


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_logits_do_not_depend_on_the_batch(name: str, bidirectional: bool) -> None:
    # Expected: each sample alone; the backbone's output is compared too, once.
    x, brain = clips()
    model = small(name, bidirectional=bidirectional)
    with torch.no_grad():
        together = model(x, brain)
        alone = [model(x[i : i + 1], brain[i : i + 1]) for i in range(3)]
        pair = model(x[[2, 1]], brain[[2, 1]])["logits"]
    assert [part["features"].shape[1] for part in alone] == [300, 120, 180]
    logits = torch.cat([part["logits"] for part in alone])
    scale = float(logits.abs().max())
    assert float((together["logits"] - logits).abs().max()) <= 1e-6 * max(scale, 1.0)
    assert float((pair - logits[[2, 1]]).abs().max()) <= 1e-6 * max(scale, 1.0)
    for i, part in enumerate(alone):
        n_kept = part["features"].shape[1]
        torch.testing.assert_close(
            together["features"][i, :n_kept], part["features"][0], rtol=1e-5, atol=2e-6
        )


@pytest.mark.parametrize("name", HEADS)
def test_padding_is_never_read(name: str) -> None:
    # Expected: exactly the same, whatever stands in the padding; float64 hides no leak.
    torch.manual_seed(0)
    head = build_head(name, 16, 3).double()
    real = torch.arange(140) < torch.tensor([140, 106, 133]).unsqueeze(1)
    features = torch.randn(3, 140, 16, dtype=torch.float64)
    filled = torch.where(real.unsqueeze(-1), features, torch.full_like(features, 7.0))
    got, want = head(filled, real), head(features, real)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    for i, n_tokens in enumerate((140, 106, 133)):
        torch.testing.assert_close(
            head(features[i : i + 1, :n_tokens])[0], want[i], rtol=1e-12, atol=1e-14
        )


def test_the_mlp_head_averages_real_tokens() -> None:
    # Expected: the mean by hand.
    head = MlpHead(2, 1)
    head.head.weight.data.fill_(1.0)
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [9.0, 9.0]]])
    real = torch.tensor([[True, True], [True, False]])
    assert head(features, real).flatten().tolist() == [5.0, 11.0]
    assert head(features).flatten().tolist() == [5.0, 14.5]


def test_the_mamba_heads_read_the_last_real_token() -> None:
    # Expected: all tokens up to the last real one matter, by their gradients; none after it.
    for name in ("mamba", "mamba_fn"):
        torch.manual_seed(0)
        head = build_head(name, 16, 1, keep_dt_init=True)
        features = torch.randn(1, 9, 16, requires_grad=True)
        real = (torch.arange(9) < 6).unsqueeze(0)
        grad = torch.autograd.grad(head(features, real).sum(), features)[0]
        assert (grad != 0).any(-1).tolist() == [[True] * 6 + [False] * 3]


def test_the_conv_head_needs_106_tokens() -> None:
    # Expected: 106, found by trying a plain stack of the four convolutions on every length.
    convs = [torch.nn.Conv1d(1, 1, 10, 2, 1) for _ in range(4)]

    def runs(n_tokens: int) -> bool:
        x = torch.zeros(1, 1, n_tokens)
        try:
            for conv in convs:
                assert conv(x).shape[2] == conv_length(x.shape[2])
                x = conv(x)
        except RuntimeError:
            return False
        return True

    assert [n for n in range(1, 160) if runs(n)] == list(range(106, 160))
    assert shortest_conv_input() == 106
    head = build_head("conv", 8, 2)
    assert head(torch.randn(2, 106, 8)).shape == (2, 2)
    with pytest.raises(NeuroError, match="conv head got 105 tokens, it needs at least 106") as info:
        head(torch.randn(2, 105, 8))
    assert "smaller patches" in (info.value.hint or "")
    real = torch.arange(120) < torch.tensor([120, 30, 90]).unsqueeze(1)
    with pytest.raises(NeuroError, match="got 30 tokens of sample 1, it needs"):
        head(torch.randn(3, 120, 8), real)


@pytest.mark.parametrize("name", HEADS)
def test_start_values(name: str) -> None:
    # Expected: N(0, 0.02) and zero biases, but for the mamba head, whose parts start as they do.
    torch.manual_seed(0)
    head = build_head(name, 256, 64)
    weights = {
        key: value.detach()
        for key, value in head.named_parameters()
        if key.endswith(("head.weight", "_proj.weight", "conv1d.weight"))
        or (key.startswith("conv_blocks") and key.endswith("weight"))
    }
    for key, value in weights.items():
        drawn_small = float(value.std()) == pytest.approx(0.02, rel=0.1)
        assert drawn_small == (name != "mamba"), key
    biases = [v for k, v in head.named_parameters() if k.endswith("bias")]
    assert any(bool(value.any()) for value in biases) == (name == "mamba")


@pytest.mark.parametrize("keep", [False, True])
def test_step_sizes_of_mamba_fn_may_keep_their_start(keep: bool) -> None:
    # Expected: softplus(0) = 0.693 in the family, Mamba's own 0.001 to 0.1 when kept.
    head = build_head("mamba_fn", 64, 2, keep_dt_init=keep)
    for part in head.modules():
        if isinstance(part, Mamba1):
            steps = torch.nn.functional.softplus(part.dt_proj.bias.detach())
            low, high = (0.9e-3, 0.11) if keep else (0.693, 0.694)
            assert low < float(steps.min()) <= float(steps.max()) < high


def test_narrow_models_have_mamba_heads_too() -> None:
    # E // 16 would be no state at all below 16.
    head = build_head("mamba", 8, 2)
    assert head.mamba_layers[0][0].d_state == 1
    assert head(torch.randn(1, 3, 8)).shape == (1, 2)


def test_heads_are_found_by_name() -> None:
    assert list(HEADS) == ["mlp", "conv", "mamba", "mamba_fn"]
    with pytest.raises(UsageError, match=r"unknown head 'mpl'; did you mean mlp\?"):
        build_head("mpl", 16, 2)
