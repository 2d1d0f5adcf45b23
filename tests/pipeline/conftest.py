"""Make the small runs on disk importable here, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "systems" / "fmri"))
