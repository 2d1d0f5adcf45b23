"""The tumour room from raw files to predictions on the input's grid, and a run that is taken up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import neurocli
from neurocli.core.errors import UsageError
from neurocli.core.metrics.segmentation import label_confusion, region_dice
from neurocli.systems.brats.report import figures
from neurocli.systems.brats.synthetic import CohortSpec, paint_case, write_tree

SPEC = CohortSpec(n_cases=6, shape=(32, 32, 24), spacing_mm=6.0)
SMALL = [
    "model.width=4", "model.norm=in", "data.patch=16,16,16", "data.samples_per_case=4",
    "data.batch_size=4", "task.roi=24,24,24", "task.loss=nnunet", "run.threads=1",
    "data.foreground=0.6", "run.seed=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumours")
    write_tree(folder / "raw", "brats2021", SPEC, suffix=".nii.gz")
    neurocli.preprocess("brats2021", folder / "raw", out=folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="module")
def run(dataset: Path) -> neurocli.RunResult:
    return neurocli.train(
        "unet3d_xs", data=dataset, epochs=4, lr=5e-3, set=SMALL, out=dataset.parent / "run"
    )


@pytest.fixture(scope="module")
def judged(run: neurocli.RunResult) -> neurocli.EvalResult:
    return neurocli.evaluate(run.checkpoint, sliding_window=True, save_predictions=True)


def test_the_loss_falls_and_the_best_is_by_dice(run: neurocli.RunResult) -> None:
    assert run.best["metric"] == "dice_mean"
    lines = (Path(run.run) / "log.jsonl").read_text().splitlines()
    losses = [e["loss"] for e in map(json.loads, lines) if e["event"] == "step"]
    assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:4])


def test_metrics_baselines_and_conventions(judged: neurocli.EvalResult) -> None:
    record = json.loads((judged.out / "metrics.json").read_text())
    regions = ("wt", "tc", "et")
    assert {f"{kind}_{name}" for kind in ("dice", "hd95") for name in regions} | {
        "dice_mean", "precision", "recall", "lesion_dice_et", "lesion_hd95_wt",
    } <= set(record["metrics"])  # fmt: skip
    assert set(record["baselines"]) == {"threshold"}
    assert record["baselines"]["threshold"]["dice_wt"] > 0.3
    assert record["conventions"]["empty"] == "brats"
    assert set(record["empty_regions"]["et"]) == {"n_empty_truth", "n_false", "n_missed"}
    assert np.sum(record["confusion"]["counts"]) == judged.n * np.prod(SPEC.shape)


def test_predictions_lie_on_the_grid_of_the_input_and_give_the_same_scores(
    judged: neurocli.EvalResult, dataset: Path
) -> None:
    import csv

    with (judged.out / "per_subject.csv").open() as handle:
        rows = {row["subject"]: row for row in csv.DictReader(handle)}
    raw = dataset.parent / "raw" / "BraTS2021_Training_Data"
    assert rows
    for name, row in rows.items():
        image = nib.load(judged.out / "predictions" / f"{name}.nii.gz")
        seg = nib.load(raw / name / f"{name}_seg.nii.gz")
        values = np.asarray(image.dataobj)
        assert np.array_equal(image.affine, seg.affine)
        assert values.dtype == np.uint8
        assert set(np.unique(values)) <= {0, 1, 2, 4}
        classes = np.where(values == 4, 3, values)
        truth = paint_case(int(name[-5:]), SPEC)[1]
        scores = region_dice(label_confusion(truth, classes))
        for region, value in scores.items():
            assert float(row[f"dice_{region}"]) == pytest.approx(value)


def test_flags_become_settings_and_change_what_is_done(
    run: neurocli.RunResult, judged: neurocli.EvalResult, tmp_path: Path
) -> None:
    def dice(**options: Any) -> float:
        return neurocli.evaluate(run.checkpoint, out=tmp_path, **options).metrics["dice_mean"]

    one_pass = dice(roi="32,32,24")
    assert dice(set=["task.sliding_window=false"]) == one_pass
    assert dice(blend="constant", overlap=0.0, roi="16,16,16") != judged.metrics["dice_mean"]
    assert dice(tta=True) != judged.metrics["dice_mean"]
    with pytest.raises(UsageError, match="blend"):
        dice(blend="cubic")


def test_pictures(run: neurocli.RunResult, judged: neurocli.EvalResult) -> None:
    found = figures(Path(run.run))
    assert [figure.title.split(",")[0].split()[0] for figure in found][:2] == ["Dice", "Case"]
    assert len(found) == 1 + judged.n
    assert "tumour voxels of the slice are found" in found[1].alt


def test_unlabelled_cases_are_predicted_and_not_scored(
    run: neurocli.RunResult, tmp_path: Path
) -> None:
    spec = CohortSpec(n_cases=2, shape=SPEC.shape, spacing_mm=6.0)
    write_tree(tmp_path / "raw", "brats2023", spec, with_labels=False)
    neurocli.preprocess("brats2023", tmp_path / "raw", out=tmp_path / "prepared")
    done = neurocli.evaluate(
        run.checkpoint, data=tmp_path / "prepared", out=tmp_path / "eval", save_predictions=True
    )
    assert (done.n, dict(done.metrics)) == (0, {})
    assert any("no labels" in note for note in done.notes)
    values = [
        np.unique(np.asarray(nib.load(path).dataobj)).max()
        for path in (tmp_path / "eval" / "predictions").glob("*.nii.gz")
    ]
    assert len(values) == 2
    assert max(values) <= 3  # this year's files hold 3 for enhancing tumour


def test_images_of_an_earlier_judgement_do_not_stay(
    run: neurocli.RunResult, tmp_path: Path
) -> None:
    neurocli.evaluate(run.checkpoint, part="val", out=tmp_path, save_predictions=True)
    before = {path.name for path in (tmp_path / "predictions").glob("*.nii.gz")}
    neurocli.evaluate(run.checkpoint, part="test", out=tmp_path, save_predictions=True)
    after = {path.name for path in (tmp_path / "predictions").glob("*.nii.gz")}
    assert before
    assert after
    assert not before & after
    neurocli.evaluate(run.checkpoint, part="test", out=tmp_path)
    assert not list((tmp_path / "predictions").glob("*.nii.gz"))


def test_a_run_taken_up_again_ends_with_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "data.augment=flip"]
    whole = neurocli.train("unet3d_xs", data=dataset, epochs=2, set=settings, out=tmp_path / "a")

    class Stop(Exception):
        pass

    def stop_at_3(event: object) -> None:
        if getattr(event, "step", 0) == 3 and type(event).__name__ == "StepDone":
            raise Stop

    more = [*settings, "run.checkpoint_every_steps=1"]
    with pytest.raises(Stop):
        neurocli.train(
            "unet3d_xs", data=dataset, epochs=2, set=more, out=tmp_path / "b", listener=stop_at_3
        )
    again = neurocli.train(resume=tmp_path / "b")
    one, two = (
        torch.load(Path(r.run) / "checkpoints" / "last.pth", weights_only=True)["state_dict"]
        for r in (whole, again)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_slices(dataset: Path, tmp_path: Path) -> None:
    run = neurocli.train(
        "mobile_unetr", data=dataset, steps=2, out=tmp_path / "flat",
        set=["data.samples_per_case=1", "data.batch_size=2", "run.threads=1"],
    )  # fmt: skip
    done = neurocli.evaluate(run.checkpoint, part="val")
    assert 0 <= done.metrics["dice_mean"] <= 1


def test_windows_are_refused_for_other_models(tmp_path: Path) -> None:
    from small_run import SMALL as SMALL_FMRI

    run = neurocli.train("fmamba", pretrain="ar", steps=1, set=SMALL_FMRI, out=tmp_path / "fmri")
    with pytest.raises(UsageError, match="--roi, --tta: only for segmentation checkpoints"):
        neurocli.evaluate(run.checkpoint, roi="8,8,8", tta=True)
