"""What is known of each measure: its axis label, its unit, its good direction, and what it proves.

An unknown measure is still shown, under its own name; nothing is claimed about it. A result is
called better than another only where their 95 % intervals part, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "not distinguishable", "no claim"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """Describe one measure.

    Args:
        label: Name in words.
        unit: Unit, or what a share is a share of.
        better: Good direction; None where no direction is good in itself.
        reference: Value of doing nothing, drawn as a line; and what it is called.
    """

    label: str
    unit: str
    better: Direction | None
    reference: tuple[float, str] | None = None

    @property
    def axis(self) -> str:
        """Return label and unit as an axis or a row is named."""
        return f"{self.label} [{self.unit}]"

    @property
    def two_lines(self) -> str:
        """Return label and unit on two lines, for an upright axis."""
        return f"{self.label}\n[{self.unit}]"


_DICE = ("dice_wt", "dice_tc", "dice_et", "dice_mean")
_HAUSDORFF = ("hd95_wt", "hd95_tc", "hd95_et", "hd95_mean")
_BY_CLASS = tuple(
    f"{kind}{name}" for kind in ("precision", "recall") for name in ("", "_ncr", "_ed", "_et")
)
_HIGHER: Direction = "higher"
_LOWER: Direction = "lower"
_RECALL = ("r_at_1", "r_at_5", "r_at_10")

_MEASURES: dict[str, Measure] = {
    "loss": Measure("loss", "no unit", "lower"),
    "loss_same_place": Measure("loss at the same place", "no unit", "lower"),
    "skill_vs_persistence": Measure(
        "skill over persistence", "share of its error", "higher", (0.0, "persistence")
    ),
    "mse_masked": Measure("error of hidden patches", "squared signal units", "lower"),
    "skill_vs_mean": Measure(
        "skill over the temporal mean", "share of its error", "higher", (0.0, "temporal mean")
    ),
    "retrieval_top1": Measure("retrieval of the same person", "share of people", "higher"),
    "accuracy": Measure("accuracy", "share", "higher"),
    "balanced_accuracy": Measure("balanced accuracy", "share", "higher"),
    "log_loss": Measure("log loss", "nats", "lower"),
    "auroc": Measure("AUROC", "share of pairs", "higher"),
    "mse": Measure("mean squared error", "squared target units", "lower"),
    "mae": Measure("mean absolute error", "target units", "lower"),
    "r2": Measure("R²", "share of variance", "higher"),
    "pearson": Measure("Pearson correlation", "no unit", "higher"),
    **{name: Measure(name.replace("_", " "), "share", "higher") for name in _DICE},
    **{name: Measure(name.replace("_", " "), "mm", "lower") for name in _HAUSDORFF},
    **{name: Measure(name.replace("_", " "), "share", "higher") for name in _BY_CLASS},
    **{
        f"lesion_{name}": Measure(f"{name.replace('_', ' ')} by lesion", unit, better)
        for names, unit, better in ((_DICE, "share", _HIGHER), (_HAUSDORFF, "mm", _LOWER))
        for name in names
    },
    "infonce": Measure("InfoNCE", "nats", "lower"),
    "goodness_of_fit": Measure("goodness of fit", "bits", "higher"),
    "decode_r2": Measure("decoding R²", "share of variance", "higher"),
    "decode_accuracy": Measure("decoding accuracy", "share", "higher"),
    "consistency": Measure("consistency", "share of variance", "higher"),
    **{name: Measure(name.replace("r_at_", "recall at "), "share", "higher") for name in _RECALL},
    "median_rank": Measure("median rank", "rank", "lower"),
    "mean_rank": Measure("mean rank", "rank", "lower"),
    "chance_r_at_1": Measure("recall at 1 by chance", "share", None),
    "ceiling_r_at_1": Measure("best possible recall at 1", "share", None),
    "p_value": Measure("p value", "no unit", None),
    "p_permutation": Measure("p value by permutation", "no unit", None),
    "z": Measure("z score against chance", "standard deviations", None),
    "mrr": Measure("mean reciprocal rank", "no unit", "higher"),
    "percentile": Measure("percentile", "share", "higher"),
}


def measure(name: str) -> Measure:
    """Return what is known of a measure; its bare name when nothing is.

    >>> measure("mae").axis, measure("new_one").better
    ('mean absolute error [target units]', None)
    """
    return _MEASURES.get(name) or Measure(name, "unit not recorded", None)


def compare(name: str, interval: Interval | None, other: Interval | float | None) -> Verdict:
    """Say whether a result differs from another on the same people.

    Args:
        name: The measure.
        interval: 95 % interval of the result; None when there is none.
        other: Interval of the other result, or its value where it has none; None when undefined.

    Returns:
        "better" or "worse" where the intervals share no point, else "not distinguishable"; "no
        claim" without an interval, without the other, or without a good direction.

    >>> compare("accuracy", (0.8, 0.9), (0.4, 0.7)), compare("mae", (2.0, 3.0), 2.5)
    ('better', 'not distinguishable')
    """
    better = measure(name).better
    if interval is None or other is None or better is None:
        return "no claim"
    low, high = other if isinstance(other, tuple) else (other, other)
    # Intervals that touch in one point share it.
    if interval[0] <= high and low <= interval[1]:
        return "not distinguishable"
    return "better" if (interval[0] > high) == (better == "higher") else "worse"


_BASELINES = {
    "majority": "always the commonest class of the training part",
    "fc": "correlations of region time courses into a penalised linear model",
    "fc_partial": "partial correlations of region time courses into a penalised linear model",
    "fc_tangent": "tangent-space connectivity of regions into a penalised linear model",
    "roi": "mean and SD of region time courses into a penalised linear model",
    "train_mean": "always the mean of the training part",
    "persistence": "every patch stays as it was at the time before",
    "temporal_mean": "each voxel's mean over the frames of the clip that are not hidden, else 0",
    "threshold": "bright FLAIR is tumour, bright T1ce enhances, dark T1ce is necrotic",
    "chance": "a person drawn at random",
    "zero": "0 everywhere, which is the temporal mean of scaled voxels",
}


def baseline_texts(names: Iterable[str]) -> list[str]:
    """Return what each known baseline does, one clause each.

    >>> baseline_texts(["majority", "unknown"])
    ['majority: always the commonest class of the training part']
    """
    return [f"{name}: {_BASELINES[name]}" for name in names if name in _BASELINES]
