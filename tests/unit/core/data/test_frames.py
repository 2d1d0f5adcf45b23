"""Frame files: they come back as written, and damaged or hostile ones are refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocli.core.data.frames import (
    frame_paths,
    read_frame,
    read_stats,
    write_frames,
    write_stats,
)
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError, NeuroError


@pytest.fixture
def frames() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(1000, 300, (4, 3, 2)).astype(np.float32) for _ in range(12)]


def test_round_trip_in_time_order(tmp_path: Path, frames: list[np.ndarray]) -> None:
    names = write_frames(tmp_path, frames)
    assert names[:2] == ["frame_0.pt", "frame_1.pt"]
    paths = frame_paths(tmp_path)
    assert [path.name for path in paths] == names  # 10 comes after 9
    for path, frame in zip(paths, frames, strict=True):
        np.testing.assert_array_equal(read_frame(path), frame.astype(np.float16))


def test_files_are_what_the_family_reads(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_frames(tmp_path, [np.asfortranarray(frames[0])])
    tensor = torch.load(tmp_path / "frame_0.pt", weights_only=True)
    assert tensor.dtype == torch.float16
    assert tuple(tensor.shape) == (4, 3, 2, 1)
    assert tensor.untyped_storage().nbytes() == 4 * 3 * 2 * 2


def test_same_values_same_bytes(tmp_path: Path, frames: list[np.ndarray]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_frames(tmp_path / name, frames[:1])
    one, two = ((tmp_path / name / "frame_0.pt").read_bytes() for name in ("one", "two"))
    assert one == two


def test_stats_round_trip(tmp_path: Path) -> None:
    stats = GlobalStats(10, 1.5, 0.5, 3.0, 0.1, 1.4, 0.7)
    assert read_stats(tmp_path) is None
    write_stats(tmp_path, stats)
    assert read_stats(tmp_path) == stats
    values = torch.load(tmp_path / "global_stats.pt", weights_only=True)
    assert values["valid_voxels"] == 10
    assert values["global_mean"].ndim == 0


def test_stats_of_the_family_are_read(tmp_path: Path) -> None:
    values = {"valid_voxels": 9, "global_mean": torch.tensor(2.0), "global_std": 1.0}
    torch.save({**values, "global_max": torch.tensor(5.0)}, tmp_path / "global_stats.pt")
    found = read_stats(tmp_path)
    assert found is not None
    assert (found.valid_voxels, found.global_mean, found.global_max) == (9, 2.0, 5.0)
    torch.save(values, tmp_path / "global_stats.pt")
    with pytest.raises(NeuroError, match="lack global_max"):
        read_stats(tmp_path)
    torch.save([1], tmp_path / "global_stats.pt")
    with pytest.raises(InputError, match="holds a list"):
        read_stats(tmp_path)


@pytest.mark.parametrize("value", [65505.0, np.inf, np.nan])
def test_overflow_is_refused(tmp_path: Path, value: float) -> None:
    frame = np.zeros((2, 2, 2), dtype=np.float32)
    frame[0, 0, 0] = value
    with pytest.raises(InputError, match="float16 ends at 65504"):
        write_frames(tmp_path, [frame])


def test_missing_frames_are_named(tmp_path: Path, frames: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"holds no frame_0\.pt"):
        frame_paths(tmp_path)
    write_frames(tmp_path, frames[:3])
    (tmp_path / "frame_1.pt").unlink()
    with pytest.raises(InputError, match=r"lacks frame_1\.pt while it holds frame_2\.pt"):
        frame_paths(tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        frame_paths(tmp_path / "no")


def test_every_flipped_bit_is_noticed(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_frames(tmp_path, frames[:1])
    path = tmp_path / "frame_0.pt"
    whole = path.read_bytes()
    original = read_frame(path)
    for position in range(0, len(whole), 13):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        try:
            values = read_frame(path)
        except InputError:
            continue
        np.testing.assert_array_equal(values, original)


def test_a_cut_file_is_refused(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_frames(tmp_path, frames[:1])
    path = tmp_path / "frame_0.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no sound tensor file"):
        read_frame(path)


class Evil:
    """Leave a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "frame_0.pt", tmp_path / "mark"
    torch.save(Evil(mark), path)
    with pytest.raises(InputError, match="no sound tensor file") as caught:
        read_frame(path)
    assert "weights_only" not in str(caught.value)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError):
        read_frame(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.zeros(3, 3), "tensor of 3x3"),
        (torch.zeros(2, 2, 2, 2), "tensor of 2x2x2x2"),
        (torch.zeros(2, 2, 2, 1, dtype=torch.complex64), "real numbers"),
        ({"a": 1}, "holds a dict"),
        (torch.zeros(1).expand(2000, 2000, 2000), "claims 8000000000 voxels"),
        (torch.zeros(0, 2, 2), "claims 0 voxels"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, value: Any, problem: str) -> None:
    torch.save(value, tmp_path / "frame_0.pt")
    with pytest.raises(InputError, match=problem):
        read_frame(tmp_path / "frame_0.pt")


def test_text_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "frame_0.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="git-lfs pointer"):
        read_frame(tmp_path / "frame_0.pt")
