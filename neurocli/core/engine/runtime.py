"""The process around a run: device, seeds, random state, signals, versions.

Nothing here knows what is trained. Everything random that the loop uses is one of four generators
(python, numpy, torch on the CPU, torch on the device), saved and restored together.
"""

from __future__ import annotations

import contextlib
import platform
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from importlib import metadata
from types import FrameType
from typing import Any, Self

import numpy as np
import torch
import torch.utils.deterministic

from neurocli.core.errors import ExitCode, MissingDependencyError, NeuroError
from neurocli.core.names import lookup

_DETERMINISM: Any = torch.utils.deterministic  # a class in a module's place, unknown to checkers
_PACKAGES = (
    "neurocli", "torch", "numpy", "scipy", "nibabel", "h5py", "scikit-learn", "pandas", "monai",
    "pydantic", "safetensors", "nilearn", "mamba-ssm", "causal-conv1d", "tensorboard",
)  # fmt: skip


def pick_device(name: str) -> torch.device:
    """Return the device to compute on.

    Args:
        name: cpu, cuda, mps, xpu, or auto (the first accelerator there is, else the CPU).

    Returns:
        The device; whoever asked for auto tells the user what it became.

    Raises:
        MissingDependencyError: The accelerator asked for is absent.
        UsageError: No such device name.
    """
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if name == "auto":
        return torch.device(next((key for key in ("cuda", "mps", "xpu") if present[key]), "cpu"))
    if not lookup("device", name, present):
        raise MissingDependencyError(
            f"no {name} device can be used by torch {torch.__version__} on this machine",
            where="--device",
            hint="use --device cpu, or install the torch build for this accelerator",
        )
    return torch.device(name)


def set_threads(n_threads: int | None) -> None:
    """Set how many CPU threads torch uses; None leaves its choice."""
    if n_threads is not None:
        torch.set_num_threads(n_threads)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Have torch take deterministic kernels on the CPU while the context is open.

    Exact resume rests on it. Other devices lack such a form of some kernels, so nothing is
    promised there and nothing is slowed down.
    """
    before = torch.are_deterministic_algorithms_enabled()
    filled = _DETERMINISM.fill_uninitialized_memory
    torch.use_deterministic_algorithms(before or device.type == "cpu", warn_only=True)
    # Filling every new tensor with NaN costs time and changes no result of a correct program.
    _DETERMINISM.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        _DETERMINISM.fill_uninitialized_memory = filled


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (all devices) with `seed`, >= 0."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # numpy takes 32 bits
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of every global generator as tensors and plain values.

    Args:
        device: Device of the run; its generator is included when it is not the CPU's.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (
            str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position), int(has_gauss), float(gauss),
        ),
        "torch": torch.get_rng_state(),
    }  # fmt: skip
    if device.type != "cpu":
        state["device"] = {
            "type": device.type,
            "state": torch.get_device_module(device).get_rng_state(),
        }
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Take back what `rng_state` gave; an absent device's part is passed over.

    Args:
        state: Value of `rng_state`, also after a round trip through a checkpoint.
    """
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    saved = state.get("device")
    if saved is not None:
        module = torch.get_device_module(saved["type"])
        # A run may go on without the GPU it had; its result is then near, not equal.
        if module.is_available():
            module.set_rng_state(saved["state"].cpu())


def to_device(value: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on `device`; mappings are walked, all else is kept."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    return value


@contextlib.contextmanager
def memory_named(work: str) -> Iterator[None]:
    """Turn a lack of memory inside the context into an error that says what to do.

    Args:
        work: What was being done, such as "step 12".

    Raises:
        NeuroError: Memory ran out, on the device or on the CPU.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On the CPU torch has no type of its own for it, only a text.
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and (
            "allocate memory" not in str(error)
        ):
            raise
        raise NeuroError(
            f"memory ran out in {work}",
            hint="lower --batch-size (with --accumulate the result stays the same), or take "
            "--precision bf16",
        ) from error


class StopSignal:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGHUP into a flag while the context is open.

    The handler only remembers, so a step is never cut in half. A second signal raises
    KeyboardInterrupt at once, for a user who will not wait. A hang-up that is already ignored
    (nohup) stays ignored. Outside the main thread nothing is installed and the flag stays down.
    """

    def __init__(self) -> None:
        self.code: ExitCode | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        """Return whether a stop was asked for."""
        return self.code is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
                self._take(getattr(signal, name, None))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _take(self, number: signal.Signals | None) -> None:
        if number is None:
            return
        before = signal.getsignal(number)
        if number.name != "SIGHUP" or before is not signal.SIG_IGN:
            # None means the handler came from C code and cannot be put back as it was.
            self._before[number] = signal.SIG_DFL if before is None else before
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self:
            raise KeyboardInterrupt
        self.code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that can change a result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment_record() -> dict[str, Any]:
    """Return what a reader needs to judge a result: versions, devices, threads.

    No host, user or path is in it, so that a run folder can be shared.
    """
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": package_versions(),
        "torch_threads": torch.get_num_threads(),
        "devices": ["cpu", *names],
        "cuda": torch.version.cuda,
    }
