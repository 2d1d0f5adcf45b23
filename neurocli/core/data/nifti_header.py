"""Read and judge the header of a NIfTI file before anything is allocated for its voxels.

All sizes are whole numbers of Python, so that no claim of a damaged or hostile header overflows.
NIfTI-1 and NIfTI-2, single files and .hdr/.img pairs, plain or gzip, either byte order.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import axis_codes, voxel_size_mm
from neurocli.core.data.gzipstream import MAGIC, MAX_RATIO, DamagedStreamError, GzipStream
from neurocli.core.data.source import HEAD_BYTES, check_regular, foreign_content, open_regular
from neurocli.core.errors import InputError

DEFAULT_MAX_BYTES = 64 << 30
MAX_FRAME_VOXELS = 1 << 29  # 2 GiB as float32
_MAX_WORLD_MM = 1e6
_PAIR = (".hdr", ".img")
_LOG = logging.getLogger(__name__)
_KINDS: dict[int, tuple[Any, bytes, bytes]] = {
    348: (nib.Nifti1Header, b"n+1", b"ni1"),
    540: (nib.Nifti2Header, b"n+2", b"ni2"),
}
_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_REFUSED_TYPES = {
    1: "1-bit", 32: "complex64", 128: "RGB", 1536: "float128",
    1792: "complex128", 2048: "complex256", 2304: "RGBA",
}  # fmt: skip
_TIME_UNITS_S = {0: 1.0, 8: 1.0, 16: 1e-3, 24: 1e-6}
_EXPORT = "export the image again, e.g. with nibabel, as one .nii.gz file"


@dataclass(frozen=True)
class ImageHeader:
    """Describe an image whose header was found sound.

    Args:
        path: The file that was asked for.
        shape: (X, Y, Z) or (X, Y, Z, T); a singleton fourth or fifth axis of a 5D file is dropped.
        dtype: Stored type of a voxel, with its byte order.
        affine: Voxel indices to millimetres, (4, 4) float64, finite and not singular.
        zooms_mm: Voxel size by the affine.
        tr_s: Repetition time in seconds; None when absent, zero or not a time.
        slope: Stored values are multiplied by it; 1 when the file names none.
        inter: Then it is added; 0 when the file names none.
        is_gzip: Whether the voxels are compressed.
        data_offset: First byte of the voxels in the (inflated) file.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: npt.NDArray[np.float64]
    zooms_mm: tuple[float, float, float]
    tr_s: float | None
    slope: float
    inter: float
    is_gzip: bool
    data_offset: int

    @property
    def n_frames(self) -> int:
        """Return the number of volumes; 1 for a 3D image."""
        return self.shape[3] if len(self.shape) == 4 else 1

    @property
    def orientation(self) -> str:
        """Return the world direction of each voxel axis, e.g. "LAS"."""
        return axis_codes(self.affine)

    @property
    def frame_bytes(self) -> int:
        """Return the stored bytes of one volume."""
        return math.prod(self.shape[:3]) * self.dtype.itemsize

    @property
    def voxel_path(self) -> Path:
        """Return the file that holds the voxels: `path`, or the .img of a pair."""
        return _beside(self.path, ".img")


