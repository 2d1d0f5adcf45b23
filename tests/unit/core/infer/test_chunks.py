"""Adding a window a few planes at a time gives the sum in one go."""

from __future__ import annotations

import pytest
import torch

from neurocli.core.infer import windows
from neurocli.core.infer.windows import Weights, add_weighted, plan_grid, plane_chunks


@pytest.mark.parametrize("depth", [1, 5, 8])
def test_chunks_cover_every_plane_once(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(windows, "_CHUNK_VOXELS", 24)
    found = [*plane_chunks((depth, 4, 3), torch.device("cpu"))]
    planes = [plane for part in found for plane in range(part.start, part.stop)]
    assert planes == list(range(depth))
    assert max(part.stop - part.start for part in found) <= 2
    # A plane larger than the cache is still a chunk, and a device takes all at once.
    assert len([*plane_chunks((depth, 40, 30), torch.device("cpu"))]) == depth
    assert [*plane_chunks((depth, 4, 3), torch.device("cuda"))] == [slice(0, depth)]


@pytest.mark.parametrize("blend", ["gaussian", "cosine", "constant"])
def test_chunked_sums_equal_whole_ones(monkeypatch: pytest.MonkeyPatch, blend: str) -> None:
    grid = plan_grid((11, 9, 8), (6, 5, 4), 0.4, blend)
    logits = torch.randn(3, *grid.size, generator=torch.Generator().manual_seed(0))
    whole = Weights(grid, torch.device("cpu"))
    monkeypatch.setattr(windows, "_CHUNK_VOXELS", 20)
    chunked = Weights(grid, torch.device("cpu"))
    for row in grid.rows():
        for window in row:
            target = torch.zeros(3, *grid.size)
            chunked.add(target, logits, window)
            assert torch.allclose(target, logits * whole.of(window), atol=1e-7)
            assert torch.equal(whole.of(window), chunked.of(window))
    weight = whole.of(next(grid.rows())[0])
    target = torch.ones(3, *grid.size)
    add_weighted(target, logits, weight)
    assert torch.allclose(target, 1 + logits * weight, atol=1e-7)
    add_weighted(target, logits, None)
    assert torch.allclose(target, 1 + logits * weight + logits, atol=1e-7)
