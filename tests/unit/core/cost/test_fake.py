"""Memory without computing equals memory with computing; stages by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from neurocli.core.cost.command import profile
from neurocli.core.cost.memory import StorageMeter
from neurocli.core.cost.shadow import build_on_meta, shadow_of
from neurocli.core.cost.stages import stage_rows, stages_of
from neurocli.core.cost.target import Target
from neurocli.core.errors import NeuroError

N, D = 16, 64
BYTES = N * D * 4


class ReadsBack(nn.Module):
    """A builder that reads a value, as some libraries' do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, int(torch.linspace(1, D, 3)[-1].item()))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def stack(n_layers: int = 3) -> nn.Sequential:
    return nn.Sequential(*[nn.Sequential(nn.Linear(D, D), nn.ReLU()) for _ in range(n_layers)])


def test_builders_that_read_values_are_built_for_real_first() -> None:
    assert next(build_on_meta(ReadsBack).parameters()).is_meta
    mode, model, x = shadow_of(ReadsBack, lambda: torch.randn(N, D))
    with mode:
        assert model(x).shape == (N, D)


def test_fake_and_real_peaks_are_equal() -> None:
    real = profile("unet3d_xs", runs=1, device="cpu", input_shape=(32, 32, 32), stage_wise=True)
    fake = profile("unet3d_xs", input_shape=(32, 32, 32), fake=True, stage_wise=True)
    for key in ("pam_inference_bytes", "pam_train_bytes", "stages", "params", "macs"):
        assert real.models[0][key] == fake.models[0][key], key
    assert fake.models[0]["latency_ms"] == {}
    assert "nothing was computed" in fake.notes[0]


def test_peaks_agree_with_torchs_own_tracker() -> None:
    """An independent peer, which rounds sizes up to 512 bytes and counts temporaries apart."""
    torch.manual_seed(0)
    model, x = stack(6), torch.randn(1024, D)
    with StorageMeter([*model.parameters(), x]) as meter, torch.no_grad():
        model(x)
    tracker = MemTracker()
    tracker.track_external(model, x)
    with tracker, torch.no_grad():
        model(x)
    told = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    others = sum(size for kind, size in told.items() if "Total" not in str(kind))
    resident = sum(weight.nbytes for weight in model.parameters()) + x.nbytes
    assert meter.peak == pytest.approx(others - resident, rel=0.01)


def test_stages_are_the_parts_that_run() -> None:
    wrapped = nn.Sequential(stack(2))
    assert list(stages_of(wrapped)) == ["0", "1"]
    parts = nn.ModuleDict(
        {"ups": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "out": nn.ReLU()}
    )
    assert list(stages_of(parts)) == ["ups.0", "ups.1", "out"]


def test_bytes_of_stages_by_hand() -> None:
    model, x = stack(3), torch.randn(N, D)
    rows = partial(stage_rows, model, x, resident=[*model.parameters(), x])
    # Without gradients: the input of a stage (none for the first: it is there before), and two
    # activations of its own while its ReLU runs.
    assert [row["pam_mean"] / BYTES for row in rows(training=False)] == [2, 3, 3]
    trained = rows(training=True)
    # Each stage keeps the output of its ReLU; the linear layer of the next one saves the same.
    assert [row["saved_bytes"] / BYTES for row in trained] == [1, 1, 1]
    assert [row["output_bytes"] / BYTES for row in trained] == [1, 1, 1]
    assert {row["mode"] for row in trained} == {"train"}


class AsksValues(nn.Module):
    """A model whose work depends on the values of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def test_what_depends_on_values_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Target.build

    def asking(target: Target) -> nn.Module:
        return AsksValues() if target.name == "cebra" else build(target)

    monkeypatch.setattr(Target, "build", asking)
    with pytest.raises(NeuroError, match="depends on the values") as caught:
        profile("cebra", fake=True)
    assert "cebra" in str(caught.value)
    both = profile("cebra", "unet3d_xs", fake=True, mode="inference")
    assert [name for name, _ in both.left_out] == ["cebra"]
    assert [row["model"] for row in both.models] == ["unet3d_xs"]


@pytest.mark.parametrize("name", ["fmamba", "cebra", "gene_sequence"])
def test_every_room_is_followed_without_numbers(name: str) -> None:
    shapes = {"fmamba": (24, 24, 24, 4), "cebra": (30,), "gene_sequence": (64, 8, 16)}
    depth = {"fmamba": ["model.depth=2"]}
    sizes = {"input_shape": shapes[name], "set": depth.get(name, [])}
    real, fake = (
        profile(name, runs=1, device="cpu", fake=is_fake, stage_wise=True, **sizes).models[0]  # type: ignore[arg-type]
        for is_fake in (False, True)
    )
    for key in ("pam_inference_bytes", "pam_train_bytes"):
        assert fake[key]["mean"] == pytest.approx(real[key]["mean"], rel=0.05), key
    names = [[row["stage_name"] for row in record["stages"]] for record in (real, fake)]
    assert names[0] == names[1]
