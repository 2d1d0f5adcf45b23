"""A 20-frame sample from disk to model input: our stores against what the field uses.

Run: `python tests/bench/io.py --json`. One run of 120 frames with the brain of the MNI152 template
at 2 mm, cropped to its own box and padded to 96^3 as the family does; warm page cache, one thread,
CPU time in turns of four samples, as many as a batch has, each of another window. Peers:

frames  20 files `frame_{i}.pt` (float16) loaded, concatenated, padded to 96^3 x 20 float32
monai   CacheDataset(copy_cache=False) that holds the whole run in memory, random window, padded
        the same; of float16 and float32 in memory the faster

Ours is what the model takes: the sample of the data loader's batch of one. From a patch store that
are the patches of 6x6x6 voxels and their mask, float16 as stored; `_float32` adds the conversion
that the model's first line does. `packed` is a window of brain voxels (20, V) float32, against the
frames loaded and concatenated without the padding. A ratio is the peer's time over ours, for sizes
our bytes over those of float16 frames of the full 91x109x91 grid.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Work, arguments, seconds_in_turns, show
from nilearn.datasets import load_mni152_brain_mask
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from neurocli.core.data.frames import write_frames
from neurocli.core.data.hdf5 import has_zstd
from neurocli.core.data.loader import Batches
from neurocli.core.data.scaling import scale
from neurocli.core.data.statistics import GlobalStats, global_stats, voxel_stats
from neurocli.systems.fmri.clips import ClipPlan, ClipReader, ClipSet, Run
from neurocli.systems.fmri.store import open_store
from neurocli.systems.fmri.store_base import RunInfo
from neurocli.systems.fmri.store_write import StoreForm, write_store

GRID, WINDOW, FRAMES = 96, 20, 120
FULL_GRID = (91, 109, 91)
PATCH = (6, 6, 6)
BATCH, EPOCH = 4, 48


def brain() -> np.ndarray:
    """Return the brain of the template on the usual grid (91, 109, 91), bool."""
    mask = load_mni152_brain_mask(resolution=2).get_fdata() > 0
    cut = tuple((have - want) // 2 for have, want in zip(mask.shape[:2], FULL_GRID, strict=False))
    return np.ascontiguousarray(mask[cut[0] : cut[0] + 91, cut[1] : cut[1] + 109, :91])


def boxed(mask: np.ndarray) -> np.ndarray:
    """Return the part of a mask that holds all of it."""
    low, high = (edge(np.nonzero(mask), axis=1) for edge in (np.min, np.max))
    return mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))].copy()


def made_up(n_voxels: int, n_frames: int) -> np.ndarray:
    """Return values (T, V) float32: a mean per voxel and 1 % of change, smooth in time."""
    random = np.random.default_rng(0)
    mean = 9000 + 1500 * random.standard_normal(n_voxels, dtype=np.float32)
    noise = random.standard_normal((n_frames, n_voxels), dtype=np.float32)
    noise[1:] += 0.6 * noise[:-1]
    return np.asarray(np.rint(mean * (1 + 0.01 * noise)), dtype=np.float32)


class Stores:
    """Write one run in every form below a folder.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mask = boxed(brain())
        self.values = made_up(int(self.mask.sum()), FRAMES)
        self.stats = global_stats(lambda: [self.values])
        for name in ("none", "gzip", "lzf", *(("zstd",) if has_zstd() else ())):
            self.write(f"packed_{name}", StoreForm("packed", compression=name))
            self.write(f"dense_{name}", StoreForm("dense", compression=name))
        mean, std = voxel_stats(self.values)
        scaled = scale(self.values, "voxel-z", stats=self.stats, voxel_mean_V=mean, voxel_std_V=std)
        form = StoreForm("patch", patch=PATCH)
        write(self.path("patch"), self.mask, scaled, self.stats, form, scaling="voxel-z")
        (folder / "frames").mkdir()
        write_frames(folder / "frames", self._volumes())

    def path(self, name: str) -> Path:
        """Return the file of a form."""
        return self.folder / f"{name}.h5"

    def write(self, name: str, form: StoreForm) -> None:
        """Write raw values in a form."""
        write(self.path(name), self.mask, self.values, self.stats, form)

    def _volumes(self) -> Iterator[np.ndarray]:
        for row in self.values:
            volume = np.zeros(self.mask.shape, dtype=np.float32)
            volume[self.mask] = row
            yield volume

    def clips(self, name: str, *, is_cut: bool = False) -> ClipSet:
        """Return all windows of a file, as a run would take them."""
        patch = (*PATCH, 1) if is_cut else None
        plan = ClipPlan((GRID,) * 3, WINDOW, 1, "none", "none", patch)
        reader = ClipReader([Run("s", "s", self.path(name))], plan)
        return ClipSet(reader, [(0, start) for start in range(FRAMES - WINDOW + 1)])


