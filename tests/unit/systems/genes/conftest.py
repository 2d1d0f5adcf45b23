"""A small cohort of known truth, opened once, and files of the shapes that studies have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.systems.genes import built_in
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.known_truth import Cohort, CohortSpec
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.raw_files import write_raw_files

SMALL = CohortSpec(
    seed=3,
    sizes=(240, 60, 60),
    latent_shape=(2, 6, 8),
    n_inner=24,
    n_genes=6,
    tiers=((0.8, 1), (0.6, 1)),
    gene_dim=12,
    n_gene_inner=6,
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep packs and cohorts of the tests apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def spec() -> CohortSpec:
    """Return the small cohort's specification."""
    return SMALL


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """Return the small cohort."""
    return Cohort(SMALL)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small cohort as packed blocks, with its truth."""
    folder = tmp_path_factory.mktemp("pack")
    built_in.write_cohort(folder, SMALL)
    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> Path:
    """Return the small cohort as raw files: one .npz a person, one CSV a gene."""
    folder = tmp_path_factory.mktemp("raw")
    write_raw_files(folder, cohort)
    return folder


Configure = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def configure(pack: Path) -> Configure:
    """Return a function that makes a configuration on the small pack."""

    def make(*settings: str, model: str = "gene_sequence", path: Path | None = pack) -> RunConfig:
        base = ["task.permutations=20", *([f"data.path={path}"] if path else [])]
        return load_config("genes/tiny", set=[*base, *settings], model=model)

    return make


@pytest.fixture(scope="session")
def opened(configure: Configure) -> RunData:
    """Return all genes of the small pack, opened."""
    return open_data(configure())


@pytest.fixture(scope="session")
def train_part(opened: RunData) -> PairSet:
    """Return the training part of all genes."""
    return cast(PairSet, opened.parts["train"])


@pytest.fixture(scope="session")
def test_part(opened: RunData) -> PairSet:
    """Return the test part of all genes."""
    return cast(PairSet, opened.parts["test"])


@pytest.fixture(scope="session")
def form(train_part: PairSet, configure: Configure) -> ClosedForm:
    """Return the closed form of all genes."""
    return ClosedForm(train_part, cast(Any, configure().task))


@pytest.fixture
def options() -> Callable[..., LatentsOptions]:
    """Return a function that makes options of reading."""
    return LatentsOptions


@pytest.fixture
def latents_folder(tmp_path: Path) -> Path:
    """Return a folder of five latents of shape (2, 3)."""
    folder = tmp_path / "latents"
    folder.mkdir()
    for i in range(5):
        array = np.arange(6, dtype=np.float32).reshape(2, 3) + i
        np.savez(folder / f"{100 + i}_latent.npz", latent=array)
    return folder
