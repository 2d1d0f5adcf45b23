"""Who may speak to other processes: everything else works on one, and asks these."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from source import modules

# A package, or a module, that may import torch.distributed; the one list of them.
ALLOWED = (
    "neurocli.core.engine.parallel",
    "neurocli.core.nn.data_group",
    "neurocli.core.nn.gathered",
    "neurocli.core.nn.global_norm",
    "neurocli.core.nn.sequence_parallel",
)


def uses(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of a module that import torch.distributed or reach it through torch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        if any(f"{name}.".startswith("torch.distributed.") for name in names):
            yield node.lineno


def is_allowed(name: str) -> bool:
    return any(name == owner or name.startswith(f"{owner}.") for owner in ALLOWED)


def test_only_these_speak_to_other_processes() -> None:
    for name, tree in modules().items():
        lines = [] if is_allowed(name) else list(uses(tree))
        assert not lines, f"{name}:{lines[0]} uses torch.distributed; ask {ALLOWED[0]} instead"


@pytest.mark.parametrize("owner", ALLOWED)
def test_the_list_names_none_without_need(owner: str) -> None:
    own = [name for name in modules() if name == owner or name.startswith(f"{owner}.")]
    assert any(any(uses(modules()[name])) for name in own), f"{owner} needs it no more"


@pytest.mark.parametrize(
    "line",
    ["import torch.distributed as dist", "from torch import distributed",
     "from torch.distributed.tensor import DTensor", "torch.distributed.barrier()"],
)  # fmt: skip
def test_every_way_to_it_is_seen(line: str) -> None:
    assert set(uses(ast.parse(line))) == {1}
    assert not list(uses(ast.parse("import torch.distributions")))
