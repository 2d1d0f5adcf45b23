"""Every help page: it runs, fits 80 columns, and its examples are command lines that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from neurocli.cli.app import COMMANDS, build_app, load_command
from neurocli.core.catalog import datasets, models, resolve
from neurocli.core.config.presets import presets
from neurocli.core.listing import accepted

CONTRACT = (
    *("preprocess", "convert-hdf5", "split", "train", "evaluate", "flops", "profile"),
    *("align-genes", "report", "models", "presets", "config", "doctor"),
)
WRITING = ("preprocess", "convert-hdf5", "split", "train", "evaluate", "align-genes", "report")


def _pages() -> Iterator[tuple[str, ...]]:
    yield ()
    for row in COMMANDS:
        yield (row.name,)
        for verb in getattr(load_command(row), "commands", {}):
            yield row.name, verb


PAGES = list(_pages())
VERBS = [page for page in PAGES if page not in {(), ("models",), ("presets",), ("config",)}]


def _examples(text: str) -> list[str]:
    return [line.strip() for line in text.partition("Examples:\n")[2].splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_page_fits_80_columns_and_h_equals_help(neuro: Any, page: tuple[str, ...]) -> None:
    short, long = neuro(*page, "-h"), neuro(*page, "--help")
    assert short.code == long.code == 0
    assert short.out == long.out
    assert short.err == ""
    assert max(map(len, short.out.splitlines())) <= 80
    assert _examples(short.out)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_examples_are_command_lines_that_parse(neuro: Any, page: tuple[str, ...]) -> None:
    root = build_app()
    for line in _examples(neuro(*page, "-h").out):
        for words in _command_lines(line):
            if {"-h", "--help"} & set(words):
                continue
            with root.make_context("neuro", list(words)) as context:
                name, command, rest = root.resolve_command(context, [*words])
                while getattr(command, "commands", None):
                    name, command, rest = command.resolve_command(context, rest)
                command.make_context(name, rest, parent=context)


def _command_lines(line: str) -> list[list[str]]:
    # `neuro a "$(neuro b)" | jq` holds two command lines; each must parse by itself.
    inner = re.findall(r"\$\((neuro [^)]*)\)", line)
    outer = re.sub(r"\$\([^)]*\)", "made.pth", line)
    outer = re.sub(r"^torchrun .* -m neurocli ", "neuro ", outer)
    plain = [re.split(r" [|#] ", text)[0] for text in [outer, *inner]]
    return [shlex.split(text.partition(" #")[0])[1:] for text in plain]


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_examples_name_what_exists(neuro: Any, page: tuple[str, ...]) -> None:
    known = {*models(), *presets(), *datasets()}
    for line in _examples(neuro(*page, "-h").out):
        for words in _command_lines(line):
            named = [word for word in words if re.match(r"fmamba|fmri/", word) and "*" not in word]
            assert set(named) <= known, line
            if words[:1] == ["preprocess"]:
                assert words[1] in datasets()


@pytest.mark.parametrize("page", VERBS, ids=" ".join)
def test_shared_options_are_everywhere(neuro: Any, page: tuple[str, ...]) -> None:
    text = neuro(*page, "-h").out
    for option in ("--json", "-q, --quiet", "-v, --verbose", "--no-color", "--debug"):
        assert option in text


@pytest.mark.parametrize("name", WRITING)
def test_commands_that_write_have_out_force_and_dry_run(neuro: Any, name: str) -> None:
    text = neuro(name, "-h").out
    assert all(option in text for option in ("-o, --out", "--force", "--dry-run"))


def test_root_lists_every_command_of_the_contract_once(neuro: Any) -> None:
    listed = re.findall(r"^  ([a-z][a-z0-9-]+) {2,}\S", neuro("-h").out, flags=re.MULTILINE)
    assert tuple(listed) == CONTRACT


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_root_summary_is_the_first_sentence_of_the_page(neuro: Any, row: Any) -> None:
    assert f"\n  {row.summary}\n" in neuro(row.name, "-h").out


def test_one_word_means_one_option_everywhere() -> None:
    seen: dict[str, tuple[str, ...]] = {}
    for row in COMMANDS:
        command = load_command(row)
        for verb in [command, *getattr(command, "commands", {}).values()]:
            for param in verb.params:
                for name in param.opts if param.param_type_name == "option" else ():
                    assert seen.setdefault(name, tuple(param.opts)) == tuple(param.opts), row.name


def test_help_names_every_scaling_of_the_rooms(neuro: Any) -> None:
    # The page is static so that it costs no import; this keeps it from growing old.
    text = " ".join(neuro("preprocess", "-h").out.split())
    for _, row in datasets().values():
        block = resolve(row.options)
        if "scaling" not in block.model_fields:
            continue  # a room that scales in one way only
        for choice in accepted(block.model_fields["scaling"].annotation).split(" | "):
            assert choice in text
        spaces = accepted(block.model_fields["space"].annotation).replace(" ", "")
        assert f"--space {spaces}" in text


def test_dataset_rows_are_on_the_page(neuro: Any) -> None:
    text = neuro("preprocess", "-h").out
    assert all(f"  {name} " in text for name in datasets())


def test_required_options_stand_in_the_usage_line(neuro: Any) -> None:
    assert "Usage: neuro split -o FILE [OPTIONS] TABLE_OR_DATA\n" in neuro("split", "-h").out


def test_no_arguments_show_the_page(neuro: Any) -> None:
    bare = neuro()
    assert bare.code == 2
    assert bare.out == neuro("-h").out
    assert bare.err == ""


def test_version(neuro: Any) -> None:
    answer = neuro("--version")
    assert answer.code == 0
    assert re.fullmatch(r"neuro \d\S*\n", answer.out)


def test_forced_colour_reaches_a_pipe_and_no_color_wins(
    neuro: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = neuro("train", "-h").out
    assert "\x1b[" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    colored = neuro("train", "-h").out
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert neuro("train", "-h").out == plain
