"""Explanations on a planted network: edema from FLAIR alone, enhancing tumour from T1ce alone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurocli.core.config.load import load_config
from neurocli.core.data.preprocess import preprocess
from neurocli.core.engine.task import SampleSet
from neurocli.core.errors import UsageError
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.data import open_data
from neurocli.systems.brats.explain import ModalityExplainer
from neurocli.systems.brats.models.branchnet import BranchNet
from neurocli.systems.brats.synthetic import CohortSpec, write_tree
from neurocli.systems.brats.task import SegmentationTask

SPEC = CohortSpec(n_cases=3, shape=(32, 32, 24), spacing_mm=6.0)


class Reader(nn.Module):
    """Call voxels bright in T1ce (channel 0) enhancing, and voxels bright in FLAIR oedema."""

    def __init__(self) -> None:
        super().__init__()
        self.t1ce, self.flair = nn.Identity(), nn.Identity()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        t1ce, flair = self.t1ce(x[:, :1] * 1), self.flair(x[:, 1:2] * 1)
        zero = torch.zeros_like(t1ce)
        # Logits: background 0, necrosis never, oedema and enhancement above 1.2 and 1.7 SD.
        return torch.cat([zero, zero - 99, flair - 1.2, 9 * (t1ce * self.gain - 1.7)], 1)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    # Files with other axes than those that are stored, so that a map must be turned back.
    write_tree(folder / "raw", "brats2021", SPEC)
    for path in folder.glob("raw/**/*.nii"):
        turned = nib.as_closest_canonical(nib.load(path))
        values = np.array(turned.dataobj)  # read before the file is replaced
        nib.save(nib.Nifti1Image(values, turned.affine), path)
    preprocess("brats2021", folder / "raw", out=folder / "out")
    return folder


def task_and_samples(
    part: Path, *settings: str
) -> tuple[SegmentationTask, SampleSet, dict[str, Any]]:
    common = [f"data.path={part / 'out'}", "data.patch=32,32,24", *settings]
    config = load_config(model="unet3d_xs", set=common)
    info = {"modalities": ["t1ce", "flair"], "dims": 3, "n_classes": 4, "spacing_mm": []}
    people = sorted(path.name for path in (part / "out").iterdir() if path.is_dir())
    data = open_data(config, split={"train": [], "val": [], "test": people}, like=info)
    samples = data.parts["test"]
    batch = samples.collate([samples.sample(i, 0) for i in range(len(samples))])
    return SegmentationTask(config), samples, dict(batch)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_the_contrast_that_a_region_needs_matters_most(part: Path, tmp_path: Path) -> None:
    task, samples, batch = task_and_samples(part)
    explainer = task.explainer("modality", [samples], None)
    model = Reader().eval()
    with torch.no_grad():
        explainer.step(model, batch)
    said = explainer.write(tmp_path)
    fall = {
        (row["region"], row["modality"]): float(row["mean_fall"])
        for row in rows_of(tmp_path / "modality_removal_summary.csv")
    }
    # Without T1ce nothing is called enhancing, so all of its Dice is lost.
    assert fall["et", "t1ce"] > 0.2
    assert abs(fall["et", "flair"]) < 0.02
    assert fall["wt", "flair"] > fall["wt", "t1ce"] + 0.1
    assert said[0].startswith("wt: Dice falls most")
    assert "without flair" in said[0]
    assert "without t1ce" in said[2]
    single = rows_of(tmp_path / "modality_removal.csv")
    assert len(single) == SPEC.n_cases * 2 * 3
    for row in single:
        if row["fall"]:
            assert float(row["dice"]) - float(row["dice_without"]) == pytest.approx(
                float(row["fall"])
            )
    assert not list(tmp_path.glob("modality_attention*"))  # this network weighs nothing


def test_weights_of_a_network_that_weighs_contrasts(part: Path, tmp_path: Path) -> None:
    _, _, batch = task_and_samples(part)
    config = BranchNetConfig(
        name="quadbranch_4modal_attention_unet_s", modalities=("t1", "t1ce", "t2", "flair"),
        branches="per-modality", width=4, branch_stages=2, fused_widths=(4,), decoder=(4, 2, 1),
        modality_attention=(2, 3), norm="in",
    )  # fmt: skip
    info = {"modalities": ["t1", "t1ce", "t2", "flair"], "n_classes": 4}
    model = BranchNet(config, info).eval()
    # Planted: both stages give T1ce a weight of almost 1 and the others almost 0.
    for name in ("attn2", "attn3"):
        last = [m for m in getattr(model, name).modules() if isinstance(m, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([-6.0, 6.0, -6.0, -6.0]))
    volumes = [torch.cat([volume, volume]) for volume in batch["volume"]]
    explainer = ModalityExplainer(
        (0, 1, 2, 3), config.name, lambda _, volume: np.zeros(volume.shape[1:], dtype=np.uint8)
    )
    with torch.no_grad():
        explainer.step(model, {**batch, "volume": volumes})
    explainer.write(tmp_path)
    rows = rows_of(tmp_path / f"modality_attention_{config.name}.csv")
    assert list(rows[0]) == ["sample_id", "T1", "T1CE", "T2", "FLAIR"]
    assert len(rows) == SPEC.n_cases
    summary = rows_of(tmp_path / f"modality_attention_summary_{config.name}.csv")
    assert list(summary[0]) == ["modality", "mean_contribution", "std_contribution"]
    means = {row["modality"]: float(row["mean_contribution"]) for row in summary}
    # sigmoid(6) and sigmoid(-6)
    assert means["T1CE"] == pytest.approx(0.99753, abs=1e-4)
    assert means["FLAIR"] == pytest.approx(0.00247, abs=1e-4)


def test_maps_lie_on_the_grid_of_the_input_and_point_at_the_region(
    part: Path, tmp_path: Path
) -> None:
    settings = ("task.explain_stages=t1ce,flair", "task.explain_of=labelled")
    task, samples, batch = task_and_samples(part, *settings)
    explainer = task.explainer("gradcam", [samples], None)
    with torch.no_grad():
        explainer.step(Reader().eval(), batch)
    (said,) = explainer.write(tmp_path)
    assert "labelled regions" in said
    rows = rows_of(tmp_path / "gradcam.csv")
    for row in rows:
        if row["region"] == "et" and float(row["voxels"]) > 0:
            # Nothing of the enhancing logit comes from FLAIR.
            assert float(row["share_of_branches"]) == (1.0 if row["stage"] == "t1ce" else 0.0)
    names = batch["subject"]
    for name in names:
        raw = next(part.glob(f"raw/**/{name}_seg.nii*"))
        image = nib.load(tmp_path / f"{name}_et_t1ce.nii.gz")
        seg = nib.load(raw)
        assert np.array_equal(image.affine, seg.affine)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        cam, label = np.asarray(image.dataobj), np.asarray(seg.dataobj)
        assert cam.shape == label.shape
        if not (label == 4).any():
            assert cam.max() == 0
            continue
        # The network is an identity: the map is the positive part of T1ce, on the file's axes.
        assert cam[label == 4].mean() > 2 * cam[label == 0].mean()


def test_more_cases_than_asked_for_are_told(part: Path, tmp_path: Path) -> None:
    settings = ("task.explain_stages=t1ce", "task.explain_cases=1")
    task, samples, batch = task_and_samples(part, *settings)
    explainer = task.explainer("gradcam", [samples], None)
    explainer.step(Reader().eval(), batch)
    (said,) = explainer.write(tmp_path)
    assert "2 more cases have none" in said
    assert len(list(tmp_path.glob("*.nii.gz"))) == 3


def test_a_branched_network_gives_branches_and_decoder(part: Path, tmp_path: Path) -> None:
    task, samples, batch = task_and_samples(part, "task.explain_cases=1", "data.patch=24,24,16")
    config = BranchNetConfig(
        name="dualbranch_01_unet_xs", modalities=("t1ce", "flair"), branches="per-modality",
        width=4, branch_stages=1, fused_widths=(4, 8), decoder=(4, 2, 1), norm="in",
    )  # fmt: skip
    torch.manual_seed(0)
    model = BranchNet(config, {"modalities": ["t1ce", "flair"], "n_classes": 4}).eval()
    explainer = task.explainer("gradcam", [samples], None)
    with torch.no_grad():
        explainer.step(model, batch)
    explainer.write(tmp_path)
    rows = [row for row in rows_of(tmp_path / "gradcam.csv") if row["region"] == "wt"]
    assert [row["stage"] for row in rows] == ["branch_t1ce2", "branch_flair2", "up2", "up3"]
    shares = [float(row["share_of_branches"]) for row in rows]
    assert sum(shares[:2]) == pytest.approx(1.0)
    assert shares[2:] == [1.0, 1.0]
    assert all(0 <= float(row["share_inside"]) <= 1 for row in rows)


def test_what_cannot_be_explained_is_said(part: Path) -> None:
    task, samples, _ = task_and_samples(part)
    with pytest.raises(UsageError, match="did you mean gradcam"):
        task.explainer("gradcan", [samples], None)
    task.dims = 2
    with pytest.raises(UsageError, match="slices"):
        task.explainer("gradcam", [samples], None)
