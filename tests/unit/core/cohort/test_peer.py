"""The psmpy package as it is installed, and what is said where it is not or cannot."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from neurocli.core.cohort import peer
from neurocli.core.cohort.peer import psmpy_pairs
from neurocli.core.errors import ExitCode, MissingDependencyError, NeuroError

NAMES = ["a", "b"]


def cohort(n: int = 160, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    treated = rng.random(n) < share
    return rng.normal(treated[:, None] * 0.4, 1, (n, 2)), treated


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_pairs_come_back_as_treated_and_control(share: float) -> None:
    pytest.importorskip("psmpy")
    design, treated = cohort(share=share)
    one, other = psmpy_pairs(design, treated, names=NAMES)
    n_smaller = min(int(treated.sum()), int((~treated).sum()))
    assert len(one) == len(other) == n_smaller
    assert treated[one].all()
    assert not treated[other].any()
    assert len(set(one.tolist())) == len(set(other.tolist())) == n_smaller


def test_a_caliper_leaves_people_without() -> None:
    pytest.importorskip("psmpy")
    design, treated = cohort()
    one, _ = psmpy_pairs(design, treated, names=NAMES, caliper_logits=0.001)
    assert len(one) < treated.sum()


def test_a_small_class_does_not_end_in_a_traceback() -> None:
    pytest.importorskip("psmpy")
    design, treated = cohort(n=40, share=0.2)  # below 20 its chunks fail
    assert treated.sum() < 20
    one, _ = psmpy_pairs(design, treated, names=NAMES)
    assert len(one) == treated.sum()


def test_what_it_cannot_hold_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_MOST_CELLS", 10)
    with pytest.raises(NeuroError, match="distances at once") as caught:
        psmpy_pairs(*cohort(), names=NAMES)
    assert "--match nearest" in str(caught.value.hint)


def pretend(monkeypatch: pytest.MonkeyPatch, **methods: object) -> None:
    module = types.ModuleType("psmpy")

    class PsmPy:
        def __init__(self, *_: object, **__: object) -> None:
            for name, method in methods.items():
                setattr(self, name, method)

    module.PsmPy = PsmPy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "psmpy", module)


def test_a_version_without_a_matching_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(MissingDependencyError, match="neither kdtree_matched nor knn_matched"):
        psmpy_pairs(*cohort(), names=NAMES)


def test_its_own_failures_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ValueError("negative dimensions")

    pretend(monkeypatch, knn_matched=fail, logistic_ps=fail)
    with pytest.raises(NeuroError, match="psmpy failed: ValueError: negative dimensions"):
        psmpy_pairs(*cohort(), names=NAMES)


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psmpy", None)
    with pytest.raises(MissingDependencyError) as caught:
        psmpy_pairs(*cohort(), names=NAMES)
    assert caught.value.code == ExitCode.MISSING_DEPENDENCY
