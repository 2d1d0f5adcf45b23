"""Scripts whose `neuro` lines are forks end as with the installed program."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import environment, run


def test_lines_read_and_write_and_see_their_folder_and_variables(
    root: Path, tmp_path: Path
) -> None:
    script = (
        "mkdir sub; cd sub; export NEURO_RUNS=/nowhere/of/mine\n"
        "echo fmamba | xargs neuro models show --json > ../model.json\n"
        "neuro doctor 2>&1 | grep NEURO_RUNS; neuro presets copy fmri/tiny -o here.yaml -q"
    )
    done = run(script, tmp_path / "work", environment(root, tmp_path))
    assert "/nowhere/of/mine" in done.stdout
    assert "fmamba" in (tmp_path / "work" / "model.json").read_text()
    assert (tmp_path / "work" / "sub" / "here.yaml").is_file()


def test_a_line_that_fails_fails_the_script(root: Path, tmp_path: Path) -> None:
    script = "neuro models show fmamab || echo code $?; neuro models show fmamab; echo not here"
    with pytest.raises(AssertionError) as caught:
        run(script, tmp_path / "work", environment(root, tmp_path))
    assert "code 2" in str(caught.value)
    assert "did you mean fmamba" in str(caught.value)
    assert "\nnot here" not in str(caught.value)
