"""Shell commands as a reader of the README runs them: `neuro` on PATH, a home of their own.

A script may have the test process run its `neuro` lines: the program it finds on PATH hands over
its words, folder, environment and streams, and a fork of the test process takes them up. So a line
costs its work and not the seconds of importing torch. Scripts that put a folder of their own in
front of PATH, as the quickstart does, run the installed program.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import pytest
from kills import import_everything

from neurocli.cli.main import main as neuro

_LONGEST_S = 900.0
_PROGRAM = """\
#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [b"."], [0, 1, 2])
    line.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    line.shutdown(socket.SHUT_WR)
    code = line.recv(1)
sys.exit(code[0] if code else 70)
"""


def environment(root: Path, home: Path) -> dict[str, str]:
    """Return the variables of a user whose home is the folder of a test.

    Built-in data are made once for all tests: they lie beside the home.
    """
    binaries = Path(sys.executable).parent
    return {
        **os.environ,
        "HOME": str(home),
        "NEURO_CACHE": str(home.parent / "cache"),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
    }


def run(script: str, where: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script that must succeed; its `neuro` lines are forks of this process."""
    where.mkdir(parents=True, exist_ok=True)
    import_everything()
    with (
        tempfile.TemporaryDirectory(prefix="neuro-") as folder,
        socket.socket(socket.AF_UNIX) as door,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        address = str(Path(folder) / "door")
        door.bind(address)
        door.listen()
        program = Path(folder) / "neuro"
        program.write_text(_PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=where,
            env={**env, "PATH": f"{folder}{os.pathsep}{env['PATH']}"},
            stdout=out,
            stderr=err,
        )
        _serve(door, process)
        done = subprocess.CompletedProcess(script, process.returncode, _text(out), _text(err))
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def _serve(door: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Fork for every `neuro` line of a script until the script ends."""
    door.settimeout(0.02)
    children = []
    deadline = time.monotonic() + _LONGEST_S
    while process.poll() is None:
        assert time.monotonic() < deadline, "the script did not end"
        try:
            line, _ = door.accept()
        except TimeoutError:
            continue
        child = os.fork()
        if child == 0:
            _take_up(line)
        line.close()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _take_up(line: socket.socket) -> None:
    """Be the `neuro` that asked, and end the process with its exit code."""
    code = 70
    try:
        _, streams, _, _ = socket.recv_fds(line, 1, 3)
        words, folder, variables = json.loads(b"".join(iter(lambda: line.recv(1 << 16), b"")))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        code = neuro(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        line.sendall(bytes([code]))
        os._exit(code)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def needs_neuro() -> None:
    """Skip where `neuro` is not installed, as when the tests run from a bare source tree."""
    if not (Path(sys.executable).parent / "neuro").exists():
        pytest.skip("neuro is not installed in this environment: bash tests/run.sh installs it")
