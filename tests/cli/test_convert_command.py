"""`neuro convert-hdf5` also looks after files that are there.

The public functions are replaced here, so every expected value is written in the test itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CARE = [
    (("--verify",), "verify_hdf5", ("x", None), {}),
    (("-o", "o", "--verify"), "verify_hdf5", ("o", "x"), {}),
    (("--check", "--expect", "9,9,9,0"), "check_hdf5", ("x",), {"expect": (9, 9, 9, 0)}),
    (("--quarantine", "q"), "check_hdf5", ("x",), {"quarantine": Path("q"), "delete": False}),
    (("--delete",), "check_hdf5", ("x",), {"delete": True, "quarantine": None}),
    (("--repack", "--layout", "packed"), "repack_hdf5", ("x",), {"layout": "packed"}),
]


@pytest.mark.parametrize(("words", "door", "given", "options"), CARE)
def test_convert_looks_after_files_that_are_there(
    neuro: Any, pretend: Any, words: Any, door: str, given: Any, options: Any
) -> None:
    from neurocli.core.data.verify import CheckResult

    result = CheckResult(Path("x"), 3, [("s1", "changed: s1.h5")], ["s1.h5"], ["a note"])
    calls = pretend(door, lambda *_, **__: result)
    answer = neuro("convert-hdf5", "x", *words, "--json")
    assert answer.code == 3
    assert "s1: changed: s1.h5" in answer.err
    assert answer.json["failures"] == [["s1", "changed: s1.h5"]]
    assert (answer.json["checked"], answer.json["sound"]) == (3, 2)
    assert tuple(None if each is None else str(each) for each in calls[0][0]) == given
    assert options.items() <= calls[0][1].items()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "no output folder is given"),
        (("--verify", "--check"), "--verify and --check are different jobs"),
        (("--check", "--expect", "a,b"), "'a,b' is no shape"),
        (("-o", "o", "--patch", "6,b"), "'6,b' is no size"),
    ],
)
def test_convert_refuses_what_does_not_go_together(neuro: Any, words: Any, text: str) -> None:
    answer = neuro("convert-hdf5", "x", *words)
    assert answer.code == 2
    assert text in answer.err
