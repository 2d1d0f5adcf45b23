"""Files under their final name are whole; locks have one holder; names cannot escape."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.paths import (
    clear_leftovers,
    durable_json,
    durable_path,
    durable_write,
    file_sha256,
    folder_lock,
    safe_name,
)


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    target = durable_write(tmp_path / "a.txt", "old")

    def half() -> None:
        with durable_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        half()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_leaves_no_finished_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from neurocli.core.paths import durable_path\n"
        "with durable_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "a.bin"
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert clear_leftovers(tmp_path) == 1
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_is_one_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(NeuroError, match="cannot write") as caught:
        durable_write(blocker / "a.txt", "x")
    assert caught.value.hint


def test_json_is_finite_and_ordered(tmp_path: Path) -> None:
    path = durable_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "é"\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        durable_json(tmp_path / "b.json", {"x": float("nan")})


def test_lock_names_its_holder_and_dead_ones_lose_it(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with pytest.raises(UsageError, match=str(os.getpid())), folder_lock(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom neurocli.core.paths import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert (tmp_path / ".lock").exists()
    with folder_lock(tmp_path):
        pass


def test_many_processes_one_holder(tmp_path: Path) -> None:
    # All start beside a stale lock; one at a time may hold it, and none may lose an update.
    (tmp_path / ".lock").write_text(f"{socket.gethostname()} 999999999")
    counter = tmp_path / "count"
    counter.write_text("0")
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from neurocli.core.errors import UsageError\n"
        "from neurocli.core.paths import folder_lock\n"
        "folder = Path(sys.argv[1])\n"
        "for _ in range(20):\n    while True:\n        try:\n"
        "            with folder_lock(folder):\n"
        "                n = int((folder / 'count').read_text())\n"
        "                time.sleep(0.0005)\n"
        "                (folder / 'count').write_text(str(n + 1))\n"
        "            break\n        except UsageError:\n            time.sleep(0.001)\n"
    )
    crowd = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in crowd] == [0] * 4
    assert counter.read_text() == "80"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["count"]


def test_sha256_of_nothing(tmp_path: Path) -> None:
    # The empty message's digest is printed in FIPS 180-4's examples.
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert file_sha256(path).startswith("e3b0c44298fc1c149afbf4c8996fb924")


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_names_are_safe_and_distinct(first: str, second: str) -> None:
    for text in (first, second):
        name = safe_name(text)
        assert "/" not in name
        assert not name.startswith(".")
        assert name.isascii()
    if first != second:
        assert safe_name(first) != safe_name(second)
