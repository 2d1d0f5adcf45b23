"""Help pages, and the options that every command shares.

Typer parses; these two classes lay the page out: options in named groups, examples as they are
typed, 80 columns, no boxes, so that a line can be copied. Plain text also starts twice as fast as
a drawn page, because nothing has to import a renderer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from neurocli.cli.output import Flags, use_sink, wants_color
from neurocli.core.names import lookup

CONFIG_PANEL, RUN_PANEL, OUTPUT_PANEL = "Configuration", "Run", "Output"
_LAST = (CONFIG_PANEL, RUN_PANEL, OUTPUT_PANEL)
_MAX_NAME_COLUMNS = 26
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


def _output_options(
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object on stdout.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Only the main output's path.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="More notes; -vv logs.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = 0,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours.", rich_help_panel=OUTPUT_PANEL)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show a traceback on errors.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
) -> None:
    """Declare the options that every command has."""


@cache
def _output_parameters() -> tuple[Any, ...]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_output_options)
    return tuple(typer.main.get_command(app).params)


class _Page:
    """Lay out one help page; mixed into Typer's command and group."""

    help_panel = "Options"

    def get_help_option(self, ctx: Any) -> Any:
        """Return the help option, listed where this page lists the shared ones."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.default = False  # Typer would import pydantic to turn None into False
            option.rich_help_panel = self.help_panel
        return option

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage line: required options and arguments plain, optional ones bracketed."""
        if wants_color(sys.stdout):
            ctx.color = True  # else a forced colour is stripped from a pipe
        pieces = " ".join(self.collect_usage_pieces(ctx))  # type: ignore[attr-defined]
        needed = [
            f"{param.opts[-1]} {_metavar(param)} "
            for param in self.get_params(ctx)  # type: ignore[attr-defined]
            if param.required and param.param_type_name == "option"
        ]
        line = "".join(needed) + pieces.replace("{", "").replace("}", "")
        formatter.write_usage(ctx.command_path, line)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write commands and arguments, then options by group, the shared ones last."""
        groups = self.rows(ctx)
        for param in self.get_params(ctx):  # type: ignore[attr-defined]
            if not getattr(param, "hidden", False):
                groups.setdefault(_panel(param), []).append(_row(param))
        labels = [label for rows in groups.values() for label, _ in rows]
        width = min(max(len(label) for label in labels), _MAX_NAME_COLUMNS)
        for name in sorted(groups, key=_place):
            _write_rows(formatter, name, groups[name], width)

    def rows(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return rows that stand before the options, by heading."""
        return {}

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples unwrapped."""
        epilog = self.epilog  # type: ignore[attr-defined]
        if not epilog:
            return
        formatter.write_paragraph()
        for line in epilog.strip("\n").splitlines():
            is_heading = line.endswith(":") and not line.startswith(" ")
            formatter.write(f"{_bold(line) if is_heading else line}\n")


class Command(_Page, TyperCommand):
    """Run one verb; it also takes the shared output options."""

    help_panel = OUTPUT_PANEL

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_output_parameters()]

    def invoke(self, ctx: Any) -> Any:
        """Set the sink up from the shared options, then run the verb."""
        given = {param.name: ctx.params.pop(param.name) for param in _output_parameters()}
        use_sink(
            Flags(
                mode="json" if given["json"] else "quiet" if given["quiet"] else "text",
                quiet=given["quiet"],
                verbosity=given["verbose"],
                color=False if given["no_color"] else None,
                debug=given["debug"],
            )
        )
        from neurocli.cli.logs import follow_logs  # a help page needs no logging

        follow_logs(given["verbose"])
        return super().invoke(ctx)


class Group(_Page, TyperGroup):
    """Hold verbs; its page lists them by group in their given order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the named verb and its arguments.

        Raises:
            UsageError: No such verb.
        """
        if args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        hint = f"see `{ctx.command_path} -h`"
        command = lookup("command", args[0], self.commands, hint=hint)
        return args[0], self.load(command), args[1:]

    def load(self, command: Any) -> Any:
        """Return a verb ready to run."""
        return command

    def rows(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return the verbs by heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                groups.setdefault(panel, []).append((name, command.get_short_help_str(200)))
        return groups


def new_group(
    summary: str | None = None, examples: str | None = None, *, kind: type[Group] = Group
) -> typer.Typer:
    """Return an empty Typer application with the pages of this house.

    Args:
        summary: First line of the help page of a group of verbs; None for a single verb.
        examples: Command lines for the end of that page, one a line.
        kind: Class of the group.
    """
    return typer.Typer(
        cls=kind,
        help=summary,
        epilog=_examples(examples) if examples else None,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def add_verb(
    app: typer.Typer, name: str, examples: str, *, before: str = ""
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that registers a function as a verb.

    Args:
        app: The application.
        name: What people type.
        examples: Command lines for the end of the help page, one a line.
        before: Text that stands before them.
    """
    epilog = f"{before}{_examples(examples)}"
    return app.command(name, cls=Command, epilog=epilog, context_settings=CONTEXT)


def _examples(lines: str) -> str:
    return "Examples:\n" + "\n".join(f"  {line}" for line in lines.strip().splitlines())


def _place(panel: str) -> int:
    return _LAST.index(panel) + 1 if panel in _LAST else -(panel == "Arguments")


def _panel(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    return getattr(param, "rich_help_panel", None) or "Options"


def _row(param: Any) -> tuple[str, str]:
    if param.param_type_name == "argument":
        name = param.metavar or param.name.upper()
        return f"{name}..." if param.nargs != 1 else name, param.help or ""
    short = [option for option in param.opts if not option.startswith("--")]
    long = [option for option in param.opts if option.startswith("--")]
    label = ", ".join([*short, *long]) if short else f"    {', '.join(long)}"
    has_value = not (param.is_flag or param.count)
    return f"{label} {_metavar(param)}" if has_value else label, _text(param, has_value)


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _text(param: Any, has_value: bool) -> str:
    text = str(param.help or "")
    if param.required:
        return f"{text} [required]"
    has_default = has_value and param.show_default and param.default not in (None, [], ())
    return f"{text} [default: {param.default}]" if has_default else text


def _write_rows(formatter: Any, heading: str, rows: list[tuple[str, str]], width: int) -> None:
    formatter.write_paragraph()
    formatter.write(f"{_bold(f'{heading}:')}\n")
    with formatter.indentation():
        padded = [(_colored(label) + " " * (width - len(label)), text) for label, text in rows]
        formatter.write_dl(padded, col_max=width)


def _bold(text: str) -> str:
    return typer.style(text, bold=True) if wants_color(sys.stdout) else text


def _colored(label: str) -> str:
    return typer.style(label, fg="cyan") if wants_color(sys.stdout) else label
