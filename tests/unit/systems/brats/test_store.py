"""A prepared case: what is read back, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import small_tree

from neurocli.core.data.arrays import write_array
from neurocli.core.data.preprocess import preprocess
from neurocli.core.errors import InputError
from neurocli.systems.brats.store import case_folders, open_case


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    preprocess("brats2021", small_tree(folder / "raw", n_cases=2), out=folder / "out")
    return folder / "out"


@pytest.fixture
def case(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(case_folders(prepared)[0][1], tmp_path / "case"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "case.json"
    about = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def test_arrays_are_maps_of_the_files(case: Path) -> None:
    found = open_case(case)
    assert isinstance(found.image, np.memmap)
    assert isinstance(found.label, np.memmap)
    assert found.image.shape[1:] == found.label.shape
    assert found.spacing_mm == (4.0, 4.0, 4.0)


def test_the_box_is_the_smallest_that_holds_everything(case: Path) -> None:
    found = open_case(case)
    filled = (np.asarray(found.image) != 0).any(0)
    for axis in range(3):
        planes = filled.any(axis=tuple({0, 1, 2} - {axis}))
        assert planes[0]
        assert planes[-1]


def test_crops_outside_are_zero(case: Path) -> None:
    found = open_case(case)
    image, label = found.crop((100, 100, 100), (4, 5, 6), [0])
    assert image.shape == (1, 4, 5, 6)
    assert not image.any()
    assert not label.any()


def test_half_precision_halves_the_cache(tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw", n_cases=1)
    sizes, volumes = {}, {}
    for kind in ("float32", "float16"):
        preprocess("brats2021", tree, out=tmp_path / kind, dtype=kind)
        folder = case_folders(tmp_path / kind)[0][1]
        sizes[kind] = (folder / "image.npy").stat().st_size
        volumes[kind] = open_case(folder).whole(range(4))[0]
    assert sizes["float16"] < 0.51 * sizes["float32"]
    np.testing.assert_allclose(volumes["float16"], volumes["float32"], rtol=1e-3, atol=1e-4)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no image": (lambda f: (f / "image.npy").unlink(), "image.npy: does not exist"),
    "cut": (lambda f: (f / "image.npy").write_bytes((f / "image.npy").read_bytes()[:-4]), "claims"),
    "schema": (lambda f: change(f, schema="neuro/brats-case/0"), "is of schema"),
    "key": (lambda f: change(f, shape=None), "lacks or misspells 'shape'"),
    "shape": (lambda f: change(f, shape=[3, 3, 3]), "does not fit case.json"),
    "start": (lambda f: change(f, start=[-1, 0, 0]), "does not fit case.json"),
    "labels": (lambda f: change(f, labels="0124"), "lacks or misspells '0124'"),
    "affine": (lambda f: change(f, source={"affine": [[0] * 4] * 4}), "lacks or misspells"),
    "kind": (lambda f: change(f, spacing_mm=["a", 1, 1]), "lacks or misspells"),
    "label": (
        lambda f: write_array(f / "label.npy", np.zeros((2, 2, 2), dtype=np.uint8)),
        "does not fit case.json",
    ),
    "axes": (
        lambda f: write_array(f / "image.npy", np.zeros((2, 2, 2), dtype=np.float32)), "axes",
    ),
    "json": (lambda f: (f / "case.json").write_text("{"), "no sound JSON"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(case: Path, kind: str) -> None:
    spoil, said = DAMAGE[kind]
    spoil(case)
    with pytest.raises(InputError, match=said) as caught:
        open_case(case)
    assert str(case) in str(caught.value)


def test_only_finished_cases_inside_the_dataset_are_listed(prepared: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prepared, copy)
    lines = [
        {"subject": "bad", "status": "failed", "files": []},
        {"subject": "out", "status": "done", "files": ["../elsewhere/case.json"]},
    ]
    with (copy / "manifest.jsonl").open("a") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    assert [name for name, _ in case_folders(copy)] == ["BraTS2021_00000", "BraTS2021_00001"]


def test_other_datasets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prepared tumour cases"):
        case_folders(tmp_path)
    (tmp_path / "dataset.json").write_text('{"schema": "neuro/dataset/1", "room": "fmri"}')
    with pytest.raises(InputError, match="no prepared tumour cases"):
        case_folders(tmp_path)
