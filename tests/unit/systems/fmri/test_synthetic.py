"""The built-in cohort holds the truths it promises, and nothing else tells the classes apart."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurocli.core.errors import UsageError
from neurocli.systems.fmri.synthetic import (
    CohortSpec,
    SyntheticRun,
    cohort_table,
    make_subject,
    phenotypes,
    subject_id,
)

SPEC = CohortSpec(n_subjects=48)


@pytest.fixture(scope="module")
def runs() -> list[SyntheticRun]:
    return [make_subject(index, SPEC) for index in range(SPEC.n_subjects)]


@pytest.fixture(scope="module")
def common(runs: list[SyntheticRun]) -> np.ndarray:
    """Return the voxels (S, V, T) that are brain in everyone."""
    mask = np.all([run.mask for run in runs], axis=0)
    return np.stack([run.bold_XYZT[mask] for run in runs])


def families(runs: list[SyntheticRun]) -> list[str]:
    return [run.phenotypes["family"] for run in runs]


def test_a_run_is_what_it_says(runs: list[SyntheticRun]) -> None:
    bold, mask, affine, tr_s, traits = runs[0]
    assert bold.shape == (24, 24, 24, 40)
    assert bold.dtype == np.float32
    assert tr_s == 2.0
    assert np.isfinite(bold).all()
    assert (bold[~mask] == 0).all()
    assert bold[mask].min() > 100
    assert affine.shape == (4, 4)
    assert set(traits) == {"sex", "age", "site", "family", "relation", "group"}


def test_subjects_depend_on_seed_and_index_only() -> None:
    small = CohortSpec(seed=5, n_subjects=6)
    large = CohortSpec(seed=5, n_subjects=30)
    np.testing.assert_array_equal(
        make_subject(4, small).bold_XYZT, make_subject(4, large).bold_XYZT
    )
    assert cohort_table(small).items() <= cohort_table(large).items()
    other = make_subject(4, CohortSpec(seed=6))
    assert not np.array_equal(make_subject(4, small).bold_XYZT, other.bold_XYZT)
    with pytest.raises(UsageError, match="negative"):
        make_subject(-1, small)


@pytest.mark.parametrize("n", [4, 8, 12, 24, 48, 100])
def test_sexes_are_balanced(n: int) -> None:
    table = cohort_table(CohortSpec(n_subjects=n))
    counts = Counter(row["sex"] for row in table.values())
    assert abs(counts["M"] - counts["F"]) <= (0 if n % 12 == 0 else 2)
    assert next(iter(table)) == subject_id(0) == "sub-0001"


def test_sites_hold_both_sexes_equally() -> None:
    table = cohort_table(CohortSpec(n_subjects=48))
    counts = Counter((row["site"], row["sex"]) for row in table.values())
    assert set(counts.values()) == {8}


def test_families_hold_twins_and_siblings(runs: list[SyntheticRun]) -> None:
    groups = defaultdict(list)
    for index, run in enumerate(runs):
        groups[run.phenotypes["family"]].append(index)
    sizes = Counter(len(members) for members in groups.values())
    assert sizes == {1: 32, 2: 8}
    for members in groups.values():
        relations = {runs[index].phenotypes["relation"] for index in members}
        assert relations == {"single"} if len(members) == 1 else relations <= {"twin", "sibling"}
        if relations == {"twin"}:
            assert len({runs[index].phenotypes["age"] for index in members}) == 1


def test_twins_share_their_anatomy(runs: list[SyntheticRun], common: np.ndarray) -> None:
    level = common.mean(axis=2)

    def alike(a: int, b: int) -> float:
        return float(np.corrcoef(level[a], level[b])[0, 1])

    assert runs[6].phenotypes["relation"] == runs[7].phenotypes["relation"] == "twin"
    np.testing.assert_array_equal(runs[6].mask, runs[7].mask)
    assert alike(6, 7) > 0.99
    assert runs[18].phenotypes["relation"] == "twin"
    assert alike(6, 18) < 0.95
    strangers = [alike(a, b) for a in (0, 1, 4, 5) for b in (8, 9, 10, 11)]
    assert max(strangers) < 0.95


def accuracy(features: np.ndarray, runs: list[SyntheticRun]) -> float:
    """Return the accuracy of a linear classifier on people it has not seen, by family."""
    labels = np.array([run.phenotypes["sex"] == "M" for run in runs])
    model = make_pipeline(
        PCA(10, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)
    )
    guess = cross_val_predict(model, features, labels, groups=families(runs), cv=GroupKFold(6))
    return float((guess == labels).mean())


def test_spectra_tell_the_sexes_and_intensities_do_not(
    runs: list[SyntheticRun], common: np.ndarray
) -> None:
    mean = common.mean(axis=2)
    z = (common - mean[..., None]) / common.std(axis=2, keepdims=True)
    power = np.abs(np.fft.rfft(z, axis=2)) ** 2
    by_power = accuracy(power.reshape(len(runs), -1), runs)
    by_mean = accuracy(mean, runs)
    by_spread = accuracy(common.std(axis=2) / mean, runs)
    print(f"power spectra {by_power:.3f}, mean {by_mean:.3f}, spread {by_spread:.3f}")
    assert by_power >= 0.95
    assert by_mean <= 0.7  # 48 people: chance has a spread of 0.07
    assert by_spread <= 0.7


def test_another_seed_is_as_clear() -> None:
    spec = CohortSpec(seed=11, n_subjects=48)
    people = [make_subject(index, spec) for index in range(48)]
    mask = np.all([run.mask for run in people], axis=0)
    values = np.stack([run.bold_XYZT[mask] for run in people])
    z = (values - values.mean(2, keepdims=True)) / values.std(2, keepdims=True)
    power = np.abs(np.fft.rfft(z, axis=2)) ** 2
    assert accuracy(power.reshape(48, -1), people) >= 0.95


def test_age_shows_in_the_amplitude(runs: list[SyntheticRun], common: np.ndarray) -> None:
    spread = common.std(axis=2) / common.mean(axis=2)
    ages = np.array([int(run.phenotypes["age"]) for run in runs], dtype=float)
    assert ages.min() >= 20
    assert ages.max() <= 80
    guess = cross_val_predict(
        Ridge(1e-3), 100 * spread, ages, groups=families(runs), cv=GroupKFold(6)
    )
    assert np.corrcoef(guess, ages)[0, 1] > 0.35
    sex = np.array([run.phenotypes["sex"] == "M" for run in runs])
    assert abs(np.corrcoef(ages, sex)[0, 1]) < 0.3


def test_patients_are_older() -> None:
    rows = [phenotypes(index, SPEC) for index in range(600)]
    ages = {
        group: np.mean([int(row["age"]) for row in rows if row["group"] == group])
        for group in ("patient", "control")
    }
    assert ages["patient"] > ages["control"] + 4
    share = np.mean([row["group"] == "patient" for row in rows])
    assert 0.25 < share < 0.45


def test_sites_differ_in_gain(runs: list[SyntheticRun], common: np.ndarray) -> None:
    level = defaultdict(list)
    for run, values in zip(runs, common, strict=True):
        level[run.phenotypes["site"]].append(float(values.mean()))
    assert np.mean(level["south"]) > 1.15 * np.mean(level["north"])
    assert np.mean(level["west"]) < 0.95 * np.mean(level["north"])


def test_the_analytic_head_carries_the_same_truths() -> None:
    spec = CohortSpec(n_subjects=48, brain="head")
    people = [make_subject(index, spec) for index in range(48)]
    mask = np.all([run.mask for run in people], axis=0)
    values = np.stack([run.bold_XYZT[mask] for run in people])
    z = (values - values.mean(2, keepdims=True)) / values.std(2, keepdims=True)
    power = np.abs(np.fft.rfft(z, axis=2)) ** 2
    assert accuracy(power.reshape(48, -1), people) >= 0.95
    assert accuracy(values.mean(axis=2), people) <= 0.7
