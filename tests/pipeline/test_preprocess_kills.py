"""Preparation killed anywhere: the same command ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prepared_tree import check_whole, tree
from run_files import bold, write_nifti

from neurocli import preprocess
from neurocli.core.data.items import PrepareResult
from neurocli.systems.fmri.store import open_store

_CALLS = ("fsync", "replace", "rename", "mkdir", "write", "unlink", "rmdir")


def killed_at(step: int, work: Callable[[], object], lock: Path) -> bool:
    """Do some work in a child that is killed before its n-th call that changes the disk.

    Calls count from the moment on when the folder is locked; the lock has tests of its own.

    Returns:
        Whether the work came to its end before that.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += count > 0 or (lock.exists() and lock.stat().st_size > 0)
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        for name in _CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def test_killed_anywhere_the_same_command_ends_the_same(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for index in range(2):
        write_nifti(source / f"run{index}.nii.gz", bold((8, 9, 10), 3, seed=index))
    (source / "bad.nii").write_bytes(b"x")

    def work(out: Path) -> PrepareResult:
        return preprocess("nifti", source, out=out)

    result = work(tmp_path / "whole")
    wanted = tree(tmp_path / "whole")
    check_whole(tmp_path / "whole", result)
    out = tmp_path / "out"
    for step in range(1, 200):
        shutil.rmtree(out, ignore_errors=True)
        ended = killed_at(step, lambda: work(out), out / ".lock")
        # Whatever stands under a final name is whole.
        for path in out.glob("run?/bold.h5"):
            with open_store(path) as store:
                store.read_packed(slice(None))
            assert (
                hashlib.sha256(path.read_bytes()).hexdigest()
                == wanted[f"{path.parent.name}/bold.h5"]
            )
        work(out)
        assert tree(out) == wanted, f"killed before call {step}"
        if ended:
            break
    assert 20 < step < 199


def test_killed_while_replacing_stale_items(tmp_path: Path) -> None:
    source = tmp_path / "in"
    before, after = (bold((8, 9, 10), 3, seed=seed) for seed in (1, 2))

    def work(out: Path) -> PrepareResult:
        return preprocess("nifti", source, out=out)

    write_nifti(source / "run.nii.gz", before)
    work(tmp_path / "old")
    write_nifti(source / "run.nii.gz", after)
    work(tmp_path / "new")
    wanted = tree(tmp_path / "new")
    out = tmp_path / "out"
    for step in range(1, 100):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "old", out)
        ended = killed_at(step, lambda: work(out), out / ".lock")
        work(out)
        assert tree(out) == wanted, f"killed before call {step}"
        if ended:
            break
    assert 10 < step < 99


def test_killed_at_random_with_workers(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "in"
    for index in range(6):
        write_nifti(source / f"run{index}.nii.gz", bold(seed=index))
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = (
        "import neurocli,sys; neurocli.preprocess('nifti', sys.argv[1], out=sys.argv[2], jobs=2)"
    )
    for n_lines in (1, 2, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", command, str(source), str(out)],
            cwd=root,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        manifest = out / "manifest.jsonl"
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= n_lines:
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    preprocess("nifti", source, out=whole)
    preprocess("nifti", source, out=out)
    assert tree(out) == tree(whole)
