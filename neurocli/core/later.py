"""Public functions that are documented and not in this version; each says so when called."""

from __future__ import annotations

from typing import Any, NoReturn

from neurocli.core.errors import NotBuiltYetError


def align_genes(**options: Any) -> NoReturn:
    """Refuse: aligning brain latents with gene embeddings is not in this version.

    Args:
        options: Whatever was asked for; nothing is read.

    Raises:
        NotBuiltYetError: Always.
    """
    raise NotBuiltYetError(
        "the genes room is not in this version", hint="`neuro models list` shows what is"
    )
