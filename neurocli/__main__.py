"""Run the command line as `python -m neurocli`, also under torchrun."""

import sys

from neurocli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
