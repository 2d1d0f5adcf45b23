"""The entry point: run the app, and turn every ending into text and an exit code.

Nothing a user can do ends in a traceback: expected errors are one to four lines, an unexpected one
is one line and exit code 70, and `--debug` shows where it came from.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer

from neurocli.cli.app import build_app
from neurocli.cli.output import Flags, sink, use_sink
from neurocli.core.errors import ExitCode, MissingDependencyError, NeuroError, UsageError

_REPORT = "run again with --debug and report the traceback"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    # A stream that the caller closed is None; what would go there goes nowhere.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    args = dashed(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name must not end a command
    # Until the command line is parsed, errors must already have the form that was asked for.
    use_sink(guess_flags(args))
    sink().args = args
    if "WORLD_SIZE" in os.environ:  # each rank would repeat what torch's C++ part has to say
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with warnings.catch_warnings(), _stoppable() as signals:
        warnings.showwarning = _show_warning
        try:
            code = _run(args, signals)
        except OSError as error:  # not even the error could be written
            _give_up_stdout(error)
            return ExitCode.FAILED
    return code if _flush() else ExitCode.FAILED


def _run(args: list[str], signals: list[signal.Signals]) -> int:
    try:
        result = build_app()(args=args, prog_name="neuro", standalone_mode=False)
        if result == ExitCode.INTERRUPTED:  # Typer takes the KeyboardInterrupt and tells its code
            return _fail(_interrupted(signals))
        return int(result or 0)
    except NeuroError as error:
        return _fail(error)
    except typer.TyperException as error:
        return _usage_failure(error, args)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_interrupted(signals))
    except MemoryError:
        hint = "use a smaller batch, fewer --jobs or a smaller model"
        return _fail(NeuroError("not enough memory", hint=hint))
    except BrokenPipeError:
        return ExitCode.FAILED
    except ModuleNotFoundError as error:
        return _fail(_missing_module(error))
    except Exception as error:  # the last border: a bug of ours, named and never hidden
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _fail(NeuroError(f"internal error: {text}", hint=_REPORT, code=ExitCode.INTERNAL))


def dashed(args: Sequence[str]) -> list[str]:
    """Return arguments with `--batch_size` written as `--batch-size`, up to a lone `--`.

    >>> dashed(["--batch_size=4", "-s", "data.batch_size=4", "--", "--a_b"])
    ['--batch-size=4', '-s', 'data.batch_size=4', '--', '--a_b']
    """
    fixed: list[str] = []
    for index, arg in enumerate(args):
        if arg == "--":
            return [*fixed, *args[index:]]
        name, equals, value = arg.partition("=")
        is_option = arg.startswith("--")
        fixed.append(f"{name.replace('_', '-')}{equals}{value}" if is_option else arg)
    return fixed


def guess_flags(args: Sequence[str]) -> Flags:
    """Return the output flags as far as they can be seen without parsing."""
    seen = set(args[: list(args).index("--")] if "--" in args else args)
    quiet = bool(seen & {"-q", "--quiet"})
    return Flags(
        mode="json" if "--json" in seen else "quiet" if quiet else "text",
        quiet=quiet,
        color=False if "--no-color" in seen else None,
        debug="--debug" in seen,
    )


def _fail(error: NeuroError) -> int:
    if sink().flags.debug:
        traceback.print_exc(file=sys.stderr)
    code = sink().fail(error)
    if any(name.startswith(("OMPI_", "PMI_")) for name in os.environ):
        from neurocli.core.data.ranks import stop_team

        stop_team(code)
    return code


@contextmanager
def _stoppable() -> Iterator[list[signal.Signals]]:
    """Let SIGTERM and SIGUSR1 unwind like Ctrl-C; training puts its own handlers over these."""
    seen: list[signal.Signals] = []

    def stop(number: int, _: object) -> None:
        seen.append(signal.Signals(number))
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        names = []
    before = {number: signal.signal(number, stop) for number in (signal.Signals[n] for n in names)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(signals: Sequence[signal.Signals]) -> NeuroError:
    return NeuroError(
        f"stopped by {signals[0].name if signals else 'Ctrl-C'}",
        hint="the same command line goes on where it stopped",
        code=ExitCode.STOPPED if signals else ExitCode.INTERRUPTED,
    )


def _missing_module(error: ModuleNotFoundError) -> NeuroError:
    name = (error.name or "").partition(".")[0]
    if name in ("", "neurocli"):
        return NeuroError(f"internal error: {error}", hint=_REPORT, code=ExitCode.INTERNAL)
    hint = "`neuro doctor` lists what is missing and how to get it"
    return MissingDependencyError(f"the package '{name}' is not installed", hint=hint)


def _usage_failure(error: Any, args: Sequence[str]) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), color=error.ctx.color)
        return ExitCode.USAGE
    context, param = getattr(error, "ctx", None), getattr(error, "param", None)
    message = _sentence(error.format_message())
    if hasattr(error, "possibilities"):
        near = sorted(error.possibilities or ())
        message = f"unknown option '{error.option_name}'"
        message += f"; did you mean {' or '.join(near)}?" if near else ""
    elif param is not None and param.param_type_name == "option":
        found = _value_of(param.opts, args)
        if found is not None:
            reason = error.message.replace("Input should", "should").partition(",")[0]
            message = f"{param.opts[-1]}: '{found}' {reason}"
    hint = f"see `{context.command_path} -h`" if context else None
    return _fail(UsageError(message, hint=hint))


def _value_of(names: Sequence[str], args: Sequence[str]) -> str | None:
    for index, arg in enumerate(args):
        name, equals, text = arg.partition("=")
        if name in names:
            return text if equals else next(iter(args[index + 1 :]), None)
    return None


def _sentence(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if not issubclass(category, (DeprecationWarning, FutureWarning)):
        sink().note(str(message), "warning")


def _flush() -> bool:
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up_stdout(error)
        return False
    return True


def _give_up_stdout(error: OSError) -> None:
    if not isinstance(error, BrokenPipeError):  # a reader that left is no error
        print(f"error: cannot write the result: {error.strerror or error}", file=sys.stderr)
    # Python would complain once more when it closes the stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
