"""The template engine of all pages: every text is escaped, and nothing undefined passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from neurocli.core.report.scatter import Scatter, policy, script
from neurocli.core.report.text import visible, without_folders

if TYPE_CHECKING:
    from jinja2 import Template

MARKER = 'content="neuro/report/1"'


@cache
def template(name: str) -> Template:
    """Return a template of the package; every text from data passes through `shown`.

    Args:
        name: File name below `templates`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurocli.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def shown(value: Any) -> Any:
    """Return text without control characters and absolute folders; all else as it is."""
    # Markup (the style sheet and the script) is our own; every plain text may come from data.
    return without_folders(visible(value)) if type(value) is str else value


def scatter_page(scatters: Sequence[Scatter]) -> str:
    """Return the pictures that can be turned as a page of their own.

    Args:
        scatters: At least one.
    """
    return template("scatter_page.html.j2").render(
        scatters=scatters, script=script(), policy=policy(with_script=True)
    )
