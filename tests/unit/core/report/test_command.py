"""One page per call; other people's files are never replaced; torch is never needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.errors import InputError, UsageError
from neurocli.core.report.command import make_report

WriteRun = Callable[..., Path]


def _bare(run: Path) -> Path:
    """Return a run that was just begun: its page has no picture, which takes most of the time."""
    (run / "log.jsonl").unlink()
    (run / "metrics.csv").unlink()
    shutil.rmtree(run / "evaluations")
    return run


def test_a_page_is_written_and_made_again_with_the_same_bytes(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run, out = write_run(), tmp_path / "deep" / "report.html"
    result = make_report(run, out=out)
    assert (result.out, result.runs, result.notes) == (out, ["first"], [])
    first = out.read_bytes()
    assert first.startswith(b"<!doctype html>\n")
    beside = {name: path.read_bytes() for name, path in result.files.items()}
    again = make_report(run, out=out)
    assert again.out.read_bytes() == first
    assert {name: path.read_bytes() for name, path in again.files.items()} == beside
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.html", "report_files"]


def test_tables_and_pictures_stand_beside_the_page(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [write_run("a"), write_run("b", model="fmamba_conv_mlp")]
    first = make_report(runs, out=tmp_path / "report.html").files
    assert set(first) >= {
        "integrated_experiment_results.csv", "all_epochs_results.csv", "model_comparison.csv",
        "stage_wise_pam_results.csv", "learning_curves.png", "model_comparison_chart.png",
        "parameter_efficiency.png",
    }  # fmt: skip
    assert first["learning_curves.png"].read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert all(f'href="report_files/{name}"' in page for name in first)


def test_tables_of_an_experiment_are_linked_and_left_alone(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("study/a")
    table = tmp_path / "study" / "integrated_experiment_results.csv"
    table.write_text("mine\n")
    (tmp_path / "study" / "comparison.csv").write_text("x\n")
    result = make_report(tmp_path / "study", out=tmp_path / "out" / "page.html")
    assert result.runs == ["a"]
    assert table.read_text() == "mine\n"
    assert result.files[table.name].resolve() == table.resolve()
    assert 'href="../study/integrated_experiment_results.csv"' in result.out.read_text()
    assert not (tmp_path / "out" / "page_files" / table.name).exists()
    # A table that only an experiment writes is linked too.
    assert 'href="../study/comparison.csv"' in result.out.read_text()


def test_notes_name_run_and_file(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run()
    (run / "result.json").unlink()
    (run / "data.json").write_text("{")
    assert make_report(run, out=tmp_path / "a.html").notes == [
        "first: data.json: not one whole JSON object, left out",
        "first: missing result.json",
    ]


def test_a_dry_run_writes_nothing(write_run: WriteRun, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = make_report(write_run(), out=out, dry_run=True)
    assert result.plan is not None
    assert (result.plan["would_write"], result.plan["runs"]) == (str(out), ["first"])
    table = tmp_path / "report_files" / "integrated_experiment_results.csv"
    assert str(table) in result.plan["files"]
    assert not out.exists()
    assert not table.parent.exists()


def test_another_file_is_replaced_only_by_force(write_run: WriteRun, tmp_path: Path) -> None:
    out = tmp_path / "thesis.html"
    out.write_text("mine")
    run = _bare(write_run())
    with pytest.raises(UsageError, match="not made by `neuro report`") as caught:
        make_report(run, out=out)
    assert caught.value.where == str(out)
    assert out.read_text() == "mine"
    make_report(run, out=out, force=True)
    assert b"neuro/report/1" in out.read_bytes()


@pytest.mark.parametrize("name", ["best.pth", "report", "config.yaml"])
def test_only_a_page_is_a_good_name_even_with_force(
    write_run: WriteRun, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="no name for a page"):
        make_report(write_run(), out=tmp_path / name, force=True)


def test_a_folder_is_no_page(write_run: WriteRun, tmp_path: Path) -> None:
    (tmp_path / "x.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        make_report(write_run(), out=tmp_path / "x.html")


def test_no_run_and_a_wrong_folder_are_refused_and_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(UsageError, match="no run folder"):
        make_report([], out=out)
    with pytest.raises(InputError, match="no such run folder"):
        make_report(tmp_path / "gone", out=out)
    assert not out.exists()


def test_a_lone_surrogate_does_not_stop_the_page(write_run: WriteRun, tmp_path: Path) -> None:
    run = _bare(write_run(left_out=[["sub-\ud800", "x"]]))
    assert b"sub-\\ud800" in make_report(run, out=tmp_path / "a.html").out.read_bytes()


def test_a_report_imports_no_torch(write_run: WriteRun, tmp_path: Path, root: Path) -> None:
    code = (
        "import sys\nfrom neurocli.core.report.command import make_report\n"
        f"make_report({str(write_run())!r}, out={str(tmp_path / 'a.html')!r})\n"
        "heavy = {'torch', 'pandas', 'nibabel', 'h5py', 'sklearn', 'matplotlib.pyplot'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
