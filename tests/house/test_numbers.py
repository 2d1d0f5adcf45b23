"""The numbers the house lives by: lengths, parameters, docstrings, printing, unsafe calls."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

import pytest
from source import body_lines, file_of, functions, modules

MAX_LINES = 350
MAX_FUNCTION = 60
MAX_FIT = 120
MAX_PARAMETERS = 8
# Signatures that are a published contract, or one flag per parameter.
WIDE = {
    ("neurocli.core.nn.ssd", "ssd_scan"),
    ("neurocli.core.nn.mamba2", "__init__"),
    ("neurocli.systems.fmri.models.fmamba", "__init__"),
}
UNSAFE = {"eval", "exec", "__import__", "compile"}


def public_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield public functions and classes of a module, and public methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield inner


@pytest.mark.parametrize("name", sorted(modules()))
def test_lengths(name: str) -> None:
    lines = len(file_of(name).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name} has {lines} lines"
    for node in functions(modules()[name]):
        limit = MAX_FIT if node.name == "fit" else MAX_FUNCTION
        assert body_lines(node) <= limit, f"{name}.{node.name} has {body_lines(node)} lines"


def test_files_of_tests_stay_as_short() -> None:
    folder = file_of("neurocli").parents[1] / "tests"
    lengths = {
        str(path.relative_to(folder)): len(path.read_text(encoding="utf-8").splitlines())
        for path in folder.rglob("*.py")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("name", sorted(modules()))
def test_parameters(name: str) -> None:
    if name.startswith("neurocli.cli.commands"):
        return  # a command has one parameter per flag
    for node in functions(modules()[name]):
        arguments = node.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
        if (name, node.name) not in WIDE:
            assert count <= MAX_PARAMETERS, f"{name}.{node.name} takes {count} parameters"


@pytest.mark.parametrize("name", sorted(modules()))
def test_docstrings(name: str) -> None:
    tree = modules()[name]
    assert ast.get_docstring(tree), f"{name} has no docstring"
    for node in public_nodes(tree):
        assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"


@pytest.mark.parametrize("name", sorted(modules()))
def test_raises_are_documented(name: str) -> None:
    if name.startswith("neurocli.cli.commands"):
        return  # a command's docstring is its help page
    for node in public_nodes(modules()[name]):
        if not isinstance(node, ast.FunctionDef):
            continue
        raised = [
            inner
            for inner in ast.walk(node)
            if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call)
        ]
        if raised:
            text = ast.get_docstring(node) or ""
            assert "Raises:" in text, f"{name}.{node.name} raises and does not say so"


@pytest.mark.parametrize("name", sorted(n for n in modules() if not n.startswith("neurocli.cli")))
def test_only_the_command_line_prints(name: str) -> None:
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{name}:{node.lineno} prints"


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_runs_code_from_data(name: str) -> None:
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or node.names[0].name
            assert module.partition(".")[0] not in ("pickle", "joblib", "dill", "marshal"), name
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert called not in UNSAFE, f"{name}:{node.lineno} calls {called}"
        assert keywords.get("allow_pickle", "False") == "False", f"{name}:{node.lineno}"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", f"{name}:{node.lineno}"
        assert called not in ("yaml.load", "yaml.unsafe_load", "np.load"), f"{name}:{node.lineno}"


def test_files_and_functions_stay_small_on_the_whole() -> None:
    lengths = [len(file_of(name).read_text(encoding="utf-8").splitlines()) for name in modules()]
    bodies = sorted(body_lines(node) for tree in modules().values() for node in functions(tree))
    assert statistics.median(lengths) <= 160
    assert statistics.median(bodies) <= 10
    assert bodies[int(0.9 * len(bodies))] <= 30


def test_tests_are_as_long_as_the_code() -> None:
    code = sum(len(file_of(name).read_text(encoding="utf-8").splitlines()) for name in modules())
    root = file_of("neurocli").parents[1]
    tests = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in (root / "tests").rglob("*.py")
    )
    assert tests / code >= 0.7, f"{tests} lines of tests for {code} lines of code"
