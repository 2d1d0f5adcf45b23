"""Every command of README.md runs, as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from shell import environment, needs_neuro, run

from neurocli.systems.brats.synthetic import CohortSpec as TumourSpec
from neurocli.systems.brats.synthetic import write_tree
from neurocli.systems.calcium.synthetic import CohortSpec as SessionSpec
from neurocli.systems.calcium.synthetic import simulate
from neurocli.systems.calcium.write_layouts import write_masks
from neurocli.systems.fmri.synthetic import CohortSpec, cohort_table

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# The README's two set-up commands: the first runs below, the second is what runs this test.
SETUP = "bash tests/run.sh"


def blocks(root: Path, language: str) -> list[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


@pytest.fixture(scope="module")
def command_line() -> None:
    needs_neuro()


def write_bids(folder: Path, n: int) -> None:
    """Write a small BIDS tree: n people, two of each family, 24 frames of 12 mm voxels."""
    (folder / "dataset_description.json").parent.mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    rows = ["participant_id\tsex\tage\tfamily"]
    random = np.random.default_rng(0)
    axis = np.linspace(-1, 1, 12)
    ball = sum(np.meshgrid(axis**2, axis**2, axis**2)) < 0.7
    for index in range(n):
        bold = ball[..., None] * (1000 + 30 * random.standard_normal((12, 12, 12, 24)))
        image = nib.Nifti1Image(bold.astype(np.float32), np.diag([12.0, 12, 12, 1]))
        image.header.set_zooms((12, 12, 12, 2.0))
        image.header.set_xyzt_units("mm", "sec")
        path = folder / f"sub-{index:02d}" / "func" / f"sub-{index:02d}_task-rest_bold.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(image, path)
        rows.append(f"sub-{index:02d}\t{'FM'[index % 2]}\t{20 + index}\tf{index // 2}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")


def block_with(root: Path, words: str) -> str:
    (found,) = [body for body in blocks(root, "bash") if words in body]
    return found


@pytest.mark.slow
def test_the_fmri_blocks(root: Path, tmp_path: Path, command_line: None) -> None:
    write_bids(tmp_path / "data" / "ds000114", 8)
    here, env = tmp_path / "here", environment(root, tmp_path)
    run(block_with(root, "neuro preprocess bids"), here, env)
    assert (here / "report.html").stat().st_size > 10_000
    run(block_with(root, "--layout packed"), here, env)
    assert (here / "runs" / "tokens" / "checkpoints" / "last.pth").is_file()


@pytest.mark.slow
def test_the_split_block(root: Path, tmp_path: Path, command_line: None) -> None:
    rows = list(cohort_table(CohortSpec(n_subjects=96)).items())
    columns = list(rows[0][1])
    lines = ["\t".join(["participant_id", *columns])]
    lines += ["\t".join([name, *values.values()]) for name, values in rows]
    here = tmp_path / "here"
    here.mkdir()
    (here / "participants.tsv").write_text("\n".join(lines) + "\n")
    run(block_with(root, "--sample psm"), here, environment(root, tmp_path))
    assert json.loads((here / "match.json").read_text())["pairs"]
    assert len(json.loads((here / "folds.json").read_text())["folds"]) == 5


@pytest.mark.slow
def test_the_tumour_block(root: Path, tmp_path: Path, command_line: None) -> None:
    write_tree(tmp_path / "data" / "brats2021", "brats2021", TumourSpec(0, 6, (24, 22, 18), 4.0))
    here = tmp_path / "here"
    done = run(block_with(root, "brats2021"), here, environment(root, tmp_path))
    assert "dualbranch_14_convnext_l" in done.stdout
    assert list((here / "runs" / "unet" / "evaluations").rglob("*.nii.gz"))


@pytest.mark.slow
def test_the_calcium_block(root: Path, tmp_path: Path, command_line: None) -> None:
    folder = tmp_path / "data" / "allen"
    folder.mkdir(parents=True)
    write_masks(simulate(SessionSpec(), 0), folder / "501021421.h5")
    here = tmp_path / "here"
    done = run(block_with(root, "neuro preprocess allen"), here, environment(root, tmp_path))
    assert '"infonce"' in done.stdout
    assert (here / "weights.pth").is_file()


@pytest.mark.slow
def test_the_gene_block(root: Path, tmp_path: Path, command_line: None) -> None:
    here = tmp_path / "here"
    run(block_with(root, "neuro align-genes"), here, environment(root, tmp_path))
    assert (here / "runs" / "sweep" / "genes.csv").is_file()


@pytest.mark.slow
def test_the_block_of_experiments_processes_and_costs(
    root: Path, tmp_path: Path, command_line: None
) -> None:
    here = tmp_path / "here"
    done = run(block_with(root, "--procs 2"), here, environment(root, tmp_path))
    rows = (here / "study" / "integrated_experiment_results.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    assert (here / "study.html").is_file()
    assert (here / "runs" / "two" / "ranks" / "rank-1.log").is_file()
    assert "thop" in done.stdout


@pytest.mark.slow
def test_the_chained_block_and_python(root: Path, tmp_path: Path, command_line: None) -> None:
    env = environment(root, tmp_path)
    block = next(body for body in blocks(root, "bash") if '"$(neuro train' in body)
    done = run(block, tmp_path / "here", env)
    assert '"skill_vs_persistence"' in done.stdout
    (code,) = blocks(root, "python")
    (tmp_path / "here" / "script.py").write_text(code)
    done = run("python script.py", tmp_path / "here", env)
    assert float(done.stdout.split()[-1]) < 1


def test_no_other_command_stands_in_the_readme(root: Path) -> None:
    setup, *others = blocks(root, "bash")
    assert [line.partition("#")[0].strip() for line in setup.splitlines()] == [
        "bash examples/quickstart.sh",
        SETUP,
    ]
    assert len(others) == 8  # those that run above
    assert SETUP in (root / ".ci" / "run").read_text()
