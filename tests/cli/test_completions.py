"""Completion scripts: written from the app, byte for byte, and tried in real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from neurocli.cli.completions import choice, pages, render, word_lists
from neurocli.core.catalog import models
from neurocli.core.errors import UsageError

FILES = {"bash": "neuro.bash", "zsh": "_neuro", "fish": "neuro.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_shipped_file_is_what_the_app_writes(shell: str, root: Path) -> None:
    shipped = (root / "completions" / FILES[shell]).read_text(encoding="utf-8")
    assert shipped == render(shell), (
        f"write it again: python -m neurocli.cli.completions {shell} > completions/{FILES[shell]}"
    )


@pytest.mark.parametrize("shell", FILES)
def test_real_shells_accept_the_syntax(shell: str, root: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = root / "completions" / FILES[shell]
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


BASH = """
source completions/neuro.bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_neuro
printf '%s\\n' "${COMPREPLY[@]}"
"""

PRETEXTS = {"ar", "mim", "contrastive", "align", "labels", "time", "hybrid"}
HEADED = {name for name in models() if name.startswith("fmamba_")}

CASES = [
    (["tr"], {"train"}),
    (["train", "fmamba_"], HEADED),
    (["train", "-q", "--lr", "3", "fmamba_"], HEADED),
    (["train", "--batch-s"], {"--batch-size"}),
    (["train", "--device", "c"], {"cpu", "cuda"}),
    (["train", "--precision", "=", "b"], {"bf16"}),
    (["train", "-p", "fmri/t"], {"fmri/tiny"}),
    (["train", "fmamba", "-s", "data.batch"], {"data.batch_size="}),
    (["train", "fmamba", "-s", "data.batch_size", "=", ""], {""}),
    (["train", "--pretrain", ""], PRETEXTS),
    (["models", ""], {"list", "show", "export"}),
    (["models", "show", "fmamba_"], HEADED),
    (["presets", "copy", "fmri/ti"], {"fmri/tiny"}),
    (["preprocess", "bi"], {"bids"}),
    (["preprocess", "bids", "LIC"], {"LICENSE"}),
    (["evaluate", "--part", "t"], {"test", "train"}),
    (["preprocess", "bids", "x", "--mask", "no"], {"none"}),
    (["nothing", "x"], {""}),
]


@pytest.mark.parametrize(("words", "offered"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_bash_offers(words: list[str], offered: set[str], root: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", "neuro", *words],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.rstrip("\n").split("\n")) == offered
    assert done.stderr == ""


@pytest.mark.parametrize(("words", "offered"), CASES[:3] + CASES[6:8] + CASES[10:14])
def test_fish_offers(words: list[str], offered: set[str], root: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    line = f"source completions/neuro.fish; complete -C 'neuro {' '.join(words)}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", line], cwd=root, capture_output=True, text=True, check=True
    )
    assert offered <= {text.partition("\t")[0] for text in done.stdout.splitlines()}


def test_every_option_of_the_app_is_known() -> None:
    found = {" ".join(page.path): page for page in pages()}
    assert {"train", "models list", "config validate"} <= set(found)
    names = {name for option in found["train"].options for name in option.names}
    assert {"--batch-size", "-s", "--set", "--json", "-h", "--resume"} <= names


def test_lists_follow_the_catalog() -> None:
    lists = word_lists()
    assert "fmamba" in lists["models"]
    assert "train.lr=" in lists["keys"]
    assert "model.name=" not in lists["keys"]


def test_a_new_metavar_must_be_put_into_the_table() -> None:
    with pytest.raises(UsageError, match="WHATEVER"):
        choice("WHATEVER")


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean fish"):
        render("fsh")


def test_scripts_start_no_python(root: Path) -> None:
    for name in FILES.values():
        text = (root / "completions" / name).read_text(encoding="utf-8")
        assert "python" not in "\n".join(text.splitlines()[2:])
