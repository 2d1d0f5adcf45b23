"""Channels by name under every order, and grids that are filled and cut, by slow loops."""

from __future__ import annotations

import itertools

import pytest
import torch

from neurocli.core.errors import ExitCode, NeuroError, UsageError
from neurocli.systems.brats.models.routing import Routed, channel_order, cut_grid, fill_grid

ALL = ("t1", "t1ce", "t2", "flair")


@pytest.mark.parametrize("have", list(itertools.permutations(ALL)))
def test_every_order_of_the_data_gives_the_same_channels(have: tuple[str, ...]) -> None:
    # A channel holds the number of its modality, so that what is read can be told by value.
    x = torch.tensor([float(ALL.index(name)) for name in have]).reshape(1, 4, 1, 1, 1)
    for n_read in range(1, 5):
        for wanted in itertools.permutations(ALL, n_read):
            routed = Routed(wanted, {"modalities": have})
            found = routed.route(x).flatten().tolist()
            assert [ALL[int(at)] for at in found] == list(wanted)


def test_data_that_tell_nothing_have_what_is_wanted() -> None:
    assert channel_order(("flair", "t1ce"), {}) == [0, 1]
    routed = Routed(("flair", "t1ce"), {})
    x = torch.randn(2, 2, 3, 3, 3)
    assert routed.route(x) is x  # not even copied
    assert routed.n_data_channels == 2


def test_slices_and_batches_are_routed_too() -> None:
    routed = Routed(("flair", "t1"), {"modalities": ALL})
    x = torch.randn(5, 4, 6, 7)
    assert torch.equal(routed.route(x), x[:, [3, 0]])


def test_all_that_is_missing_is_named_with_what_is_there() -> None:
    with pytest.raises(UsageError) as caught:
        channel_order(("flair", "t1ce", "t2"), {"modalities": ["t1", "t2"]})
    assert caught.value.message == "the data hold t1, t2, but not flair, t1ce"
    assert (caught.value.where, caught.value.code) == ("model.modalities", ExitCode.USAGE)
    assert caught.value.hint == "name only modalities of the data, or prepare the missing ones"


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_another_number_of_channels_is_told_whatever_is_read(channels: int) -> None:
    # Five channels hold all that is wanted, yet which is which is not known.
    routed = Routed(("t1",), {"modalities": ALL})
    with pytest.raises(NeuroError) as caught:
        routed.route(torch.zeros(1, channels, 2, 2, 2))
    assert caught.value.message == f"the input has {channels} channels, the data told 4"
    assert caught.value.code == ExitCode.FAILED


def test_printing_tells_what_is_read() -> None:
    assert "reads flair, t1ce" in repr(Routed(("flair", "t1ce"), {}))


@pytest.mark.parametrize("grid", [(7, 3), (8, 4), (4, 4), (1, 2, 3), (9, 4, 5), (4, 4, 4)])
@pytest.mark.parametrize("divisor", [1, 2, 4])
def test_filling_and_cutting_by_a_slow_loop(grid: tuple[int, ...], divisor: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *grid)
    filled = fill_grid(x, divisor)
    sizes = filled.shape[2:]
    assert all(size % divisor == 0 for size in sizes)
    for at in itertools.product(*map(range, sizes)):
        inside = all(a < size for a, size in zip(at, grid, strict=True))
        want = x[(slice(None), slice(None), *at)] if inside else torch.zeros(2, 3)
        assert torch.equal(filled[(slice(None), slice(None), *at)], want)
    assert torch.equal(cut_grid(filled, grid), x)


@pytest.mark.parametrize("divisor", [2, 4, 16])
def test_never_a_single_voxel_at_the_bottom(divisor: int) -> None:
    for grid in itertools.product((1, divisor), repeat=3):
        sizes = fill_grid(torch.empty(1, 1, *grid, device="meta"), divisor).shape[2:]
        assert tuple(sizes) == (divisor, divisor, 2 * divisor)


def test_what_fits_is_handed_through() -> None:
    x = torch.randn(1, 1, 8, 4, 4)
    assert fill_grid(x, 4) is x
    assert cut_grid(x, (8, 4, 4)) is x


def test_gradients_of_what_is_filled_are_dropped() -> None:
    x = torch.randn(1, 1, 3, 3, 3, requires_grad=True)
    fill_grid(x, 4).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
