"""Patch stores: a run in the order of a model's tokens, and what a model makes of it.

The reference is the way without a patch store: a packed file, scattered into a grid, scaled and cut
by the model itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from cohort_files import SHAPE, values_of, write_cohort

import neurocli
from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, UsageError
from neurocli.core.nn.shapes import ShapeError
from neurocli.systems.fmri.convert import convert_hdf5
from neurocli.systems.fmri.data import open_data
from neurocli.systems.fmri.models.build import build
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.ready import whole_raster
from neurocli.systems.fmri.patch_grid import cut_mask, word_sums
from neurocli.systems.fmri.store import find_stores, open_store
from neurocli.systems.fmri.store_patch import PatchStore

PATCH = (3, 2, 2)  # does not divide the grid of (5, 4, 3): edge patches reach beyond it


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return packed float32 runs of four people with different brains."""
    return write_cohort(tmp_path_factory.mktemp("packed"), 4)


@pytest.fixture(scope="module")
def patched(packed: Path) -> Path:
    """Return the same runs as patches of raw float32 values."""
    out = packed.parent / "patched"
    convert_hdf5(packed, out, patch=PATCH, dtype="float32", scaling="none")
    return out


def config(folder: Path, *, frames: int = 2, **changed: Any) -> RunConfig:
    """Return a small run on a folder."""
    settings = {
        "data.path": str(folder),
        "data.sequence_length": 4,
        "model.patch_size": [*PATCH, frames],
        "model.embed_dim": 16,
        "model.depth": 1,
        **changed,
    }
    return load_config(
        set=["model.name=fmamba", *(f"{key}={value}" for key, value in settings.items())]
    )


def batch_of(data: RunData, n: int) -> dict[str, Any]:
    """Return the first samples of the training part as a batch."""
    part = data.parts["train"]
    return dict(part.collate([part.sample(index, 0) for index in range(n)]))


def test_places_and_voxels_by_hand() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 0, 0] = mask[4, 3, 2] = mask[4, 2, 2] = True
    found = cut_mask(mask, PATCH)
    assert found.places.tolist() == [[0, 0, 0], [1, 1, 1]]
    # (4, 2, 2) is voxel (1, 0, 0) of the second patch, (4, 3, 2) its voxel (1, 1, 0).
    assert found.inside.tolist() == [0, 12 + 4, 12 + 6]
    assert np.flatnonzero(found.tokens((2, 2, 2), 3)).tolist() == [0, 1, 2, 21, 22, 23]


