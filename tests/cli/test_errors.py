"""How a command ends when something is wrong: one to four lines, the right code, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neurocli.cli.main import dashed
from neurocli.core.errors import (
    ConfigError,
    ExitCode,
    InputError,
    MissingDependencyError,
    NeuroError,
    StoppedError,
    UsageError,
)


def _raise(error: BaseException) -> Any:
    def fake(*_: Any, **__: Any) -> Any:
        raise error

    return fake


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--batch-sise", "3"], "did you mean --batch-size?"),
        (["train", "--batch_sise", "3"], "did you mean --batch-size?"),
        (["models", "shw"], "did you mean show?"),
        (["models", "show", "fmanba"], "did you mean fmamba?"),
        (["models", "list", "--room", "fmro"], "did you mean fmri?"),
        (["presets", "show", "fmri/tny"], "did you mean fmri/tiny?"),
        (["config", "show", "fmamba", "-s", "train.lrr=1"], "did you mean lr?"),
        (["config", "show", "fmamba", "-s", "train.batch_size=1"], "data.batch_size"),
        (["config", "show", "fmamba", "-s", "lr"], "'lr' is no setting"),
        (["preprocess", "bid", "x", "-o", "y"], "did you mean bids?"),
        (["preprocess", "dummy", "-o", "y", "-s", "seed"], "'seed' is no setting"),
        (["preprocess", "dummy", "-o", "y", "--space", "mni"], "--space"),
        (["preprocess", "bids"], "missing option '--out'"),
        (["evaluate"], "missing argument 'CKPT'"),
        (["train", "x", "--epochs", "many"], "--epochs: 'many' should be a valid integer"),
        (["train", "x", "--epochs=many"], "--epochs: 'many' should be a valid integer"),
        (["train", "x", "--seeds", "1,two"], "'two' is no whole number"),
        (["flops", "fmamba", "--input-shape", "96,a"], "'96,a' is no size"),
        (["doctor", "extra"], "extra"),
        (["models", "list", "nothing*"], "no model fits 'nothing*'"),
    ],
)
def test_usage_errors_name_value_and_remedy(neuro: Any, words: list[str], said: str) -> None:
    answer = neuro(*words)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) <= 4
    as_json = neuro(*words, "--json")
    assert as_json.code == 2
    assert as_json.json["schema"] == "neuro/error/1"
    error = as_json.json["error"]
    assert list(error) == ["code", "message", "where", "hint"]
    assert error["code"] == 2
    assert said.split(": ")[-1] in json.dumps(error, ensure_ascii=False)
    assert as_json.err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NeuroError("broken", where="a.nii", hint="mend it"), 1),
        (InputError("a.nii", "cut off"), 1),
        (UsageError("no"), 2),
        (MissingDependencyError("no mpi4py", hint='pip install "neurocli[mpi]"'), 4),
        (StoppedError("saved"), 75),
        (StoppedError("saved", code=ExitCode.INTERRUPTED), 130),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
        (ModuleNotFoundError("No module named 'mpi4py'", name="mpi4py.MPI"), 4),
        (ModuleNotFoundError("No module named 'neurocli.x'", name="neurocli.x"), 70),
        (ZeroDivisionError("division by zero"), 70),
    ],
)
def test_every_error_has_its_exit_code(
    neuro: Any, pretend: Any, error: BaseException, code: int
) -> None:
    pretend("list_models", _raise(error))
    answer = neuro("models", "list")
    assert answer.code == code
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert 1 <= len(answer.err.splitlines()) <= 4
    assert neuro("models", "list", "--json").json["error"]["code"] == code


def test_a_traceback_comes_only_with_debug(neuro: Any, pretend: Any) -> None:
    pretend("list_models", _raise(ZeroDivisionError("division by zero")))
    assert "internal error: ZeroDivisionError: division by zero" in neuro("models", "list").err
    assert "Traceback" in neuro("models", "list", "--debug").err


def test_many_config_problems_fit_four_lines_and_json_has_all(neuro: Any, pretend: Any) -> None:
    problems = [f"my.yaml:{line}: train.k{line}: unknown key" for line in range(9)]
    pretend("list_models", _raise(ConfigError(problems, hint="see `neuro config show`")))
    text = neuro("models", "list").err.splitlines()
    assert len(text) == 4
    assert text[0] == f"error: {problems[0]}"
    assert "and 7 more" in text[2]
    message = neuro("models", "list", "--json").json["error"]["message"]
    assert message.split("\n") == problems


HOSTILE = "sub[/red]\x1b[2J\x07\n\u202e$x_{$"


def test_markup_and_control_characters_stay_text(neuro: Any, pretend: Any) -> None:
    pretend("list_models", _raise(InputError(HOSTILE, f"bad {HOSTILE}", f"see {HOSTILE}")))
    for words in ([], ["--no-color"]):
        answer = neuro("models", "list", *words)
        assert answer.code == 1
        assert len(answer.err.splitlines()) == 2
        assert "[/red]" in answer.err
        assert "\\x1b[2J\\x07\\n\\u202e$x_{$" in answer.err
        assert not any(sign in answer.err for sign in "\x1b\x07\u202e")
    assert neuro("models", "list", "--json").json["error"]["where"] == HOSTILE


def test_hostile_words_on_the_command_line(neuro: Any) -> None:
    for words in (["models", "show", HOSTILE], [HOSTILE], ["train", f"--{HOSTILE}"]):
        answer = neuro(*words)
        assert answer.code == 2
        assert not any(sign in answer.err for sign in "\x1b\x07\u202e")
        assert len(answer.err.splitlines()) <= 4


def test_hostile_cells_in_a_table(neuro: Any, pretend: Any) -> None:
    row = {"name": HOSTILE, "room": "[bold]", "summary": "\udcff", "params": None}
    pretend("list_models", lambda *_: [row])
    answer = neuro("models", "list")
    assert answer.code == 0
    assert "[bold]" in answer.out
    assert "[/red]" in answer.out
    assert not any(sign in answer.out for sign in "\x1b\x07\u202e\udcff")
    assert neuro("models", "list", "--json").json["models"][0]["summary"] == "\udcff"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--batch_size", "4"], ["--batch-size", "4"]),
        (["--batch_size=4_0"], ["--batch-size=4_0"]),
        (["-s", "data.batch_size=4"], ["-s", "data.batch_size=4"]),
        (["a_b", "--", "--a_b"], ["a_b", "--", "--a_b"]),
    ],
)
def test_underscores_in_option_names(given: list[str], meant: list[str]) -> None:
    assert dashed(given) == meant


def test_underscore_spelling_reaches_the_command(neuro: Any, pretend: Any) -> None:
    calls = pretend("train", _raise(UsageError("enough")))
    neuro("train", "m", "--batch_size", 4, "--init_from=a_b.pth", "--early_stop", 2)
    options = calls[0][1]
    assert (options["batch_size"], options["early_stop"]) == (4, 2)
    assert options["init_from"] == Path("a_b.pth")


def test_a_reader_that_leaves_early_is_no_error(root: Path) -> None:
    line = f"{sys.executable} -m neurocli train -h | head -1; echo ${{PIPESTATUS[0]}} >&2"
    done = subprocess.run(
        ["bash", "-c", line], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Usage: neuro train")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("SIGINT", 130, "error: stopped by Ctrl-C"),
        ("SIGTERM", 75, "error: stopped by SIGTERM"),
        ("SIGUSR1", 75, "error: stopped by SIGUSR1"),
    ],
)
def test_signals_end_with_their_code_and_one_sentence(
    root: Path, name: str, code: int, said: str
) -> None:
    program = (
        "import os, signal, sys, time, neurocli\n"
        "from neurocli.cli.main import main\n"
        "def fake(*a, **k):\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    time.sleep(9)\n"
        "vars(neurocli)['list_models'] = fake\n"
        "sys.exit(main(['models', 'list']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == said
    assert len(done.stderr.splitlines()) == 2


def test_handlers_are_given_back(neuro: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    neuro("presets", "list")
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_ranks_answer_nothing_and_name_themselves(
    neuro: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RANK", "1")
    assert neuro("presets", "list").out == ""
    assert neuro("models", "show", "x").err.startswith("[rank 1] error: unknown model 'x'")


def test_python_warnings_become_one_line(neuro: Any, pretend: Any) -> None:
    def fake(*_: Any) -> list[Any]:
        import warnings

        warnings.warn("odd\nvalue", UserWarning, stacklevel=1)
        warnings.warn("odd\nvalue", UserWarning, stacklevel=1)
        return [{"name": "m", "room": "r", "summary": "s", "params": 1}]

    pretend("list_models", fake)
    answer = neuro("models", "list")
    assert answer.err == "warning: odd\\nvalue\n"
    assert neuro("models", "list", "-q").err == "warning: odd\\nvalue\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], ["warning: other: c\\x1b"]),
        (["-q"], ["warning: other: c\\x1b"]),
        (["-v"], ["note: neurocli.core: b", "warning: other: c\\x1b"]),
        (["-vv"], ["note: neurocli.core: a", "note: neurocli.core: b", "note: other: a",
                   "warning: other: c\\x1b"]),
    ],
)  # fmt: skip
def test_logs_by_verbosity(neuro: Any, pretend: Any, flags: list[str], told: list[str]) -> None:
    def fake(*_: Any) -> list[Any]:
        import logging

        logging.getLogger("neurocli.core").debug("a")
        logging.getLogger("neurocli.core").info("b")
        logging.getLogger("other").debug("a")
        logging.getLogger("other").warning("c\x1b")
        return [{"name": "m", "room": "r", "summary": "s", "params": 1}]

    pretend("list_models", fake)
    neuro("presets", "list")  # another command before leaves no second handler
    assert neuro("models", "list", *flags).err.splitlines() == told


def test_an_unknown_setting_of_preprocess_is_usage(neuro: Any, tmp_path: Path) -> None:
    answer = neuro("preprocess", "dummy", "-o", str(tmp_path / "o"), "-s", "foo=1")
    assert answer.code == 2
    assert "--set: foo: unknown key" in answer.err
    answer = neuro("preprocess", "dummy", "-o", str(tmp_path / "o"), "--tr", "0")
    assert answer.code == 2
    assert "--tr: tr_s" in answer.err


@pytest.mark.parametrize(("where", "code"), [(">&-", 0), (">/dev/full", 1), (">/dev/full -q", 1)])
def test_a_stdout_that_takes_nothing(where: str, code: int) -> None:
    script = f"'{sys.executable}' -m neurocli presets list --json {where}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 4
