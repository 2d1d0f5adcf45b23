"""Attribution of encoders whose Jacobian is known, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.systems.calcium.attribution import attribute, jacobian
from neurocli.systems.calcium.config import FIELDS
from neurocli.systems.calcium.models.encoder import SessionEncoders


class Linear(SessionEncoders):
    """Map windows (B, L, N) to sums over frames and neurons with fixed weights (D, L, N)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__([weight.shape[2]], encoder="offset1", hidden=4, outputs=weight.shape[0])
        self.weight = weight

    def forward(
        self, windows: Tensor, session: int = 0, scale: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        del session, scale
        return torch.einsum("bln,dln->bd", windows, self.weight)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encoders(encoder: str = "offset5", neurons: tuple[int, ...] = (6,)) -> SessionEncoders:
    torch.manual_seed(0)
    return SessionEncoders(neurons, encoder=encoder, hidden=8, outputs=3).double().eval()


def test_a_linear_encoder_is_its_own_jacobian() -> None:
    weight = drawn(3, 4, 5)
    found = jacobian(Linear(weight), drawn(7, 4, 5, seed=1))
    assert found.shape == (7, 3, 4, 5)
    assert torch.allclose(found, weight.expand(7, 3, 4, 5), atol=1e-14)


def test_scores_of_a_linear_encoder_by_hand() -> None:
    # One frame, two outputs: y1 = 3 x1, y2 = 4 x2, and x3 counts for nothing. Norms are 3, 4 and
    # 0; the pseudo-inverse of a diagonal matrix is 1 / 3, 1 / 4 and 0.
    weight = torch.tensor([[[3.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]]], dtype=torch.float64)
    found = attribute(Linear(weight), drawn(5, 1, 3))
    assert found.jacobian.tolist() == pytest.approx([3, 4, 0])
    assert found.inverse.tolist() == pytest.approx([1 / 3, 1 / 4, 0])


def test_frames_add_in_the_norm_and_may_cancel_in_the_inverse() -> None:
    # A neuron whose two frames weigh 1 and -1 has the norm sqrt 2, and no lasting effect: a change
    # over the whole window moves nothing, so its inverse score is 0.
    weight = torch.tensor([[[1.0, 2.0], [-1.0, 2.0]]], dtype=torch.float64)
    found = attribute(Linear(weight), drawn(3, 2, 2))
    assert found.jacobian.tolist() == pytest.approx([2**0.5, 8**0.5])
    assert found.inverse.tolist() == pytest.approx([0, 1 / 4])  # y = 4 x2


def test_the_inverse_is_numpys_of_each_window() -> None:
    model, windows = encoders(), drawn(4, 5, 6)
    over_time = jacobian(model, windows).sum(2)
    expected = [torch.from_numpy(np.linalg.pinv(own.numpy(), rcond=1e-3))
                for own in over_time]  # fmt: skip
    assert torch.allclose(
        attribute(model, windows).inverse, torch.stack(expected).norm(dim=2).mean(0), atol=1e-10
    )


@pytest.mark.parametrize("encoder", FIELDS)
def test_derivatives_are_differences(encoder: str) -> None:
    model, length = encoders(encoder), sum(FIELDS[encoder])
    windows = drawn(2, length, 6)
    found = jacobian(model, windows)
    step = 1e-6
    for frame, neuron in ((0, 0), (length - 1, 5), (length // 2, 3)):
        moved = windows.clone()
        moved[:, frame, neuron] += step
        back = windows.clone()
        back[:, frame, neuron] -= step
        with torch.no_grad():
            slope = (model(moved) - model(back)) / (2 * step)
        assert torch.allclose(found[:, :, frame, neuron], slope, atol=1e-8)


def test_unit_length_leaves_no_derivative_along_the_embedding() -> None:
    # y.y = 1, so y . dy = 0 for every input.
    model, windows = encoders(), drawn(4, 5, 6)
    along = torch.einsum("bd,bdln->bln", model(windows), jacobian(model, windows))
    assert along.abs().max() < 1e-12


def test_scores_are_means_over_windows_and_a_batch_is_its_windows() -> None:
    model, windows = encoders(), drawn(4, 5, 6)
    alone = [attribute(model, windows[i : i + 1]) for i in range(4)]
    found = attribute(model, windows)
    assert torch.allclose(found.jacobian, torch.stack([a.jacobian for a in alone]).mean(0))
    assert torch.allclose(found.inverse, torch.stack([a.inverse for a in alone]).mean(0))
    again = attribute(model, windows.flip(0))
    assert torch.allclose(found.jacobian, again.jacobian)


def test_rotated_outputs_have_the_same_scores() -> None:
    weight = drawn(3, 2, 5)
    turn = torch.linalg.qr(drawn(3, 3, seed=3))[0]
    one = attribute(Linear(weight), drawn(2, 2, 5))
    other = attribute(Linear(torch.einsum("ed,dln->eln", turn, weight)), drawn(2, 2, 5))
    assert torch.allclose(one.jacobian, other.jacobian)
    assert torch.allclose(one.inverse, other.inverse)


def test_sessions_have_scores_of_their_own_neurons() -> None:
    model = encoders("offset5", (6, 4))
    assert attribute(model, drawn(3, 5, 6), 0).jacobian.shape == (6,)
    assert attribute(model, drawn(3, 5, 4), 1).inverse.shape == (4,)


def test_it_works_where_gradients_are_off_and_leaves_nothing_behind() -> None:
    model, windows = encoders(), drawn(2, 5, 6)
    expected = jacobian(model, windows)
    with torch.no_grad():
        assert torch.equal(jacobian(model, windows), expected)
    assert not windows.requires_grad
    assert all(p.grad is None for p in model.parameters())
