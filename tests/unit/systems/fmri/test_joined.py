"""Joined datasets: ids that stay apart, shares that follow weights, plain refusals.

Both datasets hold people called s00, s01, ...: whoever mixes them up fails here. Expected counts
come from the sizes that were written: a run of 12 frames has three clips of four.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_files import values_of, write_cohort, write_run

import neurocli
from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.task import RunData
from neurocli.core.errors import ConfigError, NeuroError, StoppedError, UsageError
from neurocli.core.events import StepDone
from neurocli.core.report.command import make_report
from neurocli.systems.fmri.data import open_data

TINY = [
    "model.patch_size=2,2,2,1", "model.embed_dim=16", "model.depth=1", "data.sequence_length=4",
    "run.device=cpu", "run.threads=1", "run.seed=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Twenty people of a, ten of b, under the same ids, with sex, age and site."""
    home = tmp_path_factory.mktemp("pair")
    a = {"sex": ["F", "M"] * 10, "age": list(range(20, 40)), "site": ["1", "2"] * 10}
    b = {"sex": ["M", "F"] * 5, "age": list(range(60, 70))}
    return (
        write_cohort(home / "a", 20, columns=a),
        write_cohort(home / "b", 10, columns=b, first=50, tr_s=0.8),
    )


def config(*settings: str, model: str = "fmamba") -> RunConfig:
    return load_config(model=model, set=[*TINY, *settings])


def joined(pair: tuple[Path, Path], weights: str = "", *settings: str, **named: Any) -> RunData:
    each = [f"weight: {w}" for w in weights.split()] or ["weight: null"] * 2
    entries = ", ".join(f"{{path: {path}, {w}}}" for path, w in zip(pair, each, strict=True))
    return open_data(config(f"data.join=[{entries}]", *settings, **named))


def test_people_of_equal_names_stay_apart(pair: tuple[Path, Path]) -> None:
    data = joined(pair)
    people = sorted(name for names in data.split.values() for name in names)
    assert people == [f"a.s{i:02d}" for i in range(20)] + [f"b.s{i:02d}" for i in range(10)]
    for part in data.parts.values():
        for index in range(len(part)):
            sample = part.sample(index, 0)
            dataset, own = sample["participant"].split(".")
            number = int(own[1:]) + (50 if dataset == "b" else 0)
            values, mask = values_of(number, 12)
            assert sample["brain"].sum() == mask.sum()
            wide = values.astype(np.float64)
            z = ((wide - wide.mean(0)) / wide.std(0, ddof=1))[sample["start"] :][:4]
            np.testing.assert_allclose(sample["clip"][0][sample["brain"]].T, z, atol=1e-3)
    # Each dataset is divided as when it is alone.
    for path in pair:
        alone = open_data(config(f"data.path={path}")).split
        for part, names in alone.items():
            found = [n for n in data.split[part] if n.startswith(f"{path.name}.")]
            assert sorted(found) == sorted(f"{path.name}.{n}" for n in names)
    assert any("4 frames spans 8 s of a (2 s a frame), 3.2 s of b" in n for n in data.notes)
    assert "a: 20 participants, 42 training clips, 66.7 % of an epoch" in data.notes
    assert data.drawn is None


def test_weights_are_shares_of_what_training_draws(pair: tuple[Path, Path]) -> None:
    data = joined(pair, "1 3")
    train, drawn = data.parts["train"], data.drawn
    assert drawn is not None
    assert len(drawn) == len(train) == 42 + 21
    shares, seen = [], set()
    for epoch in range(4):
        samples = [drawn.sample(index, epoch) for index in range(len(drawn))]
        shares.append(sum(s["participant"].startswith("b.") for s in samples))
        seen |= {(s["subject"], s["start"]) for s in samples}
        draws = [(s["subject"], s["start"], s["draw"]) for s in samples]
        assert len(set(draws)) == len(draws)  # a clip that comes twice is changed differently
    assert set(shares) <= {47, 48}  # 63 * 3/4 = 47.25
    assert len(seen) == 63  # of a 16 each time, so 42 clips are all seen within three epochs
    assert [row["share"] for row in data.info["datasets"]] == [0.25, 0.75]
    assert sorted((train.sample(i, 0)["subject"], i) for i in range(63))[0][0].startswith("a.")


def test_targets_sites_and_classes_are_read_together(pair: tuple[Path, Path]) -> None:
    data = joined(pair, "", "task.target=sex", model="fmamba_mlp")
    assert data.info["classes"] == ["F", "M"]
    targets = {s["participant"]: s["target"] for p in data.parts.values() for s in samples_of(p)}
    assert [targets[name] for name in ("a.s00", "a.s01", "b.s00", "b.s01")] == [0, 1, 1, 0]
    assert {data.sites[name] for name in ("a.s00", "a.s01", "b.s03")} == {"a.1", "a.2", "b"}
    assert set(data.datasets.values()) == {"a", "b"}
    ages = joined(pair, "", "task.target=age", model="fmamba_mlp")
    assert ages.objective == "regression"  # b alone has ten numbers, which would be classes


def samples_of(part: Any) -> list[dict[str, Any]]:
    return [part.sample(index, 0) for index in range(len(part))]


