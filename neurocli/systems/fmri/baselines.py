"""What a plain method reaches on the same people: a linear model on connectivity or on regions.

No model of the brain is worth its cost if the correlations between regions, or their mean and SD,
say as much. Features are made from the same frames with the same scaling as the model sees; the
linear model and its penalty are chosen on the training part alone, by inner cross-validation that
keeps a participant's units together. Its predictions are judged by the same code as the model's.

Letters: U units (participants, or labelled windows), F features, K classes, R regions, T frames.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.regions import Regions, atlas_regions, block_regions, region_series

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV

Matrix = npt.NDArray[np.float64]

# nilearn's name of each kind of connectivity.
_KINDS = {"fc": "correlation", "fc_partial": "partial correlation", "fc_tangent": "tangent"}
_PENALTIES = tuple(10.0**k for k in range(-2, 5))  # alpha of ridge, 1/C of logistic regression
_FOLDS = 5
_SEED = 0
_MAX_Z = 0.999999  # a correlation of 1 has no finite Fisher z


@dataclass(frozen=True)
class Units:
    """Hold what is judged: names, owners and targets (U,), and each unit's runs as (T, R)."""

    names: list[str]
    owners: list[str]
    targets: Matrix
    series: list[list[Matrix]]


@dataclass(frozen=True)
class Fitted:
    """Hold the predictions of every baseline on what is judged.

    Args:
        units: What is judged.
        predictions: Baseline -> (U, K) probabilities, or (U,) numbers.
        notes: How they were made, and why one is missing.
    """

    units: Units
    predictions: Mapping[str, Matrix]
    notes: list[str]


def fit_baselines(
    task: FmriTaskBlock,
    train: ClipSet,
    judged: Sequence[ClipSet],
    n_classes: int,
    listener: Listener,
) -> Fitted:
    """Fit each baseline on the training part and apply it to what is judged.

    Args:
        task: Names the baselines and the atlas.
        train: The training part.
        judged: The parts that are judged; their clips are of the same reader.
        n_classes: K; 0 for a number.
        listener: Hears about the reading.

    Returns:
        Predictions; a baseline that cannot be fitted is left out with a note.

    Raises:
        InputError: The atlas does not fit, or a run is damaged.
    """
    reader = train.reader
    runs = sorted({run for run, _ in train.clips})
    regions = atlas_regions(Path(task.atlas), reader) if task.atlas else block_regions(reader, runs)
    listener(WorkStarted("baselines", len(train) + sum(map(len, judged)), "clips"))
    known = _units([train], regions, listener)
    asked = _units(judged, regions, listener)
    listener(WorkFinished("baselines"))
    predictions: dict[str, Matrix] = {}
    notes = [
        f"baselines {', '.join(task.baselines)}: {regions.source}, scaled as the model's input; "
        f"fitted on {len(known.names)} units of the training part"
    ]
    for name in task.baselines:
        try:
            predictions[name] = _predict(name, known, asked, n_classes)
        except (NeuroError, ValueError) as error:
            notes.append(f"baseline {name} could not be fitted: {error}")
    return Fitted(asked, predictions, notes)


def _units(parts: Sequence[ClipSet], regions: Regions, listener: Listener) -> Units:
    frames: dict[str, dict[int, list[int]]] = {}
    owners: dict[str, str] = {}
    targets: dict[str, float] = {}
    for samples in parts:
        assert samples.targets is not None
        for index, (run, start) in enumerate(samples.clips):
            name = samples.unit(index)
            frames.setdefault(name, {}).setdefault(run, []).append(start)
            owners[name] = samples.reader.runs[run].participant
            targets[name] = samples.targets[name]
    reader = parts[0].reader
    span = reader.plan.length * reader.plan.stride_within
    series = []
    for name, starts_of in frames.items():
        mine = []
        for run, starts in starts_of.items():
            first, last = min(starts), max(starts) + span
            whole_TR = region_series(reader, run, regions, slice(first, last))
            # Only the frames that the model sees: windows need not touch each other.
            seen = np.zeros(last - first, dtype=bool)
            for start in starts:
                seen[start - first : start - first + span : reader.plan.stride_within] = True
                listener(ItemDone(f"{name}@{start}", "done"))
            mine.append(whole_TR[seen])
        series.append(mine)
    names = list(frames)
    return Units(names, [owners[n] for n in names], np.array([targets[n] for n in names]), series)


def _predict(name: str, known: Units, asked: Units, n_classes: int) -> Matrix:
    with warnings.catch_warnings():
        # A penalty of the search may not converge; the one that is chosen is the one that scores.
        warnings.simplefilter("ignore")
        fitted_UF, asked_UF = _features(name, known.series, asked.series)
        search = _search(known, n_classes)
        search.fit(fitted_UF, known.targets, groups=known.owners)
        if not n_classes:
            return np.asarray(search.predict(asked_UF), dtype=np.float64)
        found = search.predict_proba(asked_UF)
    probability_UK = np.zeros((len(asked.names), n_classes))
    probability_UK[:, search.classes_.astype(int)] = found
    return probability_UK


def _features(
    name: str, known: Sequence[Sequence[Matrix]], asked: Sequence[Sequence[Matrix]]
) -> tuple[Matrix, Matrix]:
    if name == "roi":
        return _mean_and_sd(known), _mean_and_sd(asked)
    from nilearn.connectome import ConnectivityMeasure

    shortest = min(len(each) for unit in (*known, *asked) for each in unit)
    if shortest < 3:
        raise NeuroError(f"a correlation needs at least 3 frames, a unit has {shortest}")
    measure = ConnectivityMeasure(
        kind=_KINDS[name], vectorize=True, discard_diagonal=name != "fc_tangent"
    )
    measure.fit([each for unit in known for each in unit])
    return _connectivity(measure, name, known), _connectivity(measure, name, asked)


def _connectivity(measure: Any, name: str, units: Sequence[Sequence[Matrix]]) -> Matrix:
    flat = measure.transform([each for unit in units for each in unit])
    if name != "fc_tangent":
        flat = np.arctanh(np.clip(flat, -_MAX_Z, _MAX_Z))  # Fisher z: runs may then be averaged
    ends = np.cumsum([len(unit) for unit in units])[:-1]
    return np.array([rows.mean(0) for rows in np.split(flat, ends)])


def _mean_and_sd(units: Sequence[Sequence[Matrix]]) -> Matrix:
    return np.array(
        [np.mean([np.r_[each.mean(0), each.std(0)] for each in unit], axis=0) for unit in units]
    )


def _search(known: Units, n_classes: int) -> GridSearchCV:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(_FOLDS, len(set(known.owners)))
    if n_classes:
        folds = min(folds, *_people_per_class(known))
        estimator, key = LogisticRegression(max_iter=500), "logisticregression__C"
        grid, scoring = [1 / alpha for alpha in _PENALTIES], "neg_log_loss"
        splitter = StratifiedGroupKFold(max(folds, 2), shuffle=True, random_state=_SEED)
    else:
        estimator, key = Ridge(), "ridge__alpha"
        grid, scoring = list(_PENALTIES), "neg_mean_squared_error"
        splitter = GroupKFold(max(folds, 2))
    if folds < 2:
        raise NeuroError("its penalty needs two training participants (of each class)")
    pipeline = make_pipeline(StandardScaler(), estimator)
    return GridSearchCV(pipeline, {key: grid}, scoring=scoring, cv=splitter, error_score="raise")


def _people_per_class(known: Units) -> list[int]:
    labels = known.targets.astype(int)
    pairs = set(zip(known.owners, labels.tolist(), strict=True))
    return list(Counter(label for _, label in pairs).values())
