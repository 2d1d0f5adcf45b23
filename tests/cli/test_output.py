"""The sink: what goes where in each mode, and how values look."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from neurocli.cli.output import Flags, Output, Table, wants_color
from neurocli.cli.text import cell_text, plain_json, safe
from neurocli.cli.views import command_line, flat, plan_view, written


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (1_400_000, "1,400,000"),
        (0.5, "0.5"),
        (1e-7, "1e-07"),
        (float("nan"), "undefined"),
        (None, "-"),
        (True, "True"),
        ([1, 2.5], "1, 2.5"),
        ("a\tb", "a\\tb"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_safe_escapes_what_steers_and_keeps_what_reads() -> None:
    assert safe("한글 é [bold] {x}") == "한글 é [bold] {x}"
    assert safe("\x9b\x7f\u2066\udc80") == "\\x9b\\x7f\\u2066\\udc80"


def test_json_holds_no_nan_and_no_foreign_types() -> None:
    class Scalar:
        def item(self) -> float:
            return float("inf")

    values = {1: float("nan"), "p": Path("a/b"), "n": Scalar(), "t": (True, None)}
    assert plain_json(values) == {"1": None, "p": "a/b", "n": None, "t": [True, None]}


@pytest.mark.parametrize(
    ("flags", "out"),
    [
        (Flags(), "a  b\n1  x\n"),
        (Flags("json"), '{\n  "schema": "neuro/thing/1",\n  "k": [\n    1\n  ]\n}\n'),
        (Flags("quiet", quiet=True), "o/p\n"),
    ],
)
def test_three_modes(flags: Flags, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    Output(flags).show("thing", {"k": [1]}, main=Path("o/p"), view=[Table("ab", [(1, "x")])])
    assert capsys.readouterr().out == out


def test_a_quiet_path_keeps_its_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    name = os.fsdecode(b"o\xff \x1b.pth")
    Output(Flags("quiet", quiet=True)).show("thing", {}, main=Path(name))
    assert capfdbinary.readouterr().out == b"o\xff \x1b.pth\n"


def test_notes_come_once_and_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    loud, quiet = Output(), Output(Flags("quiet", quiet=True))
    for output in (loud, quiet):
        output.note("good to know")
        output.note("good to know")
        output.note("take care", "warning")
        output.hint("go on")
    assert capsys.readouterr().err == (
        "note: good to know\nwarning: take care\nhint: go on\nwarning: take care\n"
    )


def test_left_out_items_are_lines_and_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert Output().left_out([]) == 0
    assert Output().left_out([("sub-1", "cut off"), ("sub\n2", "no voxels")]) == 3
    assert capsys.readouterr().err == "sub-1: cut off\nsub\\n2: no voxels\n"


def test_a_table_in_a_pipe_is_never_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "x" * 300
    Output().show("thing", {}, view=[Table(("name", "n"), [(long, 1)], "Title [b]")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Title [b]"
    assert long in lines[2]


def test_colour_by_flag_then_environment_then_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(_Terminal()) is True
    assert wants_color(io.StringIO()) is False
    monkeypatch.setenv("TERM", "dumb")
    assert wants_color(_Terminal()) is False
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_color(io.StringIO()) is True
    assert wants_color(_Terminal(), False) is False
    monkeypatch.setenv("NO_COLOR", "1")
    assert wants_color(io.StringIO()) is False


def test_errors_are_painted_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    Output().note("care", "warning")
    assert capsys.readouterr().err == "\x1b[1;33mwarning\x1b[0m: care\n"


def test_values_are_written_as_yaml_reads_them() -> None:
    from neurocli.core.config.nodes import parse_value

    for value in (None, True, 3, 1e-3, "cosine", [6, 6, 6, 1]):
        assert parse_value(written(value), "test") == value


def test_plans_are_flat_and_long_lists_are_cut() -> None:
    plan = {"a": {"b": {"c": 1}}, "items": [f"s{i}" for i in range(20)], "empty": {}}
    table = plan_view(plan)[1]
    assert isinstance(table, Table)
    rows = dict(table.rows)
    assert rows["a.b.c"] == "1"
    assert rows["items"].endswith("s7, ... (20 in all)]")
    assert list(flat({"x": {}})) == [("x", {})]


def test_hints_are_lines_a_shell_reads_back() -> None:
    import shlex

    words = ["neuro", "report", "a b", "$(x)", "it's"]
    assert shlex.split(command_line(*words)) == words


def test_json_is_ascii_so_that_any_locale_can_print_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(Flags("json")).show("thing", {"name": "한글\udcff"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["name"] == "한글\udcff"


def test_numbers_and_short_cells_stay_whole_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    rows = [("stem", "a long sentence that has to be folded", 1358954496, "128x128x128")]
    Output().show("x", {}, view=[Table(("stage", "what it is", "macs", "grid"), rows)])
    text = capsys.readouterr().out
    assert "1,358,954,496" in text
    assert "128x128x128" in text
    assert "sentence that has to be folded" not in text