@pytest.mark.parametrize("dtype", ["float16", "int16", "float32"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_patch_store_is_a_run_like_any_other(
    packed: Path, tmp_path: Path, dtype: str, compression: str
) -> None:
    options = {"dtype": dtype, "compression": compression, "scaling": "none"}
    convert_hdf5(packed, tmp_path / "p", patch=PATCH, **options)
    convert_hdf5(packed, tmp_path / "d", layout="dense", **options)
    for (_, _, patches), (_, _, dense) in zip(
        find_stores(tmp_path / "p"), find_stores(tmp_path / "d"), strict=True
    ):
        with open_store(patches) as ours, open_store(dense) as reference:
            assert ours.patch_size == PATCH
            assert ours.info.shape == reference.info.shape
            assert ours.stats == reference.stats
            np.testing.assert_array_equal(ours.mask, reference.mask)
            for frames in (slice(None), slice(3, 9, 2)):
                np.testing.assert_array_equal(
                    ours.read_packed(frames), reference.read_packed(frames)
                )
            np.testing.assert_array_equal(ours.voxel_std_V, reference.voxel_std_V)


def test_plain_h5py_reads_patches_in_token_order(patched: Path) -> None:
    values, mask = values_of(0, 12)
    grid = np.zeros((6, 4, 4, 12), dtype=np.float32)
    grid[:5, :4, :3][mask] = values.T
    with h5py.File(patched / "s00.h5") as file:
        stored, places = file["patches"][:], file["places"][:]
        assert file["patches"].chunks is None
        assert file.attrs["patch_size"].tolist() == list(PATCH)
    for number, (h, w, d) in enumerate(places):
        cut = grid[3 * h : 3 * h + 3, 2 * w : 2 * w + 2, 2 * d : 2 * d + 2]
        np.testing.assert_array_equal(stored[:, number], np.moveaxis(cut, 3, 0).reshape(12, -1))


@pytest.mark.parametrize("token_mask", ["per-sample", "union", "none"])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("n", [1, 3])
def test_tokens_are_those_of_the_dense_path(
    packed: Path, patched: Path, token_mask: str, frames: int, n: int
) -> None:
    # Raw values of one dtype: not one bit may differ.
    changed = {"frames": frames, "model.token_mask": token_mask, "data.scaling": "none"}
    runs = [config(folder, **changed) for folder in (packed, patched)]
    dense, ready = (open_data(run) for run in runs)
    assert dense.info == ready.info
    torch.manual_seed(0)
    model = build(runs[0], dense.info)
    batches = [batch_of(data, n) for data in (dense, ready)]
    assert batches[0]["clip"].ndim == 6
    assert batches[1]["clip"].ndim == 3
    outputs = [model(batch["clip"], batch["brain"]) for batch in batches]
    for key in ("patches", "token_index", "token_mask", "features", "pred"):
        assert torch.equal(outputs[0][key], outputs[1][key]), key


def test_scaled_patches_are_those_of_scaled_clips(packed: Path, tmp_path: Path) -> None:
    convert_hdf5(packed, tmp_path / "p", patch=PATCH)  # voxel-z in float16 unless told
    dense, ready = (open_data(config(folder)) for folder in (packed, tmp_path / "p"))
    assert dense.info["scaling"] == ready.info["scaling"] == "voxel-z"
    batches = [batch_of(data, 3) for data in (dense, ready)]
    assert batches[1]["clip"].dtype == torch.float16
    model = build(config(packed), dense.info)
    first, second = (model(batch["clip"], batch["brain"])["patches"] for batch in batches)
    # float16 keeps 11 bits.
    torch.testing.assert_close(second, first, rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model.patch_size": [3, 2, 1, 1]}, "they are 3x2x2, model.patch_size is [3, 2, 1, 1]"),
        ({"data.scaling": "psc"}, "their values are scaled when they are read"),
        ({"data.augment": "affine", "data.scaling": "none"}, "data.augment moves voxels"),
    ],
)
def test_whole_clips_where_patches_do_not_do(
    packed: Path, patched: Path, changed: dict[str, Any], reason: str
) -> None:
    data = open_data(config(patched, **changed))
    batch = batch_of(data, 2)
    assert any(reason in note for note in data.notes)
    reference = batch_of(open_data(config(packed, **changed)), 2)
    assert torch.equal(batch["clip"], reference["clip"])


@pytest.mark.parametrize("objective", ["ar", "mim", "contrastive"])
def test_training_is_the_same_on_patches(
    packed: Path, patched: Path, tmp_path: Path, objective: str
) -> None:
    settings = [
        f"model.patch_size={[*PATCH, 2]}",
        "model.embed_dim=16",
        "model.depth=1",
        "data.sequence_length=4",
        "data.scaling=none",
        "data.batch_size=3",
    ]
    losses = []
    for folder in (packed, patched):
        out = tmp_path / folder.name
        result = neurocli.train(
            "fmamba", pretrain=objective, data=folder, steps=2, out=out, set=settings
        )
        losses.append(result.best["value"])
    assert losses[0] == losses[1]


def test_no_flipped_bit_of_a_patch_comes_through(patched: Path, tmp_path: Path) -> None:
    content = bytearray((patched / "s01.h5").read_bytes())
    with h5py.File(patched / "s01.h5") as file:
        start, size = file["patches"].id.get_offset(), file["patches"].id.get_storage_size()
    random = np.random.default_rng(0)
    for place in random.integers(start, start + size, 20):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        (tmp_path / "s01.h5").write_bytes(damaged)
        with open_store(tmp_path / "s01.h5") as store, pytest.raises(InputError, match="checksum"):
            store.read_packed(slice(None))


@pytest.mark.parametrize("size", [7, 8, 13, 64])
def test_word_sums_see_every_bit_and_every_missing_part(size: int) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (3, size), dtype=np.uint8)
    words = [
        sum(int.from_bytes(row[i : i + 8].tobytes(), "little") for i in range(0, size, 8)) % 2**64
        for row in rows
    ]
    assert word_sums(rows).tolist() == words
    for bit in range(8 * size):
        changed = rows.copy()
        changed[1, bit // 8] ^= 1 << (bit % 8)
        assert (word_sums(changed) != word_sums(rows)).tolist() == [False, True, False]


def test_other_patches_than_the_mask_has_are_refused(patched: Path, tmp_path: Path) -> None:
    path = tmp_path / "s00.h5"
    path.write_bytes((patched / "s00.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file["places"][0, 0] += 1
    with open_store(path) as store, pytest.raises(InputError, match="by the mask"):
        store.read_packed(slice(None))


def test_a_patch_size_is_checked(packed: Path, tmp_path: Path) -> None:
    for form, text in (
        ({"layout": "patch"}, "goes with a patch size"),
        ({"layout": "dense", "patch": (6, 6, 6)}, "goes without a patch size"),
        ({"patch": (6, 6)}, "6,6 is no patch in space"),
        ({"patch": (6, 0, 6)}, "6,0,6 is no patch"),
        ({"patch": (6, 6, 6), "scaling": "zscore"}, "unknown scaling 'zscore'"),
    ):
        with pytest.raises(UsageError, match=text):
            convert_hdf5(packed, tmp_path / "x", **form)
    assert not (tmp_path / "x").exists()


def test_scaling_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    convert_hdf5(packed, tmp_path / "z", layout="packed", scaling="voxel-z")
    again = convert_hdf5(tmp_path / "z", tmp_path / "p", patch=PATCH)  # kept as it is
    assert again.failed == 0
    with pytest.raises(Exception, match="is already scaled"):
        convert_hdf5(tmp_path / "z", tmp_path / "q", patch=PATCH, scaling="psc")


def test_ready_patches_are_checked() -> None:
    model = FMamba(16, 1, 4, 4, 2, (4, 4, 4, 4), (2, 2, 2, 2), "nerf", True, "none", "per-sample")
    tokens = torch.zeros(2, 16, dtype=torch.bool)
    tokens[0, :3] = tokens[1, 2:4] = True
    x = torch.randn(2, 4, 16)
    assert model(x, tokens)["token_index"].tolist() == [[0, 1, 2], [2, 3, -1]]
    raster = whole_raster(x, tokens)
    assert torch.equal(raster[1, 2:4], x[1, :2])
    assert torch.equal(raster[1, 5], x[1, 3])
    for bad, mask, text in (
        (x[:, :3], tokens, "keeps 3 tokens of 2 patches"),
        (x[..., :8], tokens, "expected .*F 16"),
        (x, tokens[:, :8], "expected .*N 16"),
        (x, tokens.float(), "need the mask of their tokens"),
        (torch.where(x == x[0, 0, 0], torch.nan, x), tokens, "NaN or infinite"),
    ):
        with pytest.raises(ShapeError, match=text):
            model(bad, mask)


def test_a_patch_store_says_what_it_is(patched: Path) -> None:
    with open_store(patched / "s00.h5") as store:
        assert isinstance(store, PatchStore)
        assert store.attributes["layout"] == "patch"
