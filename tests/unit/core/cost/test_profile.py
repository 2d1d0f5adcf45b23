"""What `profile` writes and how it shares work: tables, traces, processes, narrowed names."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import pytest

from neurocli.core.cost.command import profile
from neurocli.core.cost.target import find_target
from neurocli.core.errors import UsageError

SMALL = {"input_shape": (16, 16, 32), "set": ["model.width=4"]}
NAME = "dualbranch_02_unet_xs"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_the_known_columns_and_the_records_figures(tmp_path: Path) -> None:
    result = profile(NAME, runs=2, device="cpu", stage_wise=True, out=tmp_path, **SMALL)  # type: ignore[arg-type]
    (record,) = result.models
    assert [path.name for path in result.files] == ["profile.csv", "stage_wise_pam_results.csv"]
    stages = _rows(result.files[1])
    # The columns of the described stage-wise table.
    assert list(stages[0]) == ["dataset", "seed", "fold", "model_name", "mode", "stage_name",
                               "pam_mean", "pam_std", "num_runs"]  # fmt: skip
    assert [float(row["pam_mean"]) for row in stages] == [s["pam_mean"] for s in record["stages"]]
    assert {row["num_runs"] for row in stages} == {"2"}
    (model,) = _rows(result.files[0])
    assert float(model["pam_train"]) == record["pam_train_bytes"]["mean"]
    assert float(model["inference_latency_ms"]) == record["latency_ms"]["median"]
    assert float(model["train_latency_ms"]) == record["latency_train_ms"]["median"]


def test_a_trace_holds_both_passes(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    result = profile("cebra", runs=1, device="cpu", warmup=0, trace=path)
    assert result.files == [path]
    assert result.models[0]["latency_ms"]["warmup"] == 0
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert {"inference", "train", "aten::mm"} <= names
    with pytest.raises(UsageError, match="a trace is of one model"):
        profile("cebra*", trace=path)
    with pytest.raises(UsageError, match="a trace is of one model"):
        profile("cebra", fake=True, trace=path)


def test_processes_share_models_and_change_no_figure() -> None:
    names = ("cebra", "cebra-offset1")
    one, two = (profile(*names, fake=True, mode="inference", jobs=jobs) for jobs in (1, 2))
    assert two.models == one.models
    with pytest.raises(UsageError, match="slow each other"):
        profile(*names, jobs=2, device="cpu")


def test_targets_travel() -> None:
    target = find_target(NAME, input_shape=(16, 16, 32), settings=["model.width=4"])
    assert pickle.loads(pickle.dumps(target)) == target


def test_rooms_narrow_patterns() -> None:
    result = profile("all", room="genes", fake=True, mode="inference", input_shape=(8, 3, 4))
    assert [row["model"] for row in result.models] == ["gene_pair", "gene_sequence"]
    with pytest.raises(UsageError, match="in the room genes"):
        profile("cebra", room="genes", fake=True)
    with pytest.raises(UsageError, match="unknown room"):
        profile("cebra", room="gene", fake=True)
