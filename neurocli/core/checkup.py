"""A short test of an installation: numbers, files and one training step of every room.

Each check is small, says what it found, and stands alone: one that breaks is named with its error
and the others still run. Expected values come from slower or wider arithmetic in the same process.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neurocli.core.catalog import RoomCard, rooms
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import cache_dir, durable_write, runs_dir

_SCAN_TOLERANCE = 1e-5
_LOW_SPACE = 1 << 30


@dataclass(frozen=True)
class Check:
    """Hold what became of one check.

    Args:
        name: What was tested.
        is_ok: Whether it works.
        detail: What was found, or what went wrong.
        seconds: Time it took.
    """

    name: str
    is_ok: bool
    detail: str
    seconds: float


def check_installation(listener: Listener = ignore) -> list[Check]:
    """Test the installation on this machine, one check after another, without data or network.

    Args:
        listener: Told of each check as it ends.

    Returns:
        All checks, in order.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("scan against float64", _scan),
        ("checkpoint", _checkpoint),
        ("HDF5", _hdf5),
        ("runs folder", lambda: _folder(runs_dir())),
        ("cache folder", lambda: _folder(cache_dir())),
    ]
    checks += [(f"training step, {room.name}", _step_of(room)) for room in rooms().values()]
    listener(WorkStarted("self-test", len(checks), "checks"))
    done: list[Check] = []
    for name, work in checks:
        began = time.monotonic()
        try:
            is_ok, detail = True, work()
        # Anything may be broken in a broken installation; every finding is told.
        except Exception as error:
            kind = "" if isinstance(error, NeuroError) else f"{type(error).__name__}: "
            is_ok, detail = False, f"{kind}{error}".splitlines()[0]
        done.append(Check(name, is_ok, detail, time.monotonic() - began))
        listener(ItemDone(name, "done" if is_ok else "failed", "" if is_ok else detail))
    listener(WorkFinished("self-test"))
    return done


def _scan() -> str:
    import torch

    from neurocli.core.nn.ssd import ssd_scan

    gen = torch.Generator().manual_seed(0)
    x = torch.randn(1, 100, 2, 8, generator=gen)
    dt = torch.rand(1, 100, 2, generator=gen) * 0.2
    maps = torch.randn(2, 1, 100, 1, 4, generator=gen)
    rates = -torch.tensor([1.0, 8.0])
    found = ssd_scan(x, dt, rates, maps[0], maps[1], 64)
    assert isinstance(found, torch.Tensor)
    # The recurrence as it is written down, token by token in double precision.
    state, wanted = torch.zeros(2, 8, 4, dtype=torch.float64), []
    for t in range(100):
        step = dt[0, t].double()
        state = state * (step * rates.double()).exp()[:, None, None] + torch.einsum(
            "h,hp,n->hpn", step, x[0, t].double(), maps[0][0, t, 0].double()
        )
        wanted.append(torch.einsum("hpn,n->hp", state, maps[1][0, t, 0].double()))
    exact = torch.stack(wanted)
    error = float((found[0].double() - exact).abs().max() / exact.abs().max())
    if not error < _SCAN_TOLERANCE:
        raise NeuroError(f"differs from double precision by {error:.1e} of the largest value")
    return f"differs by {error:.1e} of the largest value"


def _checkpoint() -> str:
    import torch

    from neurocli.core.engine.checkpoint import load_checkpoint, save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        weights = torch.randn(64, 64)
        path = save_checkpoint(Path(folder) / "a.pth", {"state_dict": {"w": weights}})
        if not torch.equal(load_checkpoint(path)["state_dict"]["w"], weights):
            raise NeuroError("weights came back changed")
        path.write_bytes(path.read_bytes()[:-100])
        try:
            load_checkpoint(path)
        except NeuroError:
            return "came back equal; a cut one is refused"
    raise NeuroError("a damaged checkpoint was not noticed")


def _hdf5() -> str:
    import numpy as np
    from h5py.version import hdf5_version, version

    from neurocli.core.data.hdf5 import create, h5_dataset, h5_read, open_h5, write_h5

    values = np.arange(4096, dtype=np.int16).reshape(16, 16, 16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        options = {"chunks": (4, 16, 16), "compression": "gzip"}
        write_h5(path, lambda file: create(file, "a", values, **options))
        with open_h5(path) as file:
            if not np.array_equal(h5_read(h5_dataset(file, "a")), values):
                raise NeuroError("numbers came back changed")
    return f"came back equal; h5py {version}, HDF5 {hdf5_version}"


def _folder(folder: Path) -> str:
    """Write and rename a file in a folder, or where it would be made."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    with tempfile.TemporaryDirectory(dir=there, prefix=".neuro-check-") as own:
        target = durable_write(Path(own) / "a", b"1")
        durable_write(target, b"2")
        if target.read_bytes() != b"2":
            raise NeuroError("what was written did not come back", where=str(there))
    free = shutil.disk_usage(there).free
    told = f"{folder} is writable, {free / (1 << 30):.1f} GiB free"
    return f"{told}: little for checkpoints" if free < _LOW_SPACE else told


def _step_of(room: RoomCard) -> Callable[[], str]:
    def step() -> str:
        import torch

        from neurocli.core.cost.flops import scalar_of
        from neurocli.core.cost.target import find_target

        target = find_target(room.models[0].name, preset=f"{room.name}/tiny")
        torch.manual_seed(0)
        model, example = target.build().train(), target.example()
        torch.autograd.backward(scalar_of(model(example)))
        grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
        size = math.sqrt(sum(float(grad.double().square().sum()) for grad in grads))
        n_numbers = sum(weight.numel() for weight in model.parameters())
        if not (grads and math.isfinite(size) and size > 0):
            raise NeuroError(f"the gradient of {target.name} has size {size}")
        if n_numbers != target.count_parameters():
            raise NeuroError(
                f"{target.name} has {n_numbers} numbers, its formula {target.count_parameters()}"
            )
        return f"{target.name}, {n_numbers} numbers, gradient of size {size:.2g}"

    return step
