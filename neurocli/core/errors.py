"""The errors a user may meet, each with the place, the mend and the exit code.

Conventions: `message` says what is wrong with the value, `where` names the file, key, option or
subject it came from, `hint` says what is allowed and what to do next. The command line prints
them in at most four lines; library callers read the attributes. Codes are those of `ExitCode`.
"""

from __future__ import annotations

from enum import IntEnum
from os import PathLike, fspath


class ExitCode(IntEnum):
    """Name every exit code that a command may end with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    MISSING_DEPENDENCY = 4
    INTERNAL = 70
    STOPPED = 75
    INTERRUPTED = 130


class NeuroError(Exception):
    """Report an expected failure to the user.

    Args:
        message: What is wrong, with the offending value; one line.
        where: File (with line), key, option or subject it came from; None when the message says it.
        hint: What is allowed and what to do next; None when there is nothing to add.
        code: Exit code of the command.

    Attributes:
        is_shared: Whether rank 0 of a run of several processes shows the same error.
    """

    is_shared: bool = False

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        code: ExitCode = ExitCode.FAILED,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Workers send errors through a pipe; keyword-only fields need this to survive it.
        return _rebuild, (type(self), self.message, self.where, self.hint, int(self.code))


def _rebuild(
    kind: type[NeuroError], message: str, where: str | None, hint: str | None, code: int
) -> NeuroError:
    error = kind.__new__(kind)
    NeuroError.__init__(error, message, where=where, hint=hint, code=ExitCode(code))
    return error


class InputError(NeuroError):
    """Refuse a file that a user handed in.

    Args:
        path: The file or folder.
        problem: What is wrong with it.
        fix: What to do about it; None when nothing can be advised.
    """

    def __init__(self, path: str | PathLike[str], problem: str, fix: str | None = None) -> None:
        super().__init__(problem, where=fspath(path), hint=fix, code=ExitCode.FAILED)


class OutputError(NeuroError):
    """Report a disk that is full, read-only or failing: no further item can be written either."""


class UsageError(NeuroError):
    """Refuse an option, a name or a combination of options (exit code 2)."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint, code=ExitCode.USAGE)


class ConfigError(UsageError):
    """Refuse a configuration; `problems` holds every finding, one line each.

    Args:
        problems: Findings, each already naming file, line and key.
        hint: What to do next.
    """

    def __init__(self, problems: list[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class MissingDependencyError(NeuroError):
    """Name an optional package or device that is absent (exit code 4)."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, where=where, hint=hint, code=ExitCode.MISSING_DEPENDENCY)


class StoppedError(NeuroError):
    """Report a run that a signal stopped after its state was saved.

    Args:
        message: What was saved and where.
        hint: The command that resumes it.
        code: `STOPPED` for SIGTERM and SIGUSR1, `INTERRUPTED` for Ctrl-C.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, code: ExitCode = ExitCode.STOPPED
    ) -> None:
        super().__init__(message, hint=hint, code=code)
