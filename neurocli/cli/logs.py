"""Log records of the core and of other packages, told through the sink, escaped like all else."""

from __future__ import annotations

import logging

from neurocli.cli.output import sink


class SinkHandler(logging.Handler):
    """Hand records to the sink of the running command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record; warnings stay visible with `-q`."""
        is_warning = record.levelno >= logging.WARNING
        message = f"{record.name}: {record.getMessage()}"
        sink().note(message, "warning" if is_warning else "info")


def follow_logs(verbosity: int) -> None:
    """Tell warnings of all packages, with -v what this one does, with -vv everything.

    Args:
        verbosity: How often `-v` was given.
    """
    root, ours = logging.getLogger(), logging.getLogger("neurocli")
    # A second command in one process must not tell everything twice.
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, SinkHandler)]
    root.addHandler(SinkHandler())
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    ours.setLevel(logging.INFO if verbosity == 1 else logging.NOTSET)
