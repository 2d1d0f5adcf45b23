"""Every benchmark runs, on small sizes, and prints one object; no figure is tested."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "bench"
BENCHES = sorted(path.stem for path in FOLDER.glob("*.py"))
# These make gigabytes of data or train for minutes: here they only have to start.
LARGE = {
    *("attribution", "calcium", "fmri_evidence", "full_volume", "genes", "mamba2", "mup"),
    *("parallel", "preprocess", "sequence"),
    *("sliding_window", "split", "ssd", "train"),
}
PEERS = {"calcium": "cebra"}  # packages that a benchmark needs and the tests do not install
# Sizes that a benchmark names at its top, and smaller ones that take the same path.
SMALL: dict[str, dict[str, Any]] = {
    "depthwise": {"SHAPES": ((8, 8), (4, 20)), "DENSE": ((2, 4, 12),)},
    "io": {"GRID": 48, "WINDOW": 4, "FRAMES": 24, "EPOCH": 8},
    "patches": {"SHAPE": (64, 64, 48), "SIZE": 32},
    "tokens": {"GRID": 48, "FRAMES": 4},
}


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a benchmark as a module, made small."""
    path = FOLDER / f"{name}.py"
    monkeypatch.syspath_prepend(str(FOLDER))  # as for a program that is started
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    for key, value in SMALL.get(name, {}).items():
        assert hasattr(module, key)
        setattr(module, key, value)
    if name == "io":
        whole = module.brain
        vars(module)["brain"] = lambda: whole()[::2, ::2, ::2]  # every second voxel
    return module


@pytest.mark.parametrize("name", BENCHES)
def test_every_benchmark_prints_one_object(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    assert f"tests/bench/{name}.py" in (root / "README.md").read_text(encoding="utf-8")
    if name in PEERS and find_spec(PEERS[name]) is None:
        pytest.skip(f"{name} measures against {PEERS[name]}, which is not installed")
    module = load(name, monkeypatch)
    words = ["--help"] if name in LARGE else ["--json", "--runs", "1"]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / f"{name}.py"), *words])
    if name in LARGE:
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 0
        assert "--runs" in capfd.readouterr().out
        return
    module.main()
    result = json.loads(capfd.readouterr().out)
    assert set(result) == {"bench", "ratios", "figures"}
    assert result["bench"] == name
    assert all(value > 0 for value in result["ratios"].values())
