"""Inflating: the same bytes as Python's gzip module, and no damage unseen."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
import pytest

from neurocli.core.data import gzipstream
from neurocli.core.data.gzipstream import DamagedStreamError, GzipStream

CONTENT = np.random.default_rng(0).integers(0, 40, size=300_000).astype(np.uint8).tobytes()


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def inflater(request, monkeypatch):
    """Run with each inflater; the first needs the optional extra `fast`."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="the optional package isal is not installed")
    else:
        monkeypatch.setattr(gzipstream, "_inflate", zlib)
        monkeypatch.setattr(gzipstream, "_Error", zlib.error)


def stream(packed: bytes) -> GzipStream:
    return GzipStream(io.BufferedReader(io.BytesIO(packed)))


def read(source: GzipStream, n_bytes: int) -> bytes:
    target = bytearray(n_bytes)
    return bytes(target[: source.readinto(memoryview(target))])


@pytest.mark.parametrize("step", [1000, 65536, 299_999, 400_000])
def test_pieces_of_any_size_make_the_whole(step):
    source = stream(gzip.compress(CONTENT))
    pieces = iter(lambda: read(source, step), b"")
    assert b"".join(pieces) == CONTENT
    assert not source.trailing_junk


def test_skipping_and_reading_share_one_position():
    source = stream(gzip.compress(CONTENT))
    assert source.skip(100_001) == 100_001
    assert read(source, 50) == CONTENT[100_001:100_051]
    assert source.skip(10**9) == len(CONTENT) - 100_051
    assert source.skip(1) == 0


def test_members_follow_each_other_even_when_empty():
    packed = gzip.compress(CONTENT[:7]) + gzip.compress(b"") + gzip.compress(CONTENT[7:])
    assert read(stream(packed), 10**6) == gzip.decompress(packed) == CONTENT


@pytest.mark.parametrize(
    ("tail", "is_junk"), [(bytes(100), False), (b"x" * 100_000, True), (b"\x1f", True)]
)
def test_a_tail_is_told_apart_from_data(tail, is_junk):
    source = stream(gzip.compress(CONTENT) + tail)
    assert read(source, 10**6) == CONTENT
    assert source.trailing_junk == is_junk


@pytest.mark.parametrize("lost", [1, 7, 8, 9, 5000])
def test_a_cut_stream_ends_in_an_error(lost):
    with pytest.raises(DamagedStreamError, match="cut short"):
        stream(gzip.compress(CONTENT)[:-lost]).skip(10**9)


@pytest.mark.parametrize("place", [-1, -4, -5, -8])
def test_wrong_length_and_checksum_are_met(place):
    packed = bytearray(gzip.compress(CONTENT))
    packed[place] ^= 0x10
    with pytest.raises(DamagedStreamError, match="damaged"):
        stream(bytes(packed)).skip(10**9)


def test_one_step_of_a_bomb_is_bounded():
    packed = gzip.compress(bytes(200 << 20), 9)
    assert stream(packed).skip(1000) == 1000
    assert len(packed) * gzipstream.MAX_RATIO >= 200 << 20
