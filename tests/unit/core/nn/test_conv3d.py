"""Convolutions against torch's own, and never on its slow path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from neurocli.core.errors import UsageError
from neurocli.core.nn.conv3d import Conv3d, UpConv3d, conv3d, use_fast_convolutions

SLOW = "aten::slow_conv3d"
# (channels in, out, kernel, stride, dilation); odd and single outputs are the edge of the trick.
CASES = [(3, 8, 3, 1, 1), (1, 4, 3, 2, 1), (6, 5, 3, 1, 2), (4, 1, 1, 1, 1), (8, 8, 2, 2, 1)]


def slow_kernels(work: Callable[[], object]) -> list[list[int]]:
    """Return the kernels that torch's slow path convolves, those of 1x1x1 taps aside."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        work()
    shapes = [event.input_shapes[1] for event in found.events() if event.name == SLOW]
    return [shape for shape in shapes if max(shape[2:]) > 1]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


@pytest.mark.parametrize(("c_in", "c_out", "kernel", "stride", "dilation"), CASES)
@pytest.mark.parametrize("batch", [1, 2])
def test_values_and_gradients_are_torchs(
    c_in: int, c_out: int, kernel: int, stride: int, dilation: int, batch: int
) -> None:
    # Oracle: torch in float64.
    torch.manual_seed(0)
    ours = Conv3d(c_in, c_out, kernel, stride, kernel // 2, dilation)
    x = draw(batch, c_in, 7, 8, 6)
    exact = nn.Conv3d(c_in, c_out, kernel, stride, kernel // 2, dilation).double()
    exact.load_state_dict(ours.state_dict())
    x64 = x.detach().double().requires_grad_()
    got, want = ours(x), exact(x64)
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)
    grads = torch.autograd.grad(got.square().sum(), [x, *ours.parameters()])
    truth = torch.autograd.grad(want.square().sum(), [x64, *exact.parameters()])
    for one, other in zip(grads, truth, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)


def test_small_inputs_leave_the_slow_path() -> None:
    x, weight = draw(1, 4, 16, 16, 16), draw(8, 4, 3, 3, 3)

    def plain() -> None:
        functional.conv3d(x, weight, padding=1).sum().backward()

    def ours() -> None:
        conv3d(x, weight, padding=(1, 1, 1)).sum().backward()

    assert slow_kernels(plain)  # else torch has mended itself and this module can go
    assert not slow_kernels(ours)


def test_no_layer_of_a_network_is_slow() -> None:
    from neurocli.systems.brats.config import BranchNetConfig
    from neurocli.systems.brats.models.branchnet import BranchNet

    names = BranchNetConfig(
        name="x",
        width=4,
        encoder=("replk", "convnext"),
        fused="mobilevit",
    )
    model, x = BranchNet(names, {}), torch.randn(1, 2, 32, 32, 32)
    assert not slow_kernels(lambda: model(x).sum().backward())


def test_padding_round_the_edges() -> None:
    torch.manual_seed(0)
    ours = Conv3d(2, 4, 3, padding=1, padding_mode="circular")
    exact = nn.Conv3d(2, 4, 3, padding=1, padding_mode="circular")
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, 5, 6, 7)
    torch.testing.assert_close(ours(x), exact(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_doubling_is_a_transposed_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    ours = UpConv3d(6, 3, bias=bias)
    exact = nn.ConvTranspose3d(6, 3, 2, 2, bias=bias)
    exact.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 3, 4, 5)
    torch.testing.assert_close(ours(x), exact(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="always doubled"):
        ours(x, [6, 8, 10])


def test_foreign_models_are_changed_in_place_only_where_plain() -> None:
    model = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.ConvTranspose3d(4, 2, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kinds = [type(module).__name__ for module in use_fast_convolutions(model)]  # type: ignore[arg-type, attr-defined]
    assert kinds == ["Conv3d", "Conv2d", "ConvTranspose3d"]
    assert type(model[0]) is Conv3d
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
