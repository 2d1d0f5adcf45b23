"""Patches: where they lie, that nothing but (seed, epoch, index) decides, and whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trees import small_tree

from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import Batches
from neurocli.core.data.preprocess import preprocess
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.brats.augment import Augmentation
from neurocli.systems.brats.data import open_data
from neurocli.systems.brats.samples import PatchPlan, PatchSet, centre_of, draws
from neurocli.systems.brats.store import Case, case_folders, open_case


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brats")
    tree = small_tree(folder / "raw", "brats2018", n_cases=8)
    preprocess("brats2018", tree, out=folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def cases(dataset: Path) -> list[Case]:
    return [open_case(path) for _, path in case_folders(dataset)]


def config(dataset: Path, *settings: str, model: str = "unet3d_xs") -> RunConfig:
    return load_config(model=model, set=[f"data.path={dataset}", *settings])


def plan(**change: object) -> PatchPlan:
    values = {"channels": (1, 3), "patch": (16, 16, 16), "per_case": 4, "foreground": 1 / 3}
    return PatchPlan(**{**values, "seed": 5, **change})  # type: ignore[arg-type]


def test_a_crop_equals_the_volume(cases: list[Case]) -> None:
    case = cases[0]
    whole, truth = case.whole([0, 3])
    for start, size in [((3, 4, 2), (9, 8, 7)), ((20, 0, 10), (16, 30, 16))]:
        image, label = case.crop(start, size, [0, 3])
        inside = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        part = whole[(slice(None), *inside)]
        held = tuple(slice(0, n) for n in part.shape[1:])
        assert np.array_equal(image[(slice(None), *held)], part)
        assert np.array_equal(label[held], truth[inside])
        assert image.sum() == pytest.approx(part.sum(), rel=1e-4)  # beyond the volume is 0


def test_a_third_is_centred_on_each_class_alike(cases: list[Case]) -> None:
    case = next(c for c in cases if len(np.unique(c.centres[:, 0])) == 3)
    n = 10_000
    found = [centre_of(case, draws(0, 0, index), 1 / 3) for index in range(n)]
    kinds = np.array([kind for _, kind in found])
    sigma = np.sqrt(n * (1 / 3) * (2 / 3))
    assert abs((kinds > 0).sum() - n / 3) < 3 * sigma
    counts = np.bincount(kinds, minlength=4)[1:]
    assert np.abs(counts - n / 9).max() < 3 * np.sqrt(n / 9)
    _, truth = case.whole([])
    assert all(truth[place] == kind for place, kind in found if kind)
    # The others lie anywhere: their mean is the middle of the volume.
    others = np.array([place for place, kind in found if not kind])
    middle = (np.asarray(case.shape) - 1) / 2
    spread = np.asarray(case.shape) / np.sqrt(12 * len(others))
    assert (np.abs(others.mean(0) - middle) < 4 * spread).all()


def test_nothing_but_seed_epoch_and_index_decides(cases: list[Case]) -> None:
    def order(prefetch: int, start: int = 0) -> list[torch.Tensor]:
        batches = Batches(
            PatchSet(cases, plan()), batch_size=3, seed=1, epoch=2, shuffle=True,
            start=start, prefetch=prefetch,
        )  # fmt: skip
        return [batch["image"] for batch in batches]

    plain, ahead = order(0), order(2)
    assert all(torch.equal(a, b) for a, b in zip(plain, ahead, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain[4:], order(0, start=4), strict=True))
    samples = PatchSet(cases, plan())
    one, again = (samples.sample(7, 0)["image"] for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, samples.sample(7, 1)["image"])
    # No two samples of an epoch are the same crop.
    crops = {samples.sample(i, 0)["image"].tobytes() for i in range(len(samples))}
    assert len(crops) == len(samples)


def test_patches_stay_inside_and_short_axes_are_filled_behind(cases: list[Case]) -> None:
    samples = PatchSet(cases, plan(patch=(16, 40, 16)))
    for index in range(len(samples)):
        image = samples.sample(index, 0)["image"]
        assert image.shape == (2, 16, 40, 16)
        assert not image[:, :, cases[0].shape[1] :].any()


def people(data: RunData, part: str) -> set[str]:
    return set(data.parts[part].participants) if part in data.parts else set()  # type: ignore[index]


@pytest.mark.parametrize("dims", ["3d", "2d"])
@pytest.mark.parametrize("seed", range(4))
def test_people_of_training_patches_are_in_no_other_part(
    dataset: Path, seed: int, dims: str
) -> None:
    model = "unet3d_xs" if dims == "3d" else "mobile_unetr"
    settings = ["data.patch=16,16,16", f"run.seed={seed}"]
    data = open_data(config(dataset, *settings, model=model))
    train = data.parts["train"]
    served = {train.sample(i, 0)["participant"] for i in range(len(train))}
    assert served == people(data, "train")
    assert not served & (people(data, "val") | people(data, "test"))
    assert served | people(data, "val") | people(data, "test") == {
        f"Brats18_TCIA{i % 3 + 1:02d}_{i + 100}" for i in range(8)
    }
    image = train.sample(0, 0)["image"]
    assert image.ndim == (4 if dims == "3d" else 3)
    assert data.info["dims"] == (3 if dims == "3d" else 2)


def test_only_what_the_model_reads_is_read(dataset: Path) -> None:
    data = open_data(config(dataset))
    assert data.info["modalities"] == ["t1ce", "flair"]
    assert data.info["n_classes"] == 4
    asked = open_data(config(dataset, "data.modalities=flair,t1,t1ce"))
    assert asked.info["modalities"] == ["t1", "t1ce", "flair"]


def test_slices_of_several_sizes_form_a_batch(cases: list[Case]) -> None:
    samples = PatchSet(cases, plan(is_flat=True))
    one, two = samples.sample(0, 0), samples.sample(9, 0)
    cut = {**two, "image": two["image"][:, :10], "label": two["label"][:10]}
    batch = samples.collate([one, cut])
    assert batch["image"].shape[:2] == (2, 2)
    assert torch.equal(batch["image"][1, :, :10], torch.from_numpy(cut["image"]))
    assert not batch["image"][1, :, 10:].any()


def test_unlabelled_cases_are_not_learned_from(dataset: Path, tmp_path: Path) -> None:
    tree = small_tree(tmp_path / "raw", with_labels=False)
    preprocess("brats2021", tree, out=tmp_path / "out")
    with pytest.raises(InputError, match="no labels to learn from"):
        open_data(config(tmp_path / "out"))
    info = open_data(config(dataset)).info
    judged = open_data(config(tmp_path / "out"), like=info)
    sample = next(iter(judged.parts.values())).sample(0, 0)
    assert sample["truth"] is None


def test_raw_trees_and_damaged_cases(dataset: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(InputError, match="no prepared tumour cases"):
        open_data(config(small_tree(tmp_path / "raw")))
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    subject, folder = case_folders(copy)[0]
    (folder / "label.npy").write_bytes(b"")
    data = open_data(config(copy))
    assert [name for name, _ in data.left_out] == [subject]
    assert "label.npy" in data.left_out[0][1]
    with pytest.raises(UsageError, match="takes volumes"):
        open_data(config(dataset, "data.dims=2d"))


@pytest.mark.parametrize("n_axes", [3, 2])
def test_augmentation_follows_its_key_and_leaves_the_background(
    cases: list[Case], n_axes: int
) -> None:
    image, label = cases[0].crop((0, 0, 0), (24, 22, 16), [1, 3])
    if n_axes == 2:
        image, label = image[..., 8], label[..., 8]
    change = Augmentation("all", n_axes)
    results = [change(image, label, (0, 0, index)) for index in (1, 1, 2)]
    assert np.array_equal(results[0][0], results[1][0])
    assert not np.array_equal(results[0][0], results[2][0])
    background = float((image == 0).mean())
    for changed, classes in results:
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert set(np.unique(classes)) <= {0, 1, 2, 3}
        assert abs(float((changed == 0).mean()) - background) < 0.25


def test_flips_move_image_and_label_together(cases: list[Case]) -> None:
    image, label = cases[0].crop((0, 0, 0), (24, 22, 16), [3])
    change = Augmentation("flip", 3)
    seen = set()
    for index in range(12):
        flipped, classes = change(image, label, (0, 0, index))
        for mask in range(8):
            axes = tuple(a for a in range(3) if mask >> a & 1)
            if np.array_equal(np.flip(label, axes), classes):
                assert np.array_equal(np.flip(image[0], axes), flipped[0])
                seen.add(mask)
    assert len(seen) > 3
