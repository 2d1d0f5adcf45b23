"""Make the process functions of the runner's tests importable, in workers too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