def read_header(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> ImageHeader:
    """Read the header of a NIfTI image and check that the file can hold what it claims.

    A scl_slope of 0 or NaN means no scaling, as the standard and nibabel have it.

    Args:
        path: A .nii, .nii.gz or .hdr/.img file; content decides, not the name.
        max_bytes: Largest size of the inflated voxels.

    Returns:
        The header, with memory and time independent of what it claims.

    Raises:
        InputError: The file is missing, no image, damaged, or of a kind that is not supported.
    """
    head, block = _heads(_beside(path, ".hdr"))
    is_gzip = _heads(_beside(path, ".img"))[0].startswith(MAGIC)
    raw = _parse(path, block, head)
    shape = _shape(path, [int(length) for length in raw["dim"]])
    dtype = _dtype(path, raw)
    slope, inter = _scaling(path, raw)
    affine = _affine(path, raw)
    header = ImageHeader(
        path=path,
        shape=shape,
        dtype=dtype,
        affine=affine,
        zooms_mm=voxel_size_mm(affine),
        tr_s=_tr_s(raw) if len(shape) == 4 else None,
        slope=slope,
        inter=inter,
        is_gzip=is_gzip,
        data_offset=_offset(path, raw),
    )
    _check_size(header, max_bytes)
    return header


def _beside(path: Path, suffix: str) -> Path:
    return path.with_suffix(suffix) if path.suffix in _PAIR else path


def _heads(path: Path) -> tuple[bytes, bytes]:
    """Return the first bytes of a file, as stored and inflated."""
    with open_regular(path) as handle:
        head = handle.read(HEAD_BYTES)
        if not head.startswith(MAGIC):
            return head, head
        handle.seek(0)
        buffer = bytearray(HEAD_BYTES)
        try:
            count = GzipStream(handle).readinto(memoryview(buffer))
        except DamagedStreamError as error:
            problem = f"{error}, near its start"
            raise InputError(path, problem, "copy or download it again") from error
    return head, bytes(buffer[:count])


def _parse(path: Path, block: bytes, head: bytes) -> Any:
    for order in ("<", ">"):
        size = int(np.frombuffer(block[:4].ljust(4, b"\0"), dtype=f"{order}i4")[0])
        if size not in _KINDS or len(block) < size:
            continue
        kind, single, pair = _KINDS[size]
        raw: Any = kind(block[:size], endianness=order, check=False)
        magic = raw["magic"].item()[:3]
        if magic in (single, pair):
            return raw
        if not magic:
            raise InputError(path, "is an Analyze 7.5 image without orientation", _EXPORT)
    problem, fix = (
        foreign_content(block)
        or foreign_content(head)
        or ("is no NIfTI image (neither header size nor magic word fit)", _EXPORT)
    )
    raise InputError(path, problem, fix)


def _shape(path: Path, dim: list[int]) -> tuple[int, ...]:
    rank = dim[0]
    if not 1 <= rank <= 7:
        raise InputError(path, f"dim[0] is {rank}, an image has 1 to 7 axes", _EXPORT)
    lengths = dim[1 : rank + 1]
    if min(lengths) < 1:
        field = f"dim[{lengths.index(min(lengths)) + 1}]"
        raise InputError(path, f"{field} is {min(lengths)}, lengths are positive", _EXPORT)
    while len(lengths) > 4 and 1 in lengths[3:]:
        # The last singleton goes first: it holds components, the fourth axis holds time.
        del lengths[len(lengths) - 1 - lengths[::-1].index(1)]
    text = "x".join(map(str, dim[1 : rank + 1]))
    if len(lengths) > 4:
        raise InputError(path, f"has {rank} axes ({text}), 3 or 4 are needed", "split it first")
    if len(lengths) < 3:
        raise InputError(path, f"has {rank} axes ({text}), 3 or 4 are needed", _EXPORT)
    return tuple(lengths)


def _dtype(path: Path, raw: Any) -> np.dtype[Any]:
    code = int(raw["datatype"])
    if code not in _DTYPES:
        name = _REFUSED_TYPES.get(code, "unknown")
        fix = "store one real number per voxel (e.g. the magnitude) and try again"
        raise InputError(path, f"holds {name} voxels (datatype {code})", fix)
    return np.dtype(_DTYPES[code]).newbyteorder(raw.endianness)


def _scaling(path: Path, raw: Any) -> tuple[float, float]:
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    for name, value in (("scl_slope", slope), ("scl_inter", inter)):
        if not math.isfinite(value):
            raise InputError(path, f"{name} is {value}, a finite number is needed", _EXPORT)
    return slope, inter


def _affine(path: Path, raw: Any) -> npt.NDArray[np.float64]:
    fix = "set a valid sform or qform in the header"
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(raw.get_best_affine(), dtype=np.float64)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise InputError(path, f"the orientation cannot be read: {error}", fix) from error
    if not (np.abs(affine) < _MAX_WORLD_MM).all():
        raise InputError(path, "the affine holds NaN or Inf, or reaches kilometres", fix)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    volume = abs(float(np.linalg.det(affine[:3, :3])))
    if not (lengths > 1e-9).all() or volume < 1e-6 * float(np.prod(lengths)):
        raise InputError(path, "the affine is singular: axes are zero or parallel", fix)
    return affine


def _tr_s(raw: Any) -> float | None:
    unit_s = _TIME_UNITS_S.get(int(raw["xyzt_units"]) & 0x38)
    duration = float(raw["pixdim"][4])
    if unit_s is None or not 0 < duration < math.inf:
        return None
    # Stored as float32: nine digits give 0.72 back instead of 0.72000002861.
    return float(f"{duration * unit_s:.7g}")


def _offset(path: Path, raw: Any) -> int:
    offset = float(raw["vox_offset"])
    is_pair = path.suffix in _PAIR
    least = 0 if is_pair else raw.sizeof_hdr
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        if raw["magic"].item().startswith(b"ni") and not is_pair:
            fix = "give the unpacked .hdr file beside its .img"
            raise InputError(path, "is the header of a .hdr/.img pair", fix)
        raise InputError(path, f"vox_offset is {offset:g}, {least} or more is needed", _EXPORT)
    return int(offset)


def _check_size(header: ImageHeader, max_bytes: int) -> None:
    path = header.voxel_path
    size = check_regular(path)
    claimed = header.frame_bytes * header.n_frames
    text = "x".join(map(str, header.shape))
    if claimed > max_bytes or math.prod(header.shape[:3]) > MAX_FRAME_VOXELS:
        problem = f"the header claims {text} voxels, {claimed} bytes"
        limit = f"limits are {MAX_FRAME_VOXELS} voxels a volume and {max_bytes} bytes in all"
        raise InputError(path, f"{problem}; {limit}", "crop or split it if the claim is right")
    end = header.data_offset + claimed
    held = size * MAX_RATIO if header.is_gzip else size
    if end > held:
        whole = max(0, (held - header.data_offset) // header.frame_bytes)
        problem = f"is cut short: the header claims {end} bytes ({text}), the file has {size}"
        if not header.is_gzip:
            problem += f"; {whole} of {header.n_frames} frames are whole"
        raise InputError(path, problem, "copy or download the file again")
    if not header.is_gzip and size > end:
        _LOG.warning("%s: %d bytes behind the voxels were not read", path, size - end)
