"""Completion scripts from made-up pages: quoting, choices and files in all three shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from neurocli.cli.shells import Choice, Option, Page, bash, fish, zsh

LISTS = {"models": ["m-1", "m_2"], "keys": ["a.b="]}
PAGES = [
    Page((), "", {"run": "Run it's [best]: all", "list": "List"}, (), ()),
    Page(
        ("run",),
        "Run",
        {},
        (
            Option(("-o", "--out"), "Where [to]: it's here", Choice(files=True)),
            Option(("--mode",), "How", Choice(("fast", "slow"))),
            Option(("-s", "--set"), "Keys", Choice(lists=("keys",)), is_repeatable=True),
            Option(("--mask",), "Which", Choice(("auto",), files=True)),
            Option(("--deep",), "All", None),
        ),
        ((Choice(lists=("models",)), False), (Choice(files=True), True)),
    ),
    Page(("list",), "List", {"all": "All of them"}, (), ()),
    Page(("list", "all"), "All of them", {}, (), ((Choice(), False),)),
]
WRITERS = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.mark.parametrize("shell", WRITERS)
def test_odd_signs_keep_the_syntax(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(WRITERS[shell](PAGES, LISTS), encoding="utf-8")
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", WRITERS)
def test_the_same_input_gives_the_same_bytes(shell: str) -> None:
    assert WRITERS[shell](PAGES, LISTS) == WRITERS[shell](list(PAGES), dict(LISTS))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("''", {"run", "list"}),
        ("run ''", {"m-1", "m_2"}),
        ("run --mode ''", {"fast", "slow"}),
        ("run --mode fast m", {"m-1", "m_2"}),
        ("run --deep m", {"m-1", "m_2"}),
        ("run -s ''", {"a.b="}),
        ("run m-1 own.", {"own.txt"}),
        ("run -o own", {"own.txt"}),
        ("run --mask ''", {"auto", "own.txt"}),
        ("run --", {"--out", "--mode", "--set", "--mask", "--deep"}),
        ("list ''", {"all"}),
        ("list all ''", set()),
    ],
)
def test_bash_reads_the_line(words: str, offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "hidden" / "neuro.bash"
    script.parent.mkdir()
    script.write_text(bash(PAGES, LISTS), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    (work / "own.txt").touch()
    line = (
        f"source {script}; COMP_WORDS=(neuro {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "_neuro; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", line], cwd=work, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == offered


def test_zsh_marks_repeatable_and_exclusive_options() -> None:
    text = zsh(PAGES, LISTS)
    assert "'*'{-s,--set}'[Keys]:value:_neuro_list_keys'" in text
    assert "'(-o --out)'{-o,--out}'[Where \\[to\\]\\: it'\\''s here]:value:_files'" in text
    assert "'--mode[How]:value:(fast slow)'" in text
    assert "compadd -S '' -- a.b=" in text


def test_fish_names_the_verb_of_every_option() -> None:
    text = fish(PAGES, LISTS)
    assert (
        "complete -c neuro -n '__fish_seen_subcommand_from run' -l mode -x -a \"fast slow\"" in text
    )
    assert "-s o -l out -r -F -d 'Where [to]: it\\'s here'" in text
    assert "not __fish_seen_subcommand_from all" in text
