"""How long `neuro --help` takes against an empty Typer app with one command.

Run: `python tests/bench/startup.py --json`. Each figure is the median wall time of a fresh
process, the two programs taken in turn (A B A B), one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMPTY = """
import typer
app = typer.Typer({options})

@app.command()
def main(name: str = "x") -> None:
    print(name)

app()
"""
PEERS = {"typer_default": "", "typer_plain": "rich_markup_mode=None"}


def seconds(command: list[str]) -> float:
    """Return the wall time of one fresh process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "COLUMNS": "80"})
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=20, help="processes per program")
    options = parser.parse_args()
    # Only the entry point differs between installed and source use, so the module is started.
    ours = [sys.executable, "-m", "neurocli", "--help"]
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, mode in PEERS.items():
            script = Path(folder) / f"{name}.py"
            script.write_text(EMPTY.format(options=mode), encoding="utf-8")
            peer = [sys.executable, str(script), "--help"]
            pairs = [(seconds(ours), seconds(peer)) for _ in range(options.runs + 1)][1:]
            mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            figures |= {f"neuro_help_ms_beside_{name}": 1000 * mine, f"{name}_ms": 1000 * theirs}
            ratios[f"{name}_help_time"] = mine / theirs
    result = {
        "bench": "startup",
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "figures": {name: round(value, 1) for name, value in figures.items()},
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in {**result["ratios"], **result["figures"]}.items():  # type: ignore[dict-item]
            print(f"{name:40} {value}")


if __name__ == "__main__":
    main()
