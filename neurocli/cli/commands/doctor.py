"""`neuro doctor`: what is installed, what is missing, and what a missing part would give."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from neurocli.cli.output import Table, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.cli.views import facts

REQUIRED = (
    *("typer", "rich", "pydantic", "pyyaml", "torch", "numpy", "scipy", "nibabel", "h5py"),
    *("scikit-learn", "pandas", "monai", "matplotlib", "jinja2", "safetensors", "nilearn"),
    *("thop", "psmpy", "einops"),
)

EXTRAS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "mpi": (("mpi4py", "openmpi"), "convert-hdf5 under mpiexec"),
    "deepspeed": (("deepspeed",), "train --parallel deepspeed, flops --engine deepspeed"),
    "mamba": (("mamba-ssm", "causal-conv1d"), "faster Mamba-2 on CUDA, equal in result"),
    "tensorboard": (("tensorboard",), "training curves in TensorBoard"),
    "fast": (("isal", "polars"), "faster gzip and tables"),
    "cebra": (("cebra",), "the referee of the calcium tests"),
    "dev": (("pytest", "ruff", "mypy"), "tests and checks of this project"),
}

FOLDERS = ("NEURO_DATA", "NEURO_RUNS", "NEURO_CACHE")

app = new_group()


@add_verb(
    app,
    "doctor",
    """
neuro doctor
neuro doctor --json
""",
)
def doctor() -> int:
    """Say what is installed and what is missing.

    A missing extra is no fault: the line says what it would give and how to get it.
    """
    from neurocli import __version__

    packages = {name: installed(name) for name in REQUIRED}
    extras = {name: _extra(name) for name in EXTRAS}
    devices = find_devices() if packages["torch"] else []
    values = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "extras": extras,
        "devices": devices,
        "folders": {name: os.environ.get(name) for name in FOLDERS},
    }
    output = sink()
    output.show("doctor", values, main=sys.executable, view=_view(values))
    for name, found in packages.items():
        if found is None:
            output.note(f"{name} is missing; pip install neurocli", "warning")
    return 0


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def find_devices() -> list[dict[str, Any]]:
    """Return where torch can compute, the processor first."""
    import torch  # seconds; nothing else of this command needs it

    found = [{"device": "cpu", "name": platform.processor() or platform.machine()}]
    found += [
        {"device": f"cuda:{index}", "name": torch.cuda.get_device_name(index)}
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    if torch.xpu.is_available():
        found.append({"device": "xpu", "name": torch.xpu.get_device_name(0)})
    return found


def _extra(name: str) -> dict[str, Any]:
    distributions, gives = EXTRAS[name]
    versions = {distribution: installed(distribution) for distribution in distributions}
    return {
        "installed": all(versions.values()),
        "gives": gives,
        "install": f'pip install "neurocli[{name}]"',
        "packages": versions,
    }


def _view(values: Mapping[str, Any]) -> list[Table | str]:
    # Only a missing extra needs a line to copy.
    extras = [
        (name, "installed" if about["installed"] else "missing", about["gives"],
         None if about["installed"] else about["install"])
        for name, about in values["extras"].items()
    ]  # fmt: skip
    return [
        facts((key, values[key]) for key in ("version", "python", "platform", "cores")),
        Table(("package", "version"), list(values["packages"].items())),
        Table(("extra", "is", "gives", "how to get it"), extras),
        Table(("device", "name"), [tuple(device.values()) for device in values["devices"]]),
        facts((f"${name}", folder or "not set") for name, folder in values["folders"].items()),
    ]
