"""One run prepared and opened, for the tests of preparation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_files import options

from neurocli.core.data.items import Item
from neurocli.systems.fmri.prepare import process_run
from neurocli.systems.fmri.store import RunStore, open_store


def process(item: Item, folder: Path, **chosen: Any) -> tuple[dict[str, Any], RunStore]:
    fields = process_run(item, folder, options(**chosen))
    return fields, open_store(folder / "bold.h5")
