"""Read and write runs stored as one `frame_{i}.pt` per volume, as the SwiFT family does.

A frame file holds one tensor (X, Y, Z, 1), usually float16. `global_stats.pt` beside the frames
holds statistics of raw intensities; without it the frames were scaled before they were written.
Files are loaded as weights only, after the checksums of their zip archive were compared.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.source import foreign_content, open_regular
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError

Float32 = npt.NDArray[np.float32]
FIRST_FRAME = "frame_0.pt"
STATS_FILE = "global_stats.pt"
FLOAT16_MAX = 65504.0
_MAX_BYTES = 1 << 30
_FRAME = re.compile(r"frame_(\d{1,9})\.pt")
_AGAIN = "write the frames again from their source"


def frame_paths(folder: Path) -> list[Path]:
    """Return the frame files of a run in time order.

    Args:
        folder: Holds `frame_0.pt`, `frame_1.pt` ...

    Returns:
        At least one path.

    Raises:
        InputError: There is no frame, or one is missing in between.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise InputError(folder, f"cannot be listed: {error.strerror or error}") from error
    found = {int(match[1]) for name in names if (match := _FRAME.fullmatch(name))}
    if not found:
        raise InputError(folder, "holds no frame_0.pt", "give a folder of frame_{i}.pt files")
    missing = next((index for index in range(max(found) + 1) if index not in found), None)
    if missing is not None:
        raise InputError(
            folder, f"lacks frame_{missing}.pt while it holds frame_{max(found)}.pt", _AGAIN
        )
    return [folder / f"frame_{index}.pt" for index in range(len(found))]


def read_frame(path: Path) -> Float32:
    """Read one frame.

    Args:
        path: A `frame_{i}.pt`.

    Returns:
        Values (X, Y, Z) float32.

    Raises:
        InputError: The file is no sound tensor file, or the tensor is no volume.
    """
    import torch

    value = _load(path)
    if not isinstance(value, torch.Tensor) or value.is_complex() or value.is_sparse:
        kind = type(value).__name__
        raise InputError(path, f"holds a {kind}, a tensor of real numbers is needed", _AGAIN)
    shape = tuple(value.shape)
    if len(shape) == 4 and shape[3] == 1:
        value = value[..., 0]
    elif len(shape) != 3:
        text = "x".join(map(str, shape)) or "one number"
        raise InputError(path, f"holds a tensor of {text}, (X, Y, Z, 1) is needed", _AGAIN)
    # A view with zero strides may claim any size over a few stored bytes.
    if not 0 < value.numel() * 4 <= _MAX_BYTES:
        raise InputError(path, f"claims {value.numel()} voxels", _AGAIN)
    return np.asarray(value.to(torch.float32).numpy())


def read_stats(folder: Path) -> GlobalStats | None:
    """Read `global_stats.pt`.

    Args:
        folder: Folder of the frames.

    Returns:
        The statistics, or None where there is no such file.

    Raises:
        InputError: The file is damaged or lacks an entry.
    """
    path = folder / STATS_FILE
    if not path.exists():
        return None
    value = _load(path)
    if not isinstance(value, dict):
        raise InputError(path, f"holds a {type(value).__name__}, a mapping is needed", _AGAIN)
    return GlobalStats.from_mapping(value)


def _load(path: Path) -> Any:
    import torch

    with open_regular(path, max_bytes=_MAX_BYTES) as handle:
        content = handle.read()
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            _check_archive(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling may end in anything, by the bytes it meets
        problem, fix = foreign_content(content) or (None, _AGAIN)
        if problem is None or content.startswith(b"PK"):
            # Torch's own texts advise to switch the protection off.
            problem, fix = "is no sound tensor file (damaged, cut short or unsafe)", _AGAIN
        raise InputError(path, problem, fix) from error


def _check_archive(content: bytes) -> None:
    """Compare checksums, which torch does not, and the sizes that the archive claims."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise ValueError("the archive inflates beyond the limit")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"checksum of {damaged} differs")


def write_frames(folder: Path, frames: Iterable[npt.NDArray[Any]]) -> list[str]:
    """Write a run as frame files.

    Args:
        folder: An existing, private folder.
        frames: Volumes (X, Y, Z) in time order.

    Returns:
        Names of the files.

    Raises:
        InputError: A value does not fit float16.
    """
    names = []
    for index, frame in enumerate(frames):
        largest = float(np.abs(frame).max(initial=0.0))
        if not largest <= FLOAT16_MAX:
            raise InputError(
                folder.name.partition(".part-")[0],
                f"frame {index} holds {largest:g}, float16 ends at {FLOAT16_MAX:g}",
                "scale the run, e.g. --scaling znorm_zeroback, or leave --frames pt out",
            )
        names.append(f"frame_{index}.pt")
        _save(folder / names[-1], np.asarray(frame, dtype=np.float16)[..., None])
    return names


def write_stats(folder: Path, stats: GlobalStats) -> str:
    """Write `global_stats.pt` as the family's readers expect it and return its name."""
    import torch

    values = {
        name: value if name == "valid_voxels" else torch.tensor(value, dtype=torch.float64)
        for name, value in stats.as_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(values, buffer)
    (folder / STATS_FILE).write_bytes(buffer.getvalue())
    return STATS_FILE


def _save(path: Path, values: npt.NDArray[np.float16]) -> None:
    import torch

    # Saved to memory first: torch writes the file's own name into the archive otherwise, and the
    # copy keeps a view from carrying the whole run along.
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(values)).clone(), buffer)
    path.write_bytes(buffer.getvalue())
