"""Chunk lengths, checked against what h5py itself writes through each filter."""

from __future__ import annotations

import io
import zlib

import h5py
import numpy as np
import pytest

from neurocli.core.data.chunks import check_chunk, expanded_limit

GZIP, SHUFFLE, FLETCHER32, LZF, ZSTD = 1, 2, 3, 32000, 32015
OPTIONS = {
    (): {},
    (GZIP,): {"compression": "gzip"},
    (LZF,): {"compression": "lzf"},
    (SHUFFLE, GZIP): {"compression": "gzip", "shuffle": True},
    (SHUFFLE, LZF, FLETCHER32): {"compression": "lzf", "shuffle": True, "fletcher32": True},
    (GZIP, FLETCHER32): {"compression": "gzip", "fletcher32": True},
}


def stored(values, options):
    """Return the one chunk as the library stores it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=values.shape, **options)
        mask, raw = dataset.id.read_direct_chunk((0,))
        properties = dataset.id.get_create_plist()
        codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    return [code for i, code in enumerate(codes) if not mask >> i & 1], raw


def content(kind):
    rng = np.random.default_rng(0)
    return {
        "noise": rng.integers(0, 256, 5000).astype(np.uint8),
        "zeros": np.zeros(5000, np.uint8),
        "runs": np.repeat(rng.integers(0, 9, 100), 50).astype(np.uint8),
        "far": np.concatenate([np.tile(rng.integers(0, 256, 1700), 3)]).astype(np.uint8)[:5000],
    }[kind]


@pytest.mark.parametrize("kind", ["noise", "zeros", "runs", "far"])
@pytest.mark.parametrize("codes", OPTIONS)
def test_sound_chunks_pass_and_cut_ones_do_not(codes, kind):
    used, raw = stored(content(kind), OPTIONS[codes])
    assert check_chunk(raw, used, 5000) is None
    assert check_chunk(raw, used, 5001)
    assert check_chunk(raw, used, 4999)
    if used:
        assert check_chunk(raw[: len(raw) // 2], used, 5000)


def test_a_gzip_chunk_that_expands_too_far_stops_there():
    raw = zlib.compress(bytes(100 << 20))
    assert "too far" in check_chunk(raw, [GZIP], 1000)


def test_the_checksum_of_a_gzip_chunk_is_met():
    raw = bytearray(zlib.compress(b"voxels" * 100))
    raw[-1] ^= 1
    assert "incorrect data check" in check_chunk(bytes(raw), [GZIP], 600)


def test_zstd_is_left_to_its_library():
    assert check_chunk(b"anything", [ZSTD], 5) is None


def test_no_claim_above_the_limit_is_possible():
    for codes, options in OPTIONS.items():
        used, raw = stored(content("zeros"), options)
        assert expanded_limit(len(raw), used) >= 5000, codes
    assert expanded_limit(10, [ZSTD]) == float("inf")
    assert expanded_limit(10, []) == 10
