"""Synthetic BOLD with known truths: who the subjects are, and how a run is painted.

What is true, and nothing else:

* `sex`: the frontoparietal network oscillates slowly in M and fast in F (4 % amplitude). Nothing
  in a run's mean image, variance or other networks tells the sexes apart.
* `age`: the amplitude of the default-mode network grows with age (correlation about 0.7).
* `family`: twins share their anatomy, siblings half of its variance.
* `site`: each scanner has its own gain, offset and noise.
* `group`: older people are patients more often; brains do not differ beyond that.

Every subject is a pure function of (seed, index), so a larger cohort holds the smaller one.
Letters: X Y Z space, V in-mask voxels, T time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import UsageError
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.phantom import (
    AFFINE,
    N_ANATOMY,
    Anatomy,
    BrainKind,
    brain_kind,
    make_anatomy,
)

Floats = npt.NDArray[np.floating]
TR_S = 2.0


_DEFAULTS = PreprocessOptions()


@dataclass(frozen=True)
class CohortSpec:
    """Say which cohort: every subject follows from these values and an index.

    Args:
        seed: Any whole number.
        n_subjects: Subjects in the cohort.
        n_frames: Volumes per run, `TR_S` apart.
        brain: Template the runs are painted on; by default the best this installation offers.
    """

    seed: int = _DEFAULTS.seed
    n_subjects: int = _DEFAULTS.n_subjects
    n_frames: int = _DEFAULTS.n_frames
    brain: BrainKind = field(default_factory=brain_kind)


class SyntheticRun(NamedTuple):
    """Hold one made run; unpacks in this order."""

    bold_XYZT: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]
    tr_s: float
    phenotypes: dict[str, str]


class _Network(NamedTuple):
    centres_mm: tuple[tuple[float, float, float], ...]  # right side; the left one mirrors it
    width_mm: float
    share: float  # amplitude as a share of the mean
    hz: float


_CLASS_HZ = {"M": 0.045, "F": 0.11}
_CLASS_NETWORK = _Network(((42.0, -54.0, 44.0), (40.0, 30.0, 30.0)), 28.0, 0.04, math.nan)
_AGE_NETWORK = _Network(((8.0, 50.0, 8.0), (6.0, -52.0, 26.0)), 18.0, 0.03, 0.06)
_COMMON_NETWORKS = (
    _Network(((12.0, -86.0, 6.0),), 22.0, 0.02, 0.08),
    _Network(((46.0, -8.0, 40.0),), 22.0, 0.02, 0.07),
)
_HZ_SD = 0.05
_NOISE_SHARE = 0.008
_AGES = (20, 80)
_SITES = {"north": (1.0, 0.0, 1.0), "south": (1.2, 25.0, 1.2), "west": (0.85, -15.0, 0.9)}

# One block of twelve people: (sex, site, relation). Each site holds both sexes equally often, and
# the next block swaps the sexes. People with the same relation letter are one family.
_BLOCK = (
    ("M", "west", ""), ("F", "north", ""), ("M", "south", "sibling"), ("F", "south", "sibling"),
    ("M", "west", ""), ("F", "north", ""), ("M", "north", "twin"), ("M", "north", "twin"),
    ("F", "west", ""), ("F", "west", ""), ("M", "south", ""), ("F", "south", ""),
)  # fmt: skip
_SHARED = {"": 0.0, "sibling": 0.5, "twin": 1.0}
_SUBJECT, _FAMILY, _PHENOTYPE = range(3)


def _random(spec: CohortSpec, kind: int, *index: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((spec.seed, kind, *index)))


def subject_id(index: int) -> str:
    """Return the name of a subject.

    >>> subject_id(0)
    'sub-0001'
    """
    return f"sub-{index + 1:04d}"


def _relation(index: int) -> tuple[str, tuple[int, int]]:
    """Return how a subject is related and the key of the family."""
    block, slot = divmod(index, len(_BLOCK))
    relation = _BLOCK[slot][2]
    first = next(i for i, row in enumerate(_BLOCK) if row[2] == relation) if relation else slot
    return relation, (block, first)


def phenotypes(index: int, spec: CohortSpec) -> dict[str, str]:
    """Return what is written about a subject.

    Args:
        index: From 0.
        spec: The cohort; only its seed matters.

    Returns:
        `sex`, `age` (years), `site`, `family`, `relation` and `group`, all text.
    """
    block, slot = divmod(index, len(_BLOCK))
    sex, site, relation = _BLOCK[slot]
    if block % 2:
        sex = {"M": "F", "F": "M"}[sex]
    _, family = _relation(index)
    own = _random(spec, _PHENOTYPE, index)
    age = int(_random(spec, _FAMILY, *family).integers(*_AGES, endpoint=True))
    if relation == "sibling":
        age = min(_AGES[1], max(_AGES[0], age + int(own.integers(-4, 4, endpoint=True))))
    is_patient = own.random() < 0.15 + 0.4 * _age_share(age)
    return {
        "sex": sex,
        "age": str(age),
        "site": site,
        "family": f"fam-{family[0] * len(_BLOCK) + family[1] + 1:04d}",
        "relation": relation or "single",
        "group": "patient" if is_patient else "control",
    }


def _age_share(age: int) -> float:
    return (age - _AGES[0]) / (_AGES[1] - _AGES[0])


def cohort_table(spec: CohortSpec) -> dict[str, dict[str, str]]:
    """Return the phenotypes of all subjects by id."""
    return {subject_id(index): phenotypes(index, spec) for index in range(spec.n_subjects)}


def make_subject(index: int, spec: CohortSpec) -> SyntheticRun:
    """Paint one run.

    `y = gain * mean_v * (1 + sum_k a_k w_vk osc_k(t) + global(t) + drift_v(t) + noise_v(t)) +
    offset`, with Gaussian networks `w` and noise that is autoregressive of order one.

    Args:
        index: Subject, from 0; may lie beyond `spec.n_subjects`.
        spec: The cohort.

    Returns:
        The run: `(24, 24, 24, n_frames)` float32 of 8 mm voxels, 0 outside the mask.

    Raises:
        UsageError: A negative index.
    """
    if index < 0:
        raise UsageError(f"subject index {index} is negative", hint="count from 0")
    traits = phenotypes(index, spec)
    anatomy = make_anatomy(_anatomy_normals(index, spec), spec.brain)
    random = _random(spec, _SUBJECT, index, 1)
    gain, offset, noise = _SITES[traits["site"]]
    change_TV = _networks(anatomy, traits, spec, random) + _nuisance(
        anatomy, spec.n_frames, noise, random
    )
    level_V = anatomy.mean_XYZ[anatomy.mask_XYZ]
    values_TV = gain * level_V * (1 + change_TV) + offset
    bold = np.zeros((*anatomy.mask_XYZ.shape, spec.n_frames), dtype=np.float32)
    bold[anatomy.mask_XYZ] = values_TV.T
    return SyntheticRun(bold, anatomy.mask_XYZ, AFFINE.copy(), TR_S, traits)


def _anatomy_normals(index: int, spec: CohortSpec) -> Floats:
    relation, family = _relation(index)
    shared = _SHARED[relation]
    own = _random(spec, _SUBJECT, index, 0).standard_normal(N_ANATOMY)
    theirs = _random(spec, _FAMILY, *family, 1).standard_normal(N_ANATOMY)
    return np.asarray(np.sqrt(shared) * theirs + np.sqrt(1 - shared) * own)


def _networks(
    anatomy: Anatomy, traits: Mapping[str, str], spec: CohortSpec, random: np.random.Generator
) -> Floats:
    """Return the networks' part of the relative change `(T, V)`."""
    position = anatomy.position_V3[anatomy.mask_XYZ.ravel()]
    age_share = _AGE_NETWORK.share * (
        0.3 + 1.5 * _age_share(int(traits["age"])) + 0.35 * float(random.standard_normal())
    )
    plan = [
        _CLASS_NETWORK._replace(hz=_CLASS_HZ[traits["sex"]]),
        _AGE_NETWORK._replace(share=max(0.002, age_share)),
        *_COMMON_NETWORKS,
    ]
    change = np.zeros((spec.n_frames, len(position)))
    for network in plan:
        hz = network.hz * float(np.exp(_HZ_SD * random.standard_normal()))
        course = network.share * _oscillation(hz, spec.n_frames, random)
        change += course[:, None] * _blobs(position, network)
    return change


