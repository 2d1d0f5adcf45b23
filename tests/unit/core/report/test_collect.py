"""Run folders in any state become one value each; what is no run is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.errors import InputError
from neurocli.core.report.collect import SIGNS, collect_run, collect_runs

WriteRun = Callable[..., Path]


def test_a_finished_run_is_read_whole(write_run: WriteRun) -> None:
    run = collect_run(write_run())
    assert (run.name, run.model, run.objective) == ("first", "fmamba_mlp", "classification")
    assert run.settings["train.lr"] == 0.002
    assert run.origins["train.lr"] == "--lr"
    assert run.n_participants == {"train": 33, "val": 7, "test": 4}
    assert run.missing == ()
    assert run.problems == ()
    assert not run.is_built_in
    assert run.curves.loss[0] == (1.0, 1.0)
    assert len(run.curves.loss) == 12
    assert [step for step, _ in run.curves.metrics["val", "accuracy"]] == [3, 6, 9, 12]
    judged = run.evaluations[0]
    assert (judged.part, judged.n, judged.source) == ("test", 4, "evaluations/test/metrics.json")
    assert judged.ci95["accuracy"] == (0.6, 1.0)
    assert len(judged.subjects.rows) == 4


def test_every_file_may_be_missing(write_run: WriteRun) -> None:
    files = sorted(path.name for path in write_run("whole").iterdir() if path.is_file())
    for index, name in enumerate(files):
        folder = write_run(f"without-{index}")
        (folder / name).unlink()
        run = collect_run(folder)
        # The metrics of the log stand in for the table, so only a run without both lacks it.
        assert run.missing == (() if name == "metrics.csv" else (name,))
        assert run.model == "fmamba_mlp"
        assert sum(run.n_participants.values()) == (2 if name == "data.json" else 44)


def test_metrics_csv_stands_in_for_a_lost_log(write_run: WriteRun) -> None:
    folder = write_run()
    (folder / "log.jsonl").unlink()
    (folder / "metrics.csv").write_text(
        "step,epoch,part,metric,value\n6,0,val,loss,0.5\n3,0,val,loss,nan\n9,1,val,loss,0.25\n"
    )
    curves = collect_run(folder).curves
    assert curves.metrics == {("val", "loss"): ((6.0, 0.5), (9.0, 0.25))}
    assert curves.source == "metrics.csv"
    (folder / "metrics.csv").write_text("step,part\n1,val\n")
    assert collect_run(folder).curves.metrics == {}


def test_a_step_logged_twice_counts_once_and_is_told(write_run: WriteRun) -> None:
    folder = write_run(n_steps=2)
    with (folder / "log.jsonl").open("a") as handle:
        handle.write('{"event": "step", "step": 2, "loss": 9.0}\n')
        handle.write('{"event": "step", "step": 3, "loss": NaN}\n')
    run = collect_run(folder)
    assert run.curves.loss == ((1.0, 1.0), (2.0, 9.0))
    assert run.problems == ("log.jsonl: 1 steps are logged more than once; the later one counts",)


def test_repeated_participants_are_told(write_run: WriteRun) -> None:
    folder = write_run(subjects="participant,predicted\nsub-1,F\nsub-1,M\nsub-2,F\n")
    assert collect_run(folder).problems == (
        "evaluations/test/per_subject.csv: 1 participants have more than one row, such as sub-1",
    )


@pytest.mark.parametrize(
    "judged",
    [
        {},
        {"metrics": [1], "ci95": 3, "baselines": "x", "n": "many", "notes": {}, "part": None},
        {"metrics": {"a": "x"}, "ci95": {"a": [1], "b": ["x", 2]}, "baselines": {"m": None}},
    ],
)
def test_values_of_the_wrong_kind_are_missing_values(
    write_run: WriteRun, judged: dict[str, object]
) -> None:
    judgement = collect_run(write_run(judged=judged)).evaluations[0]
    assert judgement.part == "test"
    assert judgement.n is None
    assert judgement.ci95 == {}
    assert set(judgement.metrics.values()) <= {None}


def test_test_part_comes_first(write_run: WriteRun) -> None:
    folder = write_run()
    for part in ("all", "val"):
        shutil.copytree(folder / "evaluations" / "test", folder / "evaluations" / part)
        record = json.loads((folder / "evaluations" / part / "metrics.json").read_text())
        (folder / "evaluations" / part / "metrics.json").write_text(
            json.dumps({**record, "part": part})
        )
    assert [row.part for row in collect_run(folder).evaluations] == ["test", "all", "val"]


def test_an_evaluation_folder_stands_alone(write_run: WriteRun) -> None:
    run = collect_run(write_run() / "evaluations" / "test")
    assert len(run.evaluations) == 1
    assert run.missing == ()


def test_a_folder_of_runs_stands_for_its_runs(write_run: WriteRun, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_run(f"experiment/{name}")
    runs = collect_runs([tmp_path / "experiment", tmp_path / "experiment" / "b"])
    assert [run.name for run in runs] == ["a", "b"]


def test_runs_of_one_name_get_different_names(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("x/same")
    write_run("y/same")
    write_run("z/x/same")
    folders = [tmp_path / "x" / "same", tmp_path / "y" / "same", tmp_path / "z" / "x" / "same"]
    names = [run.name for run in collect_runs(folders)]
    assert names == ["x/same", "y/same", "x/same (2)"]


def test_what_is_no_run_is_refused_by_name(write_run: WriteRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, word in (
        (tmp_path / "empty", SIGNS[0]),
        (tmp_path / "gone", "no such run folder"),
        (write_run() / "config.yaml", "is a file"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            collect_runs([path])
        assert caught.value.where == str(path)
        assert caught.value.hint