def write(
    path: Path,
    mask: np.ndarray,
    values: np.ndarray,
    stats: GlobalStats,
    form: StoreForm,
    *,
    scaling: str = "none",
) -> None:
    """Write values of a mask in a form."""
    shape = (*mask.shape, len(values))
    info = RunInfo("s", "s", shape, 2.0, np.diag([2.0, 2, 2, 1]), scaling, "file", "native")
    write_store(path, info, mask=mask, blocks=lambda: [values], stats=stats, form=form)


def padding(shape: Iterable[int]) -> tuple[int, ...]:
    """Return torch's padding of (H, W, D, T) to the grid, brain in the middle."""
    sides = [((GRID - size) // 2, GRID - size - (GRID - size) // 2) for size in shape]
    return (0, 0, *(side for axis in reversed(sides) for side in axis))


def load_frames(folder: Path, start: int) -> Tensor:
    """Return a window (H, W, D, T) as the family's loader makes it."""
    paths = (folder / f"frame_{index}.pt" for index in range(start, start + WINDOW))
    return torch.cat([torch.load(path, weights_only=True) for path in paths], dim=3)


def held_by_monai(values: Tensor) -> Callable[[], Tensor]:
    """Return a sampler of MONAI's cache over a whole run (1, H, W, D, T)."""
    from monai.data import CacheDataset
    from monai.transforms import Compose, RandomizableTransform, Transform

    class Load(Transform):  # type: ignore[misc]
        def __call__(self, _: object) -> Tensor:
            return values

    class Window(RandomizableTransform):  # type: ignore[misc]
        def __call__(self, data: Tensor) -> Tensor:
            start = self.R.randint(0, FRAMES - WINDOW + 1)
            window = data[..., start : start + WINDOW]
            return pad(window, padding(window.shape[1:4])).float()

    held = CacheDataset([0], Compose([Load(), Window()]), copy_cache=False, progress=False)
    return lambda: held[0]


def works(stores: Stores) -> dict[str, Work]:
    """Return what is measured, each with a window of its own every time."""
    frames = stores.folder / "frames"
    starts = cycle(range(0, FRAMES - WINDOW + 1, WINDOW))
    patches, packed = stores.clips("patch", is_cut=True), stores.clips("packed_none")
    whole = torch.stack([torch.from_numpy(v) for v in stores._volumes()], dim=-1)[None]

    def ready() -> Tensor:
        batch: dict[str, Any] = patches.collate([patches.sample(next(starts), 0)])
        return batch["clip"]

    def family() -> Tensor:
        window = load_frames(frames, next(starts))
        return pad(window.float()[None], padding(window.shape[:3]))

    def windows(name: str) -> Work:
        store = open_store(stores.path(name))
        return lambda: store.read_packed(slice(start := next(starts), start + WINDOW))

    found: dict[str, Work] = {
        "frames": family,
        "frames_unpadded": lambda: load_frames(frames, next(starts)),
        "monai_float32": held_by_monai(whole),
        "monai_float16": held_by_monai(whole.half()),
        "patch": ready,
        "patch_float32": lambda: ready().float(),
        "packed_clip": lambda: packed.collate([packed.sample(next(starts), 0)]),
    }
    for path in sorted(stores.folder.glob("*_*.h5")):
        found[path.stem] = windows(path.stem)
    return found


def by_batch(work: Work) -> Work:
    """Return a work done once per sample of a batch."""

    def turn() -> None:
        for _ in range(BATCH):
            work()

    return turn


class Torch(Dataset[dict[str, Any]]):
    """Give the samples of a clip set to torch's loader."""

    def __init__(self, clips: ClipSet) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.clips.sample(index % len(self.clips), 0)


class Short(ClipSet):
    """Take as many samples of a clip set as an epoch has."""

    def __len__(self) -> int:
        return EPOCH

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        return super().sample(index % len(self.clips), epoch)


def loaders(stores: Stores) -> dict[str, float]:
    """Return samples per second of wall time by way of loading, from the patch store."""
    clips = stores.clips("patch", is_cut=True)
    short = Short(clips.reader, clips.clips)
    ways: dict[str, Callable[[], Iterable[Any]]] = {
        "prefetch_thread": lambda: Batches(short, batch_size=BATCH, seed=0, prefetch=2),
        "no_prefetch": lambda: Batches(short, batch_size=BATCH, seed=0, prefetch=0),
        "torch_0_workers": lambda: DataLoader(Torch(clips), BATCH, collate_fn=clips.collate),
        "torch_2_workers": lambda: DataLoader(
            Torch(clips), BATCH, collate_fn=clips.collate, num_workers=2
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            began = time.perf_counter()
            for _batch in way():
                pass
            taken[name].append(EPOCH / (time.perf_counter() - began))
    return {name: max(rates) for name, rates in taken.items()}


def size_shares(folder: Path, n_frames: int = 100) -> dict[str, float]:
    """Return bytes of each form over those of float16 frames of the full grid."""
    mask = brain()
    values = made_up(int(mask.sum()), n_frames)
    stats = global_stats(lambda: [values])
    whole = 2 * mask.size * n_frames
    shares = {}
    forms = {"packed": StoreForm("packed"), "patch": StoreForm("patch", patch=PATCH)}
    if has_zstd():
        forms["packed_zstd"] = StoreForm("packed", compression="zstd")
    for name, form in forms.items():
        path = folder / f"full-{name}.h5"
        write(path, mask, values, stats, form)
        shares[name] = path.stat().st_size / whole
        path.unlink()
    return shares


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=9)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        stores = Stores(Path(name))
        turns = {name: by_batch(work) for name, work in works(stores).items()}
        times = {
            name: taken / BATCH for name, taken in seconds_in_turns(turns, options.runs).items()
        }
        rates = loaders(stores)
        shares = size_shares(stores.folder)
    monai = min(times["monai_float16"], times["monai_float32"])
    ratios = {
        "patch_vs_frames": times["frames"] / times["patch"],
        "patch_float32_vs_frames": times["frames"] / times["patch_float32"],
        "patch_vs_monai_cache": monai / times["patch"],
        "patch_float32_vs_monai_cache": monai / times["patch_float32"],
        "packed_vs_frames_unpadded": times["frames_unpadded"] / times["packed_none"],
        "packed_vs_frames": times["frames"] / times["packed_none"],
        "packed_clip_vs_frames": times["frames"] / times["packed_clip"],
        "prefetch_vs_2_workers": rates["prefetch_thread"] / rates["torch_2_workers"],
        **{f"size_{form}_vs_full_grid": share for form, share in shares.items()},
    }
    for form in sorted(times):
        if form.startswith(("packed_", "dense_")) and form != "packed_clip":
            ratios[f"read_{form}_vs_frames_unpadded"] = times["frames_unpadded"] / times[form]
    figures: dict[str, object] = {"threads": 1, "frames": FRAMES, "voxels": stores.values.shape[1]}
    figures |= {f"{name}_ms": 1000 * seconds for name, seconds in times.items()}
    figures |= {f"loader_{name}_samples_per_s": rate for name, rate in rates.items()}
    show("io", ratios, figures, options.json)


if __name__ == "__main__":
    main()
