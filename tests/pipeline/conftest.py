"""One small cohort and one pretraining run, made once for all tests of the chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import SMALL

import neurocli


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an HDF5 folder of twelve made-up people."""
    folder = tmp_path_factory.mktemp("cohort")
    options = {"n_subjects": 12, "n_frames": 16}
    neurocli.preprocess("dummy", out=folder / "prepared", options=options)
    neurocli.convert_hdf5(folder / "prepared", out=folder / "h5")
    return folder / "h5"


@pytest.fixture(scope="session")
def split(cohort: Path) -> Path:
    """Return a split of the cohort."""
    path = cohort.parent / "split.json"
    neurocli.make_split(cohort, path, seed=3, train=0.6, val=0.2, stratify="sex")
    return path


@pytest.fixture(scope="session")
def pretrained(cohort: Path, split: Path) -> neurocli.RunResult:
    """Return a short pretraining run on it."""
    return neurocli.train(
        "fmamba",
        pretrain="ar",
        data=cohort,
        split=split,
        steps=6,
        lr=3e-3,
        set=SMALL,
        out=cohort.parent / "runs" / "pretrain",
    )
