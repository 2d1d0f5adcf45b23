"""Small made-up sessions, stored once, a run over them, and whole-session files to change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import pytest

from neurocli import train
from neurocli.core.engine.outcome import RunResult
from neurocli.systems.calcium.dummy import opened
from neurocli.systems.calcium.store import write_stored
from neurocli.systems.calcium.synthetic import CohortSpec, Simulated, simulate
from neurocli.systems.calcium.write_layouts import write_domains, write_masks

sys.path.insert(0, str(Path(__file__).parent))
if TYPE_CHECKING:
    from layout_changes import Change, Make

SPEC = CohortSpec(n_neurons=(80, 70, 75), n_frames=240, n_repeats=10, n_trials=0)
SETTINGS = ("model.hidden_dim=16", "model.output_dim=8", "data.epoch_steps=30", "train.lr=3e-3",
            "data.batch_size=128", "run.threads=1", "train.epochs=4",
            "data.highpass_hz=0.02", "model.neuron_dropout=0.4")  # fmt: skip


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two stored sessions."""
    folder = tmp_path_factory.mktemp("sessions")
    for index in range(2):
        (folder / f"s{index}").mkdir()
        write_stored(opened(simulate(SPEC, index)), folder / f"s{index}")
    return folder


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a third session that saw the same movie."""
    folder = tmp_path_factory.mktemp("unseen")
    (folder / "s2").mkdir()
    write_stored(opened(simulate(SPEC, 2)), folder / "s2")
    return folder


@pytest.fixture(scope="session")
def run(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a short multi-session run."""
    return train("cebra", data=stored, out=tmp_path_factory.mktemp("run"), set=SETTINGS)


@pytest.fixture(scope="session")
def made() -> Simulated:
    """Return a small session to be written in either layout."""
    from layout_changes import SPEC as SMALL_SPEC

    return simulate(SMALL_SPEC, 0)


@pytest.fixture
def changed(made: Simulated, tmp_path: Path) -> Make:
    """Return a function that writes a file of either layout and changes it."""

    def make(layout: str, change: Change) -> Path:
        path = tmp_path / f"{layout}.h5"
        {"masks": write_masks, "domains": write_domains}[layout](made, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make
