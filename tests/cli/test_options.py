"""How typed words become values."""

from __future__ import annotations

import pytest

from neurocli.cli.main import guess_flags
from neurocli.cli.options import given, parse_settings, sizes, whole_numbers, words
from neurocli.cli.output import Flags
from neurocli.core.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    ("text", "found"),
    [(None, ()), ("", ()), ("age", ("age",)), (" age , sex,", ("age", "sex"))],
)
def test_words(text: str | None, found: tuple[str, ...]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("24,42,123", (24, 42, 123)), ("1-4", (1, 2, 3, 4)), ("3,7-8", (3, 7, 8)), ("5-4", ())],
)
def test_whole_numbers(text: str, found: tuple[int, ...]) -> None:
    assert whole_numbers(text, "--seeds") == found


@pytest.mark.parametrize("text", ["a", "1-b", "-3", "1.5", "1--2", "１x"])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="is no whole number") as caught:
        whole_numbers(text, "--seeds")
    assert caught.value.where == "--seeds"


@pytest.mark.parametrize(
    ("text", "found"), [(None, None), ("96,96,96,20", (96, 96, 96, 20)), ("4x4x4", (4, 4, 4))]
)
def test_sizes(text: str | None, found: tuple[int, ...] | None) -> None:
    assert sizes(text, "--input-shape") == found


@pytest.mark.parametrize("text", ["", "0,1", "a", "-1,2", "1.5"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        sizes(text, "--input-shape")


def test_settings_are_read_as_yaml_reads_them() -> None:
    texts = ["a=1e-3", "b=on", "c=[1, 2]", "d=x=y", "e=null", "a=2"]
    assert parse_settings(texts) == {"a": 2, "b": "on", "c": [1, 2], "d": "x=y", "e": None}
    assert parse_settings(None) == {}


@pytest.mark.parametrize("text", ["a", "=1", " =1"])
def test_settings_need_a_name_and_a_sign(text: str) -> None:
    with pytest.raises(UsageError, match="is no setting"):
        parse_settings([text])


def test_settings_run_nothing() -> None:
    with pytest.raises(ConfigError, match="tag"):
        parse_settings(["a=!!python/object/apply:os.system [true]"])


def test_given_drops_none_and_keeps_zero() -> None:
    assert given(a=0, b=None, c=False, d="") == {"a": 0, "c": False, "d": ""}


@pytest.mark.parametrize(
    ("args", "flags"),
    [
        ([], Flags()),
        (["x", "--json", "-q"], Flags("json", quiet=True)),
        (["x", "--quiet"], Flags("quiet", quiet=True)),
        (["x", "--no-color", "--debug"], Flags(color=False, debug=True)),
        (["x", "--", "--json"], Flags()),
    ],
)
def test_the_form_of_an_early_error_is_guessed(args: list[str], flags: Flags) -> None:
    assert guess_flags(args) == flags
