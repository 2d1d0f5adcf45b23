"""The layout of help pages and the options that every verb shares, on a small application."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer

from neurocli.cli.options import switch, value
from neurocli.cli.output import Flags, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.core.errors import UsageError

app = new_group("Do things.", "tool one x")
SEEN: list[tuple[Flags, dict[str, Any]]] = []


@add_verb(app, "one", "tool one x --size 3", before="Kinds:\n  a\n\n")
def one(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="MORE", help="Others.")] = None,
    *,
    out: Annotated[str, value("FILE", "Where to.", "Run", "--out", "-o")],
    size: Annotated[int, value("N", "How big.")] = 2,
    deep: Annotated[bool, switch("--deep", "All of it.", "Depth")] = False,
) -> int:
    """Do one thing.

    In a second paragraph.
    """
    SEEN.append((sink().flags, {"name": name, "more": more, "out": out, "size": size}))
    return 3


@add_verb(app, "two", "tool two")
def two() -> int:
    """Do the other thing."""
    return 0


def _run(*words: str) -> Any:
    return typer.main.get_command(app)(args=list(words), prog_name="tool", standalone_mode=False)


PAGE = """\
Usage: tool one -o FILE [OPTIONS] NAME [MORE]...

  Do one thing.

  In a second paragraph.

Arguments:
  NAME             Which one.
  MORE...          Others.

Options:
      --size N     How big. [default: 2]

Depth:
      --deep       All of it.

Run:
  -o, --out FILE   Where to. [required]

Output:
      --json       One JSON object on stdout.
  -q, --quiet      Only the main output's path.
  -v, --verbose    More notes; -vv logs.
      --no-color   No colours.
      --debug      Show a traceback on errors.
  -h, --help       Show this message and exit.

Kinds:
  a

Examples:
  tool one x --size 3
"""


def test_a_page_as_a_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert _run("one", "-h") == 0
    assert capsys.readouterr().out.split() == PAGE.split()
    _run("one", "--help")
    page = capsys.readouterr().out
    assert [line.split()[:1] for line in page.splitlines()] == [
        line.split()[:1] for line in PAGE.splitlines()
    ]


def test_a_group_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    _run("-h")
    page = capsys.readouterr().out
    assert "Commands:\n  one         Do one thing.\n  two         Do the other thing.\n" in page


def test_the_code_of_a_verb_is_passed_on() -> None:
    assert _run("one", "x", "-o", "f") == 3
    assert _run("two") == 0


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], Flags()),
        (["--json"], Flags("json")),
        (["-q"], Flags("quiet", quiet=True)),
        (["-q", "--json"], Flags("json", quiet=True)),
        (["-vv", "--no-color", "--debug"], Flags(verbosity=2, color=False, debug=True)),
    ],
)
def test_shared_options_set_the_sink_and_reach_no_verb(words: list[str], flags: Flags) -> None:
    SEEN.clear()
    _run("one", "x", "y", "z", "-o", "f", *words)
    assert [(flags, {"name": "x", "more": ["y", "z"], "out": "f", "size": 2})] == SEEN


def test_an_unknown_verb_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown command 'tow'; did you mean two") as caught:
        _run("tow")
    assert "see `tool -h`" in str(caught.value.hint)
