"""YAML's traps are closed: expected values are those of YAML 1.2's core schema, by hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from neurocli.core.config.nodes import leaves, parse_value, parse_yaml, read_yaml, to_plain
from neurocli.core.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3E4", 30000.0),
        (".5", 0.5),
        ("-7", -7),
        ("010", "010"),
        ("12:30", "12:30"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("on", "on"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("[6, 6, 6, 1]", [6, 6, 6, 1]),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    got = parse_value(text, "--set")
    assert got == value
    assert type(got) is type(value)


def test_leaves_know_their_line() -> None:
    tree = parse_yaml("# head\ntrain:\n  lr: 1e-3\n  betas: [0.9, 0.99]\n", "a.yaml")
    found = {key: (leaf.value, leaf.origin) for key, leaf in leaves(tree)}
    assert found == {
        "train.lr": (0.001, "a.yaml:3"),
        "train.betas": ([0.9, 0.99], "a.yaml:4"),
    }
    assert to_plain(tree) == {"train": {"lr": 0.001, "betas": [0.9, 0.99]}}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\na: 2\n", "a.yaml:2: a: already given in line 1"),
        ("a: &x 1\nb: *x\n", "anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", "tag"),
        ("- 1\n- 2\n", "expected keys"),
        ("a: [1, 2\n", "not YAML"),
        ("a: .nan\n", "finite"),
        ("[1]: 2\n", "not YAML|one word"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper"),
        ("a: \x00", "not YAML"),
    ],
)
def test_refusals_name_the_place(text: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "a.yaml")
    assert any(part in str(caught.value) for part in word.split("|")), str(caught.value)


def test_bombs_end_at_once(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"k{i}: &b{i} [*a, *a]\n" for i in range(50))
    deep = "a: " + "[" * 100_000
    began = time.monotonic()
    for text in (bomb, deep):
        with pytest.raises(ConfigError):
            parse_yaml(text, "bomb.yaml")
    assert time.monotonic() - began < 5
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: 1\n" * 300_000)
    with pytest.raises(InputError, match="larger"):
        read_yaml(large)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: caf\xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(path)
    with pytest.raises(InputError, match="no such"):
        read_yaml(tmp_path / "absent.yaml")
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert to_plain(read_yaml(path)) == {"a": 1}
