"""Every documented metric is known with unit and direction; unknown ones claim nothing."""

from __future__ import annotations

import pytest

from neurocli.core.metrics.measures import baseline_texts, measure

# The metric names that scripts rely on, as the command line documents them, and the good direction.
DOCUMENTED = {
    "accuracy balanced_accuracy auroc": "higher",
    "mse mae": "lower",
    "r2 pearson": "higher",
    "loss": "lower",
    "skill_vs_persistence": "higher",
    "dice_wt dice_tc dice_et dice_mean": "higher",
    "hd95_wt hd95_tc hd95_et": "lower",
    "precision recall": "higher",
    "infonce": "lower",
    "goodness_of_fit decode_r2 decode_accuracy consistency": "higher",
    "r_at_1 r_at_5 r_at_10": "higher",
    "median_rank": "lower",
    "mrr percentile": "higher",
}


@pytest.mark.parametrize(("names", "better"), DOCUMENTED.items())
def test_documented_metrics_have_a_direction_and_a_unit(names: str, better: str) -> None:
    for name in names.split():
        about = measure(name)
        assert about.better == better
        assert about.unit != "unit not recorded"
        assert about.axis == about.two_lines.replace("\n", " ")


def test_unknown_metrics_keep_their_name() -> None:
    about = measure("of_a_later_version")
    assert (about.label, about.better, about.reference) == ("of_a_later_version", None, None)


def test_skill_has_its_level_of_doing_nothing() -> None:
    assert measure("skill_vs_persistence").reference == (0.0, "persistence")


def test_known_baselines_are_explained() -> None:
    texts = baseline_texts(["persistence", "of_tomorrow", "zero"])
    assert [text.partition(":")[0] for text in texts] == ["persistence", "zero"]
