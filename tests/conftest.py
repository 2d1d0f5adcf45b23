"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What takes longest, with its seconds of one core; tests of one line share what is long and stay
# together. Only the order of tests depends on this.
LONG_S = {
    "pipeline/test_examples.py::test_the_quickstart_ends_with_its_page": 75,
    "distributed/test_two_ranks.py": 45,
    "pipeline/test_readme.py::test_the_chained_block_and_python": 40,
    "pipeline/test_readme.py::test_the_block_of_experiments_processes_and_costs": 35,
    "pipeline/test_readme.py::test_the_fmri_blocks": 25,
    "pipeline/test_preprocess_kills.py": 20,
    "contracts/test_segmentation_learning.py": 15,
    "pipeline/test_examples.py::test_an_example_runs": 45,
    "distributed/test_launch.py": 14,
    "pipeline/test_readme.py::test_the_calcium_block": 13,
    "pipeline/test_slurm.py": 12,
    "distributed/test_sequence.py": 8,
}
# Several workers on two cores lose far more to thread switching than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each of several workers begin with its share of the longest tests.

    Otherwise one of them may be left with a long test when the others have nothing more to do.
    Workers get equal runs of the list and steal from the ends of each other's.
    """
    n_workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if n_workers == 1:
        return
    items[:] = dealt(items, n_workers)


def dealt(items: list[pytest.Item], n_workers: int) -> list[pytest.Item]:
    """Return the tests with long ones where the run of each worker begins."""
    groups: dict[str, list[pytest.Item]] = {name: [] for name in LONG_S}
    others = []
    for item in items:
        name = next((name for name in LONG_S if item.nodeid.startswith(f"tests/{name}")), None)
        (others if name is None else groups[name]).append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(n_workers)]
    seconds = [0.0] * n_workers
    for name in sorted(LONG_S, key=lambda name: (-LONG_S[name], name)):
        if groups[name]:
            least = seconds.index(min(seconds))
            shares[least] += groups[name]
            seconds[least] += LONG_S[name]
    order: list[pytest.Item] = []
    left, first = len(items), 0
    for number, share in enumerate(shares):
        n_others = max(0, left // (n_workers - number) - len(share))
        order += share + others[first : first + n_others]
        left -= len(share) + n_others
        first += n_others
    return order + others[first:]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of golden arrays and real data, or skip where it is missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the golden arrays and real data lie outside the repository")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Return the folder of golden arrays."""
    return shared / "golden"


@pytest.fixture(scope="session")
def real(shared: Path) -> Path:
    """Return the folder of real data."""
    return shared / "data"
