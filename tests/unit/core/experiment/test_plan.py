"""Which runs there are, and who is in which fold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neurocli.core.catalog import find_model
from neurocli.core.cohort.files import Split, read_split, write_split
from neurocli.core.config.load import resolve_config
from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.core.experiment.plan import (
    check_folds,
    chosen_models,
    divisions,
    is_experiment,
    planned_runs,
)

PEOPLE = [f"p{i:02}" for i in range(20)]


def config(*settings: str, model: str = "unet3d_xs") -> RunConfig:
    return resolve_config(model=model, settings=settings).config


def test_names_and_patterns_mean_models_of_one_room() -> None:
    room, names = chosen_models(["unet3d_xs", "unet3d_*xs", "dualbranch_01_unet_?"])
    assert room.name == "brats"
    assert names[:2] == ["unet3d_xs", "unet3d_stride_xs"]
    assert names[2:] == [f"dualbranch_01_unet_{size}" for size in "sml"]
    for words, message in (
        (["unet3d_xz"], "did you mean unet3d_xs"),
        (["nothing*"], "no model fits"),
        (["fmamba", "unet3d_xs"], "several rooms"),
        ([], "no MODEL"),
    ):
        with pytest.raises(UsageError, match=message):
            chosen_models(words)


def test_every_model_is_trained_before_the_next_fold() -> None:
    runs = planned_runs(["a", "b"], [24, 42], 2)
    assert [run.name for run in runs][:3] == [
        "a_seed_24_fold_0",
        "b_seed_24_fold_0",
        "a_seed_24_fold_1",
    ]
    assert len({run.name for run in runs}) == 8
    assert {run.division for run in runs} == {"fold_0.json", "fold_1.json"}


def test_what_makes_an_experiment(tmp_path: Path) -> None:
    assert not is_experiment(["a"], None, None)
    assert is_experiment(["a", "b"], None, None)
    assert is_experiment(["a*"], None, None)
    assert is_experiment(["a"], [1], None)
    assert is_experiment(["a"], None, 5)
    assert not is_experiment([], None, None, tmp_path)
    (tmp_path / "experiment.json").write_text("{}")
    assert is_experiment([], None, None, tmp_path)


def test_folds_of_a_table_are_balanced_by_the_room_and_keep_families(tmp_path: Path) -> None:
    lines = ["participant_id\tgrade\tfamily"]
    for i, name in enumerate(PEOPLE):
        lines.append(f"{name}\t{'LGG' if i % 4 == 0 else 'HGG'}\t{'n/a' if i > 1 else 'one'}")
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    chosen = config(f"data.path={tmp_path}")
    room, _ = find_model("unet3d_xs")
    folds, notes = divisions(None, PEOPLE, {}, chosen, room=room, n_folds=5)
    assert "balanced by grade" in notes[0]
    low = {name for i, name in enumerate(PEOPLE) if i % 4 == 0}
    tested = Counter(name for fold in folds for name in fold["test"])
    assert tested == Counter(PEOPLE)  # everybody once
    for number, fold in enumerate(folds):
        assert len(low & set(fold["test"])) == 1  # 5 of low grade in 5 folds
        assert set(fold["val"]) == set(folds[(number + 1) % 5]["test"])
        assert len(fold["train"]) == 12  # 60/20/20
        together = [part for part in fold if set(fold[part]) & set(PEOPLE[:2])]
        assert len(together) == 1
    assert folds == divisions(None, PEOPLE[::-1], {}, chosen, room=room, n_folds=5)[0]
    without, _ = divisions(None, PEOPLE, {}, config(), room=room, n_folds=5)
    assert sum(len(fold["test"]) for fold in without) == 20  # people of whom nothing is known


def test_folds_of_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    parts = [
        {"train": PEOPLE[:10], "val": [], "test": PEOPLE[10:]},
        {"train": PEOPLE[10:], "val": [], "test": PEOPLE[:10]},
    ]
    path = write_split(tmp_path / "s.json", Split(parts[0], folds=parts))
    chosen, (room, _) = config(f"data.split={path}"), find_model("unet3d_xs")
    split = check_folds(chosen, room, 2)
    assert split is not None
    found, _ = divisions(split, [], {}, chosen, room=room, n_folds=2)
    assert found == list(read_split(path).folds)
    with pytest.raises(UsageError, match="holds 2 folds, 5 were asked"):
        check_folds(chosen, room, 5)
    alone = write_split(tmp_path / "one.json", Split(parts[0]))
    with pytest.raises(UsageError, match="no folds"):
        check_folds(config(f"data.split={alone}"), room, 2)
    with pytest.raises(UsageError, match="divide nobody"):
        check_folds(config(), room, 1)
    with pytest.raises(UsageError, match="divided in time"):
        check_folds(config(model="cebra"), find_model("cebra")[0], 5)
