"""Imports go down only, no room knows another, nothing runs in circles."""

from __future__ import annotations

import sys

import pytest
from source import imports, modules

# From the ground up; a package may import those before it. Packages inside one tuple are peers
# that do not import each other. engine is above nn and cohort; the public doors may use both.
ORDER = [
    {"errors", "names", "types", "events", "heap"},
    {"paths", "catalog", "listing", "later"},
    {"config"},
    {"data"},
    {"nn", "cohort"},
    {"metrics"},
    {"engine", "infer"},
    {"cost"},
    {"experiment"},
    {"report", "checkup"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# The catalog of models reads config blocks to list their keys.
LISTING = {"neurocli.core.listing"}
TORCH_FREE = ("neurocli.core.config", "neurocli.cli")
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "h5py",
    "nibabel",
    "monai",
    "sklearn",
    "scipy",
    "matplotlib",
    "deepspeed",
}


def floor(name: str) -> int:
    if name.startswith("neurocli.cli") or name in ("neurocli", "neurocli.__main__"):
        return 2
    return 1 if name.startswith("neurocli.systems.") else 0


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down(name: str) -> None:
    for target, line in imports(name):
        assert floor(target) <= floor(name), f"{name}:{line} imports {target} from a floor above"


@pytest.mark.parametrize("name", sorted(n for n in modules() if n.startswith("neurocli.systems.")))
def test_no_room_imports_a_room(name: str) -> None:
    own = name.split(".")[2]
    for target, line in imports(name):
        if target.startswith("neurocli.systems."):
            assert target.split(".")[2] == own, f"{name}:{line} imports the room of {target}"


def core_level(name: str) -> int | None:
    parts = name.split(".")
    return LEVEL[parts[2]] if len(parts) > 2 and parts[1] == "core" else None


@pytest.mark.parametrize("name", sorted(n for n in modules() if n.startswith("neurocli.core.")))
def test_core_packages_keep_their_order(name: str) -> None:
    level = core_level(name)
    assert level is not None
    for target, line in imports(name):
        other = core_level(target)
        if name in LISTING or other is None:
            continue
        same_package = target.split(".")[2] == name.split(".")[2]
        below = other < level or (other == level and level <= 1)
        assert same_package or below, f"{name}:{line} imports {target}, which is not below it"


def test_core_names_no_room() -> None:
    for name in modules():
        if name.startswith("neurocli.core."):
            for target, line in imports(name):
                assert not target.startswith("neurocli.systems."), f"{name}:{line} knows {target}"


def test_no_cycles() -> None:
    graph = {
        name: {target for target, _ in imports(name, top_level_only=True)} - {name}
        for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    sys.setrecursionlimit(5000)
    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "name",
    sorted(
        n
        for n in modules()
        if n.startswith(TORCH_FREE) or n.rpartition(".")[2] in ("card", "config")
    ),
)
def test_no_heavy_import_at_the_top(name: str) -> None:
    import ast

    for node in modules()[name].body:
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            targets = [node.module]
        for target in targets:
            assert target.partition(".")[0] not in HEAVY, f"{name}:{node.lineno} imports {target}"
