"""Pictures: drawn from tables and images that are there, and left out where they are not."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from trees import small_tree

from neurocli.core.data.preprocess import preprocess
from neurocli.core.paths import durable_json
from neurocli.core.report.collect import collect_run
from neurocli.systems.brats.pictures import case_picture, slice_of
from neurocli.systems.brats.report import compare, figures
from neurocli.systems.brats.store import Case, case_folders, open_case


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("report")
    preprocess("brats2021", small_tree(folder / "raw", n_cases=2), out=folder / "out")
    return folder / "out", [open_case(path) for _, path in case_folders(folder / "out")]


@pytest.fixture
def run(cases: tuple[Path, list[Case]], tmp_path: Path) -> Path:
    """Return a run folder whose judgement kept a slice of both cases, predicted perfectly."""
    dataset, opened = cases
    folder = tmp_path / "run"
    out = folder / "evaluations" / "test"
    settings = {"data": {"path": str(dataset)}, "model": {"name": "unet3d_xs"}}
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(settings))
    scores = [("wt", 0.9, 0.8), ("tc", 0.7, 0.6), ("et", 0.5, 0.4)]
    (out / "pictures").mkdir(parents=True)
    with (out / "per_subject.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["participant", "subject", *(f"dice_{name}" for name, *_ in scores)])
        for number, case in enumerate(opened):
            row = [pair[number] for _, *pair in scores]
            writer.writerow([case.participant, case.subject, *row])
            truth = case.whole([])[1]
            for name, picture in case_picture(case, truth, truth).items():
                np.save(out / "pictures" / f"{name}.npy", picture)
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
        # The slice with most tumour, counted from the labels; the prediction is the truth.
        n = int((case.whole([])[1] > 0).sum(axis=(0, 1)).max())
        assert figure.alt.startswith(f"{n} of {n} tumour voxels of the slice are found, and 0 ")
        assert figure.image.startswith(b"<?xml")


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    assert [f.image for f in figures(run)] == [f.image for f in figures(run)]


def test_without_kept_slices_there_is_no_overlay(run: Path) -> None:
    for path in (run / "evaluations" / "test" / "pictures").iterdir():
        path.unlink()
    assert [figure.title for figure in figures(run)] == ["Dice by case, test"]


def test_the_dataset_is_not_needed(run: Path) -> None:
    (run / "config.yaml").write_text(json.dumps({"data": {"path": "/no/such/place"}}))
    assert len(figures(run)) == 3


def test_what_is_no_slice_is_left_out(run: Path) -> None:
    folder = run / "evaluations" / "test" / "pictures"
    for path in folder.iterdir():
        path.write_bytes(b"\x93NUMPY of no use")
    np.save(folder / "x.axial-1-of-2.npy", np.zeros((4, 3), dtype=np.uint8))
    np.save(folder / "y.npy", np.zeros((4, 3, 3), dtype=np.uint8))
    assert len(figures(run)) == 1


def test_the_slice_shows_truth_and_prediction_in_place(cases: tuple[Path, list[Case]]) -> None:
    case = cases[1][0]
    truth = case.whole([])[1]
    ((name, picture),) = case_picture(case, truth, np.zeros_like(truth)).items()
    told = slice_of(name)
    assert told is not None
    assert told == (case.subject, int((truth > 0).sum(axis=(0, 1)).argmax()), case.shape[2])
    assert (picture[2] > 0).sum() == (truth[..., told[1]] > 0).sum()
    assert not picture[3].any()
    # Grey levels span the bytes, and nothing outside the brain is lit.
    assert picture[0].max() == 255
    assert len(case_picture(case, None, truth)[name]) == 3


def test_every_run_stands_beside_the_others(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    name = sorted(path.name for path in (run / "evaluations/test/pictures").iterdir())[0]
    (other / "evaluations/test/pictures" / name).unlink()
    found = compare([collect_run(run), collect_run(other, name="<b>other")])
    # One case is kept by one run alone.
    (figure,) = found
    assert figure.title.endswith("every run")
    assert "run: " in figure.alt
    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(figure.image).iter()]
    assert {"FLAIR", "truth", "run", "<b>other"} <= set(texts)
    assert compare([collect_run(run)]) == []


def test_nothing_judged_gives_no_picture(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert figures(tmp_path) == []
