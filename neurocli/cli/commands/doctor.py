"""`neuro doctor`: what is installed, what is missing, and what a missing part would give."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated, Any

from neurocli.cli.options import switch
from neurocli.cli.output import Table, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.views import facts
from neurocli.core.errors import ExitCode

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
neuro doctor --self-test
neuro doctor --self-test --json
""",
)
def doctor(
    self_test: Annotated[
        bool, switch("--self-test", "Also try numbers, files and each room, in about 10 s.")
    ] = False,
) -> int:
    """Say what is installed and what is missing.

    With --self-test also whether it works. A missing extra is no fault: the line says what it
    would give and how to get it. A missing or too old package ends with 4, a failed check with 1.
    """
    from neurocli import __version__

    packages = {name: installed(name) for name in REQUIRED}
    faults = _faults(packages)
    checks = _checks() if self_test else []
    values = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "extras": {name: _extra(name) for name in EXTRAS},
        "devices": find_devices() if packages["torch"] else [],
        "folders": {name: os.environ.get(name) for name in FOLDERS},
        "faults": faults,
        "checks": checks,
    }
    output = sink()
    output.show("doctor", values, main=sys.executable, view=_view(values))
    for fault in faults:
        output.note(fault, "warning")
    broken = [check["name"] for check in checks if not check["is_ok"]]
    for name in broken:
        output.note(f"the check '{name}' failed", "warning")
    if not self_test:
        output.hint("`neuro doctor --self-test` tries it")
    return ExitCode.MISSING_DEPENDENCY if faults else ExitCode.FAILED if broken else ExitCode.DONE


def _checks() -> list[dict[str, Any]]:
    from neurocli.core.checkup import check_installation

    with progress() as listener:
        return [asdict(check) for check in check_installation(listener)]


def _faults(packages: Mapping[str, str | None]) -> list[str]:
    """Return what is missing or older than this program asks for."""
    faults = [
        f"{name} is missing; pip install neurocli" for name, found in packages.items() if not found
    ]
    for name, least in _least_versions().items():
        found = packages.get(name)
        if found and _numbers(found) < _numbers(least):
            faults.append(f"{name} {found} is too old; pip install '{name}>={least}'")
    return faults


def _least_versions() -> dict[str, str]:
    try:
        asked = requires("neurocli") or []
    except PackageNotFoundError:  # run from its source, without being installed
        return {}
    plain = [text for text in asked if "extra ==" not in text]
    found = [re.match(r"([A-Za-z0-9_.-]+).*>=([0-9.]+)", text) for text in plain]
    return {match[1]: match[2] for match in found if match}


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(\.[0-9]+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


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
        *([_check_table(values["checks"])] if values["checks"] else []),
        facts((f"${name}", folder or "not set") for name, folder in values["folders"].items()),
    ]


def _check_table(checks: list[dict[str, Any]]) -> Table:
    rows = [
        (check["name"], "works" if check["is_ok"] else "FAILS", check["detail"], check["seconds"])
        for check in checks
    ]
    return Table(("check", "", "found", "seconds"), rows)
