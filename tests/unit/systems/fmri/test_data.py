"""Clips hold the scaled values of the file, people are divided, nothing goes unsaid.

Expected values come from the arrays that were written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_files import SHAPE, mark_built_in, values_of, write_cohort, write_run

from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.fmri.data import open_data


def config(folder: Path, *settings: str, model: str = "fmamba") -> RunConfig:
    common = ["model.patch_size=2,2,2,1", "data.sequence_length=4", f"data.path={folder}"]
    return load_config(model=model, set=[*common, *settings])


def all_samples(data: RunData) -> list[dict[str, Any]]:
    return [part.sample(i, 0) for part in data.parts.values() for i in range(len(part))]


@pytest.mark.parametrize("scaling", ["auto", "voxel-z", "znorm_zeroback", "psc", "none"])
def test_clips_hold_the_scaled_values(tmp_path: Path, scaling: str) -> None:
    data = open_data(config(write_cohort(tmp_path, 3), f"data.scaling={scaling}"))
    samples = all_samples(data)
    assert len(samples) == 9  # three people, twelve frames, clips of four
    for sample in samples:
        values, mask = values_of(int(sample["subject"][1:]), 12)
        wide = values.astype(np.float64)
        expected = {
            "auto": (wide - wide.mean(0)) / wide.std(0, ddof=1),
            "voxel-z": (wide - wide.mean(0)) / wide.std(0, ddof=1),
            "znorm_zeroback": (wide - wide.mean()) / wide.std(ddof=1),
            "psc": 100 * (wide - wide.mean(0)) / wide.mean(0),
            "none": wide,
        }[scaling][sample["start"] : sample["start"] + 4]
        assert sample["clip"].shape == (1, 6, 4, 4, 4)  # 5x4x3 padded to the patch of 2
        assert np.array_equal(sample["brain"][:5, :4, :3], mask)
        assert sample["brain"].sum() == mask.sum()
        got = sample["clip"][0][sample["brain"]].T
        # Per-voxel SD may divide by T or T-1; the file says which, the shape must agree.
        ratio = expected.std() / got.std()
        np.testing.assert_allclose(got * ratio, expected, rtol=2e-3, atol=2e-3)
        assert abs(ratio - 1) < 0.05
        assert not sample["clip"][0][~sample["brain"]].any()


def test_people_are_divided_not_clips(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 20)
    write_run(folder, 30, subject="s00_run-02", participant="s00")
    data = open_data(config(folder))
    owners = {part: set(samples.participants) for part, samples in data.parts.items()}
    assert [len(owners[part]) for part in ("train", "val", "test")] == [14, 3, 3]
    assert not owners["train"] & owners["val"] | owners["train"] & owners["test"]
    assert sum(len(samples) for samples in data.parts.values()) == 21 * 3
    again = open_data(config(folder))
    assert again.split_sha256 == data.split_sha256
    assert again.fingerprint == data.fingerprint
    other = open_data(config(folder, "run.seed=5"))
    assert other.split_sha256 != data.split_sha256


def test_families_stay_together(tmp_path: Path) -> None:
    families = [f"f{i // 2}" for i in range(20)]
    folder = write_cohort(tmp_path, 20, columns={"family": families})
    data = open_data(config(folder))
    part_of = {who: part for part, people in data.split.items() for who in people}
    for i in range(0, 20, 2):
        assert part_of[f"s{i:02d}"] == part_of[f"s{i + 1:02d}"]
    assert any("family" in note for note in data.notes)


def test_short_and_broken_runs_are_listed(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 3)
    write_run(folder, 7, n_frames=3)
    (folder / "broken.h5").write_bytes((folder / "s00.h5").read_bytes()[:2000])
    data = open_data(config(folder))
    reasons = dict(data.left_out)
    assert "3 frames, shorter than one clip of 4" in reasons["s07"]
    assert "broken" in reasons
    assert len(all_samples(data)) == 9
    (folder / "broken.h5").unlink()
    gone = '{"subject": "gone", "status": "done", "files": ["gone.h5"], "error": null}'
    here = gone.replace("gone", "s00")
    (folder / "manifest.jsonl").write_text(f"{gone}\n{here}\n")
    data = open_data(config(folder))
    assert [name for name, _ in data.left_out] == ["gone"]
    (folder / "manifest.jsonl").unlink()
    with pytest.raises(InputError, match="shorter than one clip"):
        open_data(config(folder, "data.sequence_length=50"))


def test_a_split_file_is_followed(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "d", 4)
    split = tmp_path / "split.json"
    parts = '{"train": ["s00"], "val": ["s01"], "test": ["s02", "gone"]}'
    split.write_text(f'{{"schema": "neuro/split/1", "seed": 0, "parts": {parts}}}')
    data = open_data(config(folder, f"data.split={split}"))
    assert {part: set(s.participants) for part, s in data.parts.items()} == {
        "train": {"s00"},
        "val": {"s01"},
        "test": {"s02"},
        "rest": {"s03"},
    }
    assert any("1 participants of the split are not in this data" in note for note in data.notes)
    split.write_text(split.read_text().replace("s0", "x"))
    with pytest.raises(UsageError, match="nobody"):
        open_data(config(folder, f"data.split={split}"))


def test_targets_follow_the_table(tmp_path: Path) -> None:
    columns = {"sex": ["F", "M", "n/a", "M"], "age": [20, 30.5, "", 41]}
    folder = write_cohort(tmp_path, 4, columns=columns)
    data = open_data(config(folder, "task.target=sex", model="fmamba_mlp"))
    assert data.objective == "classification"
    assert data.info["classes"] == ["F", "M"]
    targets = {sample["participant"]: sample["target"] for sample in all_samples(data)}
    assert targets == {"s00": 0.0, "s01": 1.0, "s03": 1.0}
    assert any("1 participants have no value of sex" in note for note in data.notes)
    numeric = ["task.target=age", "task.target_type=regression"]
    data = open_data(config(folder, *numeric, model="fmamba_mlp"))
    assert data.objective == "regression"
    targets = {sample["participant"]: sample["target"] for sample in all_samples(data)}
    assert targets == {"s00": 20.0, "s01": 30.5, "s03": 41.0}


@pytest.mark.parametrize(
    ("settings", "model", "words"),
    [
        (["task.target=sx"], "fmamba_mlp", "did you mean sex"),
        ([], "fmamba_mlp", "needs --task"),
        (["task.target=sex"], "fmamba", "without labels"),
        (["task.target=one"], "fmamba_mlp", "1 class"),
        (["task.target=sex", "task.target_type=regression"], "fmamba_mlp", "no numbers"),
        (["data.img_size=2,4,4"], "fmamba", "5 voxels along H"),
        (["data.path=absent"], "fmamba", "no such dataset"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, settings: list[str], model: str, words: str
) -> None:
    columns = {"sex": ["F", "M", "F"], "one": ["a", "a", "a"]}
    folder = write_cohort(tmp_path, 3, columns=columns)
    with pytest.raises(NeuroError, match=words):
        open_data(config(folder, *settings, model=model))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NeuroError) as caught:
        open_data(config(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_checkpoint_decides_grid_and_classes(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 3, columns={"sex": ["M", "M", "F"]})
    like = {"img_size": [8, 8, 8, 4], "scaling": "psc", "classes": ["F", "M", "X"]}
    settings = config(folder, "task.target=sex", model="fmamba_mlp")
    split = {"train": [], "val": [], "test": ["s00", "s01"]}
    data = open_data(settings, split=split, like=like)
    assert data.info["img_size"] == [8, 8, 8, 4]
    assert data.info["scaling"] == "psc"
    assert set(data.parts) == {"test", "rest"}
    assert {s["target"] for s in all_samples(data)} == {0.0, 1.0}
    with pytest.raises(NeuroError, match="sex holds F"):
        open_data(settings, split=split, like={**like, "classes": ["M", "X"]})
    with pytest.raises(NeuroError, match="model takes 4"):
        open_data(settings, split=split, like={**like, "img_size": [4, 4, 4, 4]})


def test_other_voxel_sizes_are_told(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 3)
    data = open_data(config(folder))
    assert data.info["spacings_mm"] == [[3.0, 3.0, 3.0]]
    split = {"train": [], "val": [], "test": ["s00"]}
    same = open_data(config(folder), split=split, like=data.info)
    assert not any("voxels of" in note for note in same.notes)
    like = {**data.info, "spacings_mm": [[2.0, 2.0, 2.0]]}
    other = open_data(config(folder), split=split, like=like)
    assert any("voxels of 3x3x3 mm are judged" in note for note in other.notes)


def test_built_in_data_stays_marked(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 3)
    assert not open_data(config(folder)).built_in_data
    mark_built_in(folder)
    data = open_data(config(folder))
    assert data.built_in_data
    assert any("synthetic" in note for note in data.notes)


def test_values_are_not_scaled_twice(tmp_path: Path) -> None:
    for index in range(3):
        write_run(tmp_path, index, scaling="znorm_zeroback")
    assert open_data(config(tmp_path)).info["scaling"] == "znorm_zeroback"
    with pytest.raises(UsageError, match="scale twice"):
        open_data(config(tmp_path, "data.scaling=minmax"))


def test_a_batch_is_tensors_and_names(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, 3, columns={"sex": ["F", "M", "F"]})
    data = open_data(config(folder, "task.target=sex", model="fmamba_mlp"))
    part = data.parts["train"]
    batch = part.collate([part.sample(i, 0) for i in range(2)])
    assert tuple(batch["clip"].shape) == (2, 1, 6, 4, 4, 4)
    assert tuple(batch["brain"].shape) == (2, 6, 4, 4)
    assert batch["target"].shape == (2,)
    assert len(batch["participant"]) == 2
    assert SHAPE == (5, 4, 3)
