"""Conversion by several processes under mpiexec."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurocli import convert_hdf5, preprocess

pytest.importorskip("mpi4py")
if shutil.which("mpiexec") is None:
    pytest.skip("there is no mpiexec", allow_module_level=True)

ENVIRON = {
    **os.environ,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return seven prepared runs, one of them cut short."""
    out = tmp_path_factory.mktemp("mpi") / "out"
    preprocess("dummy", out=out, options={"n_subjects": 7, "n_frames": 6})
    path = sorted(out.glob("*/bold.h5"))[3]
    path.write_bytes(path.read_bytes()[:-100])
    return out


def start(*words: object, n: int = 2) -> subprocess.Popen[str]:
    """Start a Python command line on n ranks."""
    launch = ["mpiexec", "--oversubscribe", "-n", str(n), sys.executable, *map(str, words)]
    return subprocess.Popen(
        launch, env=ENVIRON, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_ranks_write_what_one_process_writes(src: Path, tmp_path: Path) -> None:
    alone = convert_hdf5(src, out=tmp_path / "alone")
    assert (alone.done, alone.failed) == (6, 1)
    run = start("-m", "neurocli", "convert-hdf5", src, "-o", tmp_path / "team", n=3)
    shown, told = run.communicate(timeout=120)
    assert run.returncode == 3, told
    assert shown.split()[:4] == ["done", "6", "failed", "1"]
    assert "is a damaged HDF5 file" in told
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "team").iterdir())
    for name in names:
        if name != "manifest.jsonl":  # which holds the seconds that each item took
            ours, theirs = (tmp_path / who / name for who in ("alone", "team"))
            assert ours.read_bytes() == theirs.read_bytes(), name


SCRIPT = """
import os, sys, time
from neurocli.systems.fmri import convert
from neurocli.cli.main import main
rank = os.environ["OMPI_COMM_WORLD_RANK"]
def spoiled(*_, **__):
    if rank == "1":
        {deed}
    time.sleep(100)
convert.write_store = spoiled
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("deed", "text"),
    [("raise RuntimeError('boom')", "boom"), (f"os.kill(os.getpid(), {signal.SIGKILL:d})", "")],
)
def test_a_rank_that_fails_stops_all_and_the_rest_can_be_done(
    src: Path, tmp_path: Path, deed: str, text: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(deed=deed))
    began = time.monotonic()
    run = start(script, "convert-hdf5", src, "-o", tmp_path / "out")
    _, told = run.communicate(timeout=60)
    assert run.returncode not in (0, 3)
    assert text in told
    assert time.monotonic() - began < 30  # rank 0 would sleep for 100 s
    assert not list((tmp_path / "out").glob("*.h5"))
    assert convert_hdf5(src, out=tmp_path / "out").done == 6
    assert not list((tmp_path / "out").glob("*.part-*"))


def test_an_error_of_rank_0_is_told_once_with_its_code(src: Path, tmp_path: Path) -> None:
    run = start(
        "-m", "neurocli", "convert-hdf5", src, "-o", tmp_path / "out", "--layout", "cube"
    )  # fmt: skip
    _, told = run.communicate(timeout=60)
    assert run.returncode == 2
    assert told.count("unknown layout 'cube'") == 1


def test_mpi_is_imported_under_mpiexec_only(src: Path, tmp_path: Path) -> None:
    text = (
        "import sys, neurocli; "
        f"neurocli.convert_hdf5({str(src)!r}, out={str(tmp_path / 'out')!r}); "
        "sys.exit('mpi4py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
