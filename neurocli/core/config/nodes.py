"""YAML as plain values with file and line, its traps closed.

YAML 1.2 scalars only: `1e-3` is a number, `on`, `yes`, `12:30`, `010` and dates stay text; anchors,
aliases, tags and duplicate keys are refused, so a file of a few bytes can neither grow nor run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from neurocli.core.errors import ConfigError, InputError

MAX_BYTES = 1_000_000
_MAX_DEPTH = 32
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}

Scalar = str | int | float | bool | None
Plain = Scalar | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True)
class Leaf:
    """Hold one value that is no mapping, with the place it was written."""

    value: Plain
    origin: str


Tree = dict[str, "Leaf | Tree"]


def read_yaml(path: Path, *, label: str | None = None) -> Tree:
    """Read a YAML mapping from a file.

    Args:
        path: The file; at most one megabyte.
        label: What errors and origins call it; the path by default.

    Raises:
        InputError: The file is missing, no regular file, too large or not UTF-8.
        ConfigError: The text is no plain YAML mapping.
    """
    if not path.is_file():
        raise InputError(path, "no such config file", "see `neuro presets list`")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(path, f"larger than {MAX_BYTES} bytes", "a config is a short file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            path, f"not UTF-8 text at byte {error.start}", "save it as UTF-8"
        ) from error
    return parse_yaml(text, label or str(path))


def parse_yaml(text: str, label: str) -> Tree:
    """Parse a YAML mapping; `label` names it in errors and origins.

    >>> parse_yaml("train: {lr: 1e-3}", "a.yaml")["train"]["lr"].value
    0.001

    Raises:
        ConfigError: The text is no plain YAML mapping.
    """
    node = _compose(text, label)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError([f"{label}:1: expected keys and values"], hint="write `key: value` lines")
    return _mapping(node, label)


def parse_value(text: str, label: str) -> Plain:
    """Parse the right side of `--set KEY=VALUE` as YAML would read it.

    >>> parse_value("[2, 2, 2, 1]", "--set"), parse_value("on", "--set")
    ([2, 2, 2, 1], 'on')

    Raises:
        ConfigError: The text is no plain YAML value.
    """
    node = _compose(text, label)
    return None if node is None else _value(node, label)


def _compose(text: str, label: str) -> yaml.Node | None:
    try:
        _check_events(text, label)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            [f"{label}:{line}: not YAML: {error.problem or error.context}"]
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{label}: not YAML: {' '.join(str(error).split())}"]) from error


def _check_events(text: str, label: str) -> None:
    # The event stream is flat, so depth and aliases are known before anything recurses.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError([f"{label}:{line}: anchors and aliases are not read"])
        tag = getattr(event, "tag", None)
        if tag and tag != "!":
            raise ConfigError([f"{label}:{line}: tag {tag} is not read; write a plain value"])
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError([f"{label}:{line}: nested deeper than {_MAX_DEPTH} levels"])


def _mapping(node: yaml.MappingNode, label: str) -> Tree:
    tree: Tree = {}
    first_line: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError([f"{label}:{line}: a key must be one word"])
        key = key_node.value
        if key in first_line:
            raise ConfigError([f"{label}:{line}: {key}: already given in line {first_line[key]}"])
        first_line[key] = line
        if isinstance(value_node, yaml.MappingNode):
            tree[key] = _mapping(value_node, label)
        else:
            tree[key] = Leaf(_value(value_node, label), f"{label}:{line}")
    return tree


def _value(node: yaml.Node, label: str) -> Plain:
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, label) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return to_plain(_mapping(node, label))
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, label)


def to_plain(tree: Tree) -> dict[str, Plain]:
    """Return the values of a tree without their origins."""
    return {
        key: value.value if isinstance(value, Leaf) else to_plain(value)
        for key, value in tree.items()
    }


def _scalar(node: yaml.ScalarNode, label: str) -> Scalar:
    text: str = node.value
    if node.style is not None:
        return text
    if text.lower() in (".nan", ".inf", "-.inf", "+.inf"):
        raise ConfigError([f"{label}:{node.start_mark.line + 1}: {text}: numbers must be finite"])
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if _INTEGER.match(text):
        return int(text) if len(text) <= 20 else float(text)
    return float(text) if _FLOAT.match(text) and not re.match(r"[-+]?0[0-9]", text) else text


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield every leaf with its dotted key."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Leaf):
            yield dotted, value
        else:
            yield from leaves(value, f"{dotted}.")
