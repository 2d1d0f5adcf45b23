"""The SLURM script under a stub scheduler, and the container file as far as it can be read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import kills
import pytest

ROOM = [word for word in kills.ROOMS["calcium"] if word != "train"]
_LONG = ["--epochs", "12"]


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Return a folder of programs: `neuro` of this tree, and a `scontrol` that writes down."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "neuro": f'exec {sys.executable} -m neurocli "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.log',
    }
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_job_is_stopped_put_back_and_ends(root: Path, tmp_path: Path, stubs: Path) -> None:
    script, run = root / "examples" / "slurm_train.sh", tmp_path / "run"
    environment = {
        **os.environ,
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "SLURM_JOB_ID": "4711",
        "NEURO_CACHE": str(tmp_path / "cache"),
    }
    words = ["bash", str(script), str(run), "cebra", *ROOM[1:], *_LONG]
    job = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert job.stderr is not None
    # Slurm's B: sends the signal to the script alone, some time after training began.
    while not (run / "metrics.csv").exists() or "val" not in (run / "metrics.csv").read_text():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    out, errors = job.communicate(timeout=300)
    assert job.returncode == 75, errors
    assert "back to the queue" in out
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    assert not (run / "result.json").exists()
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (run / "result.json").exists()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"


def test_slurm_is_asked_for_what_the_script_relies_on(root: Path) -> None:
    text = (root / "examples" / "slurm_train.sh").read_text()
    asked = re.findall(r"^#SBATCH (\S+)", text, re.MULTILINE)
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= set(asked)
    # Slurm reads its lines up to the first command only.
    assert text.index("set -uo pipefail") > text.rindex("#SBATCH")


def test_the_container_file_names_what_is_there(root: Path) -> None:
    lines = (root / "examples" / "Dockerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and line[0] not in "# "]
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {verb for verb, _ in steps} <= known
    assert steps[0][0] == "FROM"
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    copied = [rest.split()[:-1] for verb, rest in steps if verb == "COPY"]
    for name in (name for names in copied for name in names):
        assert (root / name).exists(), name
    runs = [rest for verb, rest in steps if verb == "RUN"]
    extras = re.search(r'pip install "\.\[(.+)\]"', " ".join(runs))
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    # Torch comes first, from the index of its CPU builds, and pinned.
    assert "whl/cpu" in runs[0]
    assert re.search(r"torch==\d+\.\d+\.\d+", runs[0])
    assert "neuro" in project["scripts"]
    for run in runs:
        assert subprocess.run(["sh", "-n", "-c", run], check=False).returncode == 0