def _blobs(position_V3: Floats, network: _Network) -> Floats:
    """Return the weight of a network in every voxel: 1 at its centres, Gaussian around them."""
    sides = np.abs(position_V3 * [1.0, 0.0, 0.0]) + position_V3 * [0.0, 1.0, 1.0]
    centres = np.array(network.centres_mm)
    squares = ((sides[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
    return np.asarray(np.exp(-squares / (2 * network.width_mm**2)))


def _oscillation(hz: float, n_frames: int, random: np.random.Generator) -> Floats:
    """Return a sine of random phase whose phase and strength wander slowly."""
    phase = 2 * np.pi * (hz * TR_S * np.arange(n_frames) + random.random())
    phase = phase + np.cumsum(0.08 * random.standard_normal(n_frames))
    strength = 1 + 0.15 * np.sin(2 * np.pi * (np.arange(n_frames) / 25 + random.random()))
    return np.asarray(strength * np.sin(phase))


def _nuisance(anatomy: Anatomy, n_frames: int, noise: float, random: np.random.Generator) -> Floats:
    """Return global signal, drift and noise as relative change `(T, V)`."""
    from scipy.signal import lfilter

    n_voxels = int(anatomy.mask_XYZ.sum())
    common = 0.006 * lfilter([1.0], [1.0, -0.7], random.standard_normal(n_frames))
    time = np.linspace(-1, 1, n_frames)
    slope = 0.01 * random.standard_normal(3) @ (anatomy.position_V3.T / 80)
    drift = time[:, None] * slope[anatomy.mask_XYZ.ravel()] + (
        0.01 * random.standard_normal() * (time**2)[:, None]
    )
    white = random.standard_normal((n_frames, n_voxels))
    return np.asarray(
        common[:, None]
        + drift
        + _NOISE_SHARE * noise * lfilter([0.9165], [1.0, -0.4], white, axis=0)
    )
