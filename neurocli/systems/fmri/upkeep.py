"""The door to the care of stored files: look into them, rewrite them, tell what made them."""

from __future__ import annotations

from neurocli.systems.fmri.check import check_runs
from neurocli.systems.fmri.convert import tasks_of
from neurocli.systems.fmri.repack import repack_runs

__all__ = ["check_runs", "repack_runs", "tasks_of"]
