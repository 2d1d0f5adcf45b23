"""Pictures: drawn from tables and images that are there, and left out where they are not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from trees import small_tree

from neurocli.core.data.nifti import write_image
from neurocli.core.data.preprocess import preprocess
from neurocli.core.paths import durable_json
from neurocli.systems.brats.prepare import to_source
from neurocli.systems.brats.report import figures
from neurocli.systems.brats.store import Case, case_folders, open_case
from neurocli.systems.brats.volumes import stored_values


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("report")
    preprocess("brats2021", small_tree(folder / "raw", n_cases=2), out=folder / "out")
    return folder / "out", [open_case(path) for _, path in case_folders(folder / "out")]


@pytest.fixture
def run(cases: tuple[Path, list[Case]], tmp_path: Path) -> Path:
    """Return a run folder that holds an evaluation of both cases with perfect predictions."""
    dataset, opened = cases
    folder = tmp_path / "run"
    out = folder / "evaluations" / "test"
    settings = {"data": {"path": str(dataset)}, "model": {"name": "unet3d_xs"}}
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(settings))
    scores = [("wt", 0.9, 0.8), ("tc", 0.7, 0.6), ("et", 0.5, 0.4)]
    (out / "predictions").mkdir(parents=True)
    with (out / "per_subject.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["participant", "subject", *(f"dice_{name}" for name, *_ in scores)])
        for number, case in enumerate(opened):
            row = [pair[number] for _, *pair in scores]
            writer.writerow([case.participant, case.subject, *row])
            stored = stored_values(case.whole([])[1], "et4")
            labels, affine = to_source(stored, case.about["source"])
            path = out / "predictions" / f"{case.subject}.nii.gz"
            write_image(path, np.ascontiguousarray(labels), affine)
    record = {"schema": "neuro/evaluate/1", "part": "test", "n": 2, "metrics": {"dice_wt": 0.85}}
    durable_json(out / "metrics.json", record | {"baselines": {"threshold": {"dice_wt": 0.6}}})
    return folder


def test_dice_by_case_and_an_overlay_of_each(run: Path, cases: tuple[Path, list[Case]]) -> None:
    found = figures(run)
    assert [figure.title for figure in found] == [
        "Dice by case, test", *(f"Case {case.subject}, test" for case in cases[1]),
    ]  # fmt: skip
    assert "WT 0.85, TC 0.65, ET 0.45" in found[0].alt
    for figure, case in zip(found[1:], cases[1], strict=True):
        n_tumour = int((case.whole([])[1] > 0).sum())
        # The prediction is the truth, so everything is found and nothing else.
        assert figure.alt.startswith(f"{n_tumour} of {n_tumour} tumour voxels are found, and 0 ")
        assert figure.image.startswith(b"<?xml")


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    assert [f.image for f in figures(run)] == [f.image for f in figures(run)]


def test_without_kept_predictions_there_is_no_overlay(run: Path) -> None:
    for path in (run / "evaluations" / "test" / "predictions").iterdir():
        path.unlink()
    assert [figure.title for figure in figures(run)] == ["Dice by case, test"]


def test_without_the_dataset_there_is_no_overlay(run: Path) -> None:
    (run / "config.yaml").write_text(json.dumps({"data": {"path": "/no/such/place"}}))
    assert len(figures(run)) == 1


def test_a_damaged_or_foreign_prediction_is_left_out(run: Path) -> None:
    one, two = sorted((run / "evaluations" / "test" / "predictions").iterdir())
    one.write_bytes(one.read_bytes()[:50])
    write_image(two, np.zeros((3, 3, 3), dtype=np.uint8), np.eye(4))
    assert len(figures(run)) == 1


def test_nothing_judged_gives_no_picture(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert figures(tmp_path) == []
