"""Windows get the labels of their events; what cannot be placed is counted or named.

Expected starts are worked out by hand: frame = (onset + lag) / 2 s, the runs' repetition time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cohort_files import write_cohort, write_run

from neurocli.core.config.load import load_config
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.data import open_data


def opened(
    folder: Path,
    events: Path,
    *settings: str,
    task: str = "trial_type",
    like: RunData | None = None,
) -> RunData:
    given = [
        "model.patch_size=2,2,2,1",
        "data.sequence_length=4",
        f"data.path={folder}",
        f"data.events={events}",
        f"task.target={task}",
        "data.event_lag_s=4",
    ]
    config = load_config(model="fmamba_mlp", set=[*given, *settings])
    return open_data(config, like=like.info if like is not None else None)


def labelled(data: RunData) -> dict[str, str]:
    found = {}
    for part in data.parts.values():
        assert isinstance(part, ClipSet)
        for index in range(len(part)):
            sample = part.sample(index, 0)
            assert sample["unit"] == f"{sample['subject']}@{sample['start']}"
            found[sample["unit"]] = data.info["classes"][int(sample["target"])]
    return found


def write_table(path: Path, *rows: str, header: str = "onset\tduration\ttrial_type") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return write_cohort(folder, 3)


def test_one_table_with_run_ids(cohort: Path, tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "events.tsv",
        "s00\t0\t2\tface",
        "s00\t10\t2\thouse",  # frame 7
        "s01\t3\t2\thouse",  # frame 3.5, to the even one
        "s01\t12\t2\thouse",  # frames 8-11, the last that fit
        "s02\t2\t2\tn/a",
        "s02\t2\t2\tface",
        "s02\t2.2\t2\thouse",  # the same frame again
        "s02\t14\t2\thouse",  # frames 9-12 of 0-11
        "s02\t-9\t2\thouse",
        "s09\t1\t2\thouse",
        header="subject\tonset\tduration\ttrial_type",
    )
    data = opened(cohort, table)
    assert labelled(data) == {
        "s00@2": "face",
        "s00@7": "house",
        "s01@4": "house",
        "s01@8": "house",
        "s02@3": "face",
    }
    assert data.info["n_outputs"] == 2
    said = " ".join(data.notes)
    assert "2 events take no part because they lie outside their run" in said
    assert "1 events take no part because they have no trial_type" in said
    assert "1 events take no part because they begin in the frame" in said
    assert "1 runs of the events are not in this data: s09" in said


def test_bids_tables_are_inherited(tmp_path: Path) -> None:
    folder, bids = tmp_path / "runs", tmp_path / "bids"
    folder.mkdir()
    names = ["sub-1_task-a_run-1", "sub-1_task-a_run-2", "sub-2_task-a_run-1", "sub-2_task-b_run-1"]
    for index, name in enumerate(names):
        write_run(folder, index, subject=name, participant=name[:5])
    write_table(bids / "task-a_events.tsv", "2\t1\tall", "6\t1\tboth")
    write_table(bids / "sub-1" / "func" / f"{names[1]}_events.tsv", "4\t1\town")
    data = opened(folder, bids)
    assert labelled(data) == {
        f"{names[0]}@3": "all",
        f"{names[0]}@5": "both",
        f"{names[1]}@4": "own",
        f"{names[2]}@3": "all",
        f"{names[2]}@5": "both",
    }
    assert data.left_out == [(names[3], "no event gives it a window")]
    people = {part: samples.participants for part, samples in data.parts.items()}
    assert sorted(who for names in people.values() for who in names) == ["sub-1", "sub-2"]


def test_numbers_are_regressed_and_labels_change_the_fingerprint(
    cohort: Path, tmp_path: Path
) -> None:
    header = "subject\tonset\tresponse_time"
    rows = [f"s0{run}\t{2 * i}\t{0.1 * i + run}" for run in range(3) for i in range(5)]
    table = write_table(tmp_path / "e.tsv", *rows, header=header)
    data = opened(cohort, table, task="response_time")
    assert data.objective == "regression"
    samples = data.parts["train"]
    assert isinstance(samples, ClipSet)
    assert samples.targets is not None
    assert samples.targets["s02@4"] == pytest.approx(2.2)
    assert len(samples.units) == len(samples) == 5 * len(samples.participants)
    write_table(table, *rows[:-1], "s02\t8\t9", header=header)
    assert opened(cohort, table, task="response_time").fingerprint != data.fingerprint


def test_classes_follow_the_checkpoint(cohort: Path, tmp_path: Path) -> None:
    header = "subject\tonset\ttrial_type"
    rows = [f"s0{run}\t{4 * i}\t{'abc'[i]}" for run in range(3) for i in range(3)]
    data = opened(cohort, write_table(tmp_path / "e.tsv", *rows, header=header))
    fewer = write_table(tmp_path / "f.tsv", *(row for row in rows if row[-1] != "a"), header=header)
    assert set(labelled(opened(cohort, fewer, like=data)).values()) == {"b", "c"}
    more = write_table(tmp_path / "g.tsv", *rows, "s00\t2\tnew", header=header)
    with pytest.raises(NeuroError, match="new"):
        opened(cohort, more, like=data)


@pytest.mark.parametrize(
    ("header", "row", "error", "said"),
    [
        ("subject\tonset\ttrial_type", "s00\tsoon\ta", InputError, "onset 'soon'"),
        ("subject\tonset\ttrial_type", "s00\tn/a\ta", InputError, "onset 'n/a'"),
        ("subject\tstart\ttrial_type", "s00\t1\ta", InputError, "no column 'onset'"),
        ("onset\tduration\ttrial_type", "1\t1\ta", InputError, "no column of run ids"),
        ("subject\tonset\tkind", "s00\t1\ta", UsageError, "no column 'trial_type'"),
        ("subject\tonset\ttrial_type", "x\t1\ta", NeuroError, "no event fits"),
        ("subject\tonset\ttrial_type", "s00\t1\ta", NeuroError, "has 1 class"),
    ],
)
def test_unusable_tables_are_named(
    cohort: Path, tmp_path: Path, header: str, row: str, error: type[NeuroError], said: str
) -> None:
    table = write_table(tmp_path / "e.tsv", row, header=header)
    with pytest.raises(error, match=said):
        opened(cohort, table)


def test_other_refusals(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no table"):
        opened(cohort, tmp_path / "empty")
    with pytest.raises(InputError, match=r"none\.tsv"):
        opened(cohort, tmp_path / "none.tsv")
    config = load_config(
        model="fmamba", set=[f"data.path={cohort}", "data.events=e.tsv", "data.sequence_length=4"]
    )
    with pytest.raises(UsageError, match=r"pretrained without labels, not on data\.events"):
        open_data(config)
