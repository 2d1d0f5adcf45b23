"""The package's public names: lazy, complete, and equal for reader, type checker and run time."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import neurocli

CONTRACT = (
    *("load_config", "train", "evaluate", "load_model", "preprocess", "convert_hdf5"),
    *("make_split", "align_genes", "count_flops", "profile", "make_report", "list_models"),
    "list_presets",
)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_name_of_the_contract_resolves(name: str) -> None:
    found = getattr(neurocli, name)
    assert callable(found)
    assert found is getattr(import_module(neurocli._HOMES[name]), name)
    assert name in dir(neurocli)
    assert name in neurocli.__all__


def test_the_type_checker_sees_the_same_homes() -> None:
    tree = ast.parse(Path(neurocli.__file__).read_text(encoding="utf-8"))
    twin = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module
        for statement in twin.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == neurocli._HOMES
    assert set(neurocli.__all__) == {*seen, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        neurocli.trian  # noqa: B018


def test_the_version_is_text_with_a_number() -> None:
    assert neurocli.__version__[0].isdigit()
