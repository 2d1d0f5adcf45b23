"""Patches on their way from frames to tokens, against one plain transposition."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.systems.fmri.store_patch import place_patches


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [1, 7, 216])
def test_whole_patches_go_where_numbers_would(dtype: str, size: int) -> None:
    # Any bits: NaN and -0 must come out as they went in.
    raw = np.random.default_rng(0).integers(0, 256, (3, 5, size * np.dtype(dtype).itemsize))
    stored = raw.astype(np.uint8).view(dtype)
    whole = np.full((5, 4, size, 1), 9, dtype=dtype)
    place_patches(stored, whole[:, 1:, :, 0])
    assert np.array_equal(whole[:, 1:, :, 0].view(np.uint8), stored.swapaxes(0, 1).view(np.uint8))
    assert (whole[:, 0] == 9).all()