def test_split_files_hold_joined_ids_or_are_of_one_dataset(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.json"
    parts = '{"train": ["a.s00", "b.s00"], "val": ["b.s01"], "test": ["a.s01"]}'
    whole.write_text(f'{{"schema": "neuro/split/1", "seed": 0, "parts": {parts}}}')
    data = joined(pair, "", f"data.split={whole}")
    assert data.split["train"] == ["a.s00", "b.s00"]
    assert len(data.split["rest"]) == 26
    own = tmp_path / "own.txt"
    own.write_text("train_subjects\ns05\nval_subjects\ntest_subjects\ns06\n")
    entries = f"[{{path: {pair[0]}, split: {own}}}, {{path: {pair[1]}, name: other}}]"
    data = open_data(config(f"data.join={entries}"))
    assert [name for name in data.split["train"] if name.startswith("a.")] == ["a.s05"]
    assert sum(name.startswith("other.") for name in data.split["train"]) == 7


def test_what_would_tell_datasets_apart_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    words = {"sex": ["female", "male"] * 2}
    coarse = write_cohort(tmp_path / "coarse", 4, columns=words, spacing_mm=4.0)
    with pytest.raises(UsageError, match=r"a has 3x3x3 mm RAS; coarse has 4x4x4 mm RAS"):
        joined((pair[0], coarse))
    mixed = ["data.mixed_grids=true"]
    assert len(joined((pair[0], coarse), "", *mixed).datasets) == 24
    with pytest.raises(NeuroError, match=r"sex of a \(F, M\) shares no class .*female, male"):
        joined((pair[0], coarse), "", *mixed, "task.target=sex", model="fmamba_mlp")
    with pytest.raises(UsageError, match="no column 'age'"):
        joined((pair[0], coarse), "", *mixed, "task.target=age", model="fmamba_mlp")
    scaled = tmp_path / "scaled"
    write_run(scaled, 0, scaling="minmax")
    with pytest.raises(UsageError, match=r"a \(none\), scaled \(minmax\)"):
        joined((pair[0], scaled))
    both = joined((pair[0], scaled), "", "data.scaling=voxel-z")
    assert {s["clip"].std().round(1) for p in both.parts.values() for s in samples_of(p)}
    with pytest.raises(UsageError, match="two datasets are called a"):
        joined((pair[0], pair[0]))
    split = tmp_path / "s.csv"
    split.write_text("id,part\na.s00,train\nscaled.s00,test\n")
    with pytest.raises(UsageError, match="nobody of scaled is in the training part"):
        joined((pair[0], scaled), "1 1", "data.scaling=voxel-z", f"data.split={split}")


@pytest.mark.parametrize(
    ("join", "words"),
    [
        ("[{path: a}, {path: b, weight: 2}]", "a has no weight"),
        ("[{path: a, weight: 0}]", "greater than 0"),
        ("[{path: a, wieght: 1}]", "did you mean weight"),
        ("[{path: a, name: a.b}]", "match pattern"),
    ],
)
def test_a_wrong_list_of_datasets_is_explained(join: str, words: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=words):
        config(f"data.join={join}")


def test_one_path_and_several_exclude_each_other() -> None:
    with pytest.raises(UsageError, match=r"data\.path and data\.join"):
        config("data.path=a", "data.join=b,c")
    assert [e.path for e in config("data.join=b,c").data.join] == ["b", "c"]  # type: ignore[attr-defined]


def test_a_stopped_run_ends_in_the_same_weights(pair: tuple[Path, Path], tmp_path: Path) -> None:
    join = f"data.join=[{{path: {pair[0]}, weight: 1}}, {{path: {pair[1]}, weight: 3}}]"
    settings = [*TINY, join, "task.mask_type=random", "data.augment=intensity"]
    common: Any = {"pretrain": "ar", "epochs": 2, "batch_size": 16, "set": settings}
    whole = neurocli.train("fmamba", out=tmp_path / "whole", **common)

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise StoppedError("enough")

    with pytest.raises(StoppedError):
        neurocli.train("fmamba", out=tmp_path / "again", listener=stop, **common)
    again = neurocli.train(resume=tmp_path / "again")
    states = [load_checkpoint(r.run / "checkpoints" / "last.pth") for r in (whole, again)]
    for name, tensor in states[0]["state_dict"].items():
        assert np.array_equal(tensor.numpy(), states[1]["state_dict"][name].numpy()), name


def test_a_run_is_judged_by_dataset_and_knows_whom_it_saw(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    run = neurocli.train(
        "fmamba_mlp", data=list(pair), task="sex", epochs=1, batch_size=64,
        set=[*TINY, "task.baselines=[]"], out=tmp_path / "run",
    )  # fmt: skip
    told = neurocli.evaluate(run.checkpoint)
    assert [(row["dataset"], row["n"]) for row in told.per_dataset] == [("a", 3), ("b", 2)]
    assert "accuracy" in told.per_dataset[0]
    assert "accuracy" not in told.per_dataset[1]
    assert {row["site"] for row in told.per_site} <= {"a.1", "a.2", "b"}
    assert (told.out / "per_dataset.csv").is_file()
    # One of the datasets alone: its people are still known as those of the training.
    alone = neurocli.evaluate(run.checkpoint, data=pair[1], part="train", out=tmp_path / "e")
    assert alone.in_sample
    assert alone.n == 7
    again = neurocli.train(
        "fmamba_mlp", data=pair[1], task="sex", init_from=run.checkpoint, set=TINY, dry_run=True
    )
    assert any("people that both saw are not recognised" in note for note in again.notes)
    plan = neurocli.train("fmamba", data=list(pair), pretrain="ar", set=TINY, dry_run=True).plan
    assert plan is not None
    assert [row["name"] for row in plan["info"]["datasets"]] == ["a", "b"]
    make_report([run.run], tmp_path / "report.html")
    assert "a, b" in (tmp_path / "report.html").read_text()
