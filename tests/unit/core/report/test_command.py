"""One page per call; other people's files are never replaced; torch is never needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.errors import InputError, UsageError
from neurocli.core.report.command import make_report

WriteRun = Callable[..., Path]


def test_a_page_is_written_and_made_again_with_the_same_bytes(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run, out = write_run(), tmp_path / "deep" / "report.html"
    result = make_report(run, out=out)
    assert (result.out, result.runs, result.notes) == (out, ["first"], [])
    first = out.read_bytes()
    assert first.startswith(b"<!doctype html>\n")
    assert make_report(run, out=out).out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


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
    assert result.plan == {"would_write": str(out), "runs": ["first"]}
    assert not out.exists()


def test_another_file_is_replaced_only_by_force(write_run: WriteRun, tmp_path: Path) -> None:
    out = tmp_path / "thesis.html"
    out.write_text("mine")
    run = write_run()
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
    run = write_run(left_out=[["sub-\ud800", "x"]])
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
