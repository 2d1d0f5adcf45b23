"""Every form of `block[*repeats][@reduction][~rates]`, and every refusal with its words."""

from __future__ import annotations

import itertools

import pytest

from neurocli.core.errors import ExitCode, UsageError
from neurocli.core.nn.blocks3d import DOWNS, STEMS
from neurocli.systems.brats.stages import (
    DOWN_NAMES,
    STEM_NAMES,
    StagePlan,
    parse_stage,
    parse_stages,
)

FORM_HINT = "as in stride, mobilenetv2*2@8~1.2.5"


def test_names_are_those_of_the_registry_in_its_order() -> None:
    assert list(STEMS) == list(STEM_NAMES)
    assert list(DOWNS) == list(DOWN_NAMES)


@pytest.mark.parametrize("name", DOWN_NAMES)
def test_a_bare_name_is_one_plain_block(name: str) -> None:
    assert parse_stage(name, DOWN_NAMES, "x") == StagePlan(name, 1, None, (1,))


@pytest.mark.parametrize(
    ("repeats", "reduction", "rates"),
    itertools.product((None, 1, 9, 10, 99), (None, 1, 16, 999), (None, (1,), (2, 5), (99, 1, 10))),
)
def test_every_combination_comes_back(
    repeats: int | None, reduction: int | None, rates: tuple[int, ...] | None
) -> None:
    # The text is written here from the grammar, part by part.
    text = "mobilenetv2"
    text += "" if repeats is None else f"*{repeats}"
    text += "" if reduction is None else f"@{reduction}"
    text += "" if rates is None else "~" + ".".join(map(str, rates))
    plan = parse_stage(text, DOWN_NAMES, "x")
    assert plan == StagePlan("mobilenetv2", repeats or 1, reduction, rates or (1,))


@pytest.mark.parametrize(
    "text",
    [
        "*2",
        "@8",
        "~1",
        "mobilenetv2**2",
        "mobilenetv2*2*3",
        "mobilenetv2*100",  # two digits at most
        "mobilenetv2@1000",  # three
        "mobilenetv2~100",
        "mobilenetv2*-1",
        "mobilenetv2*1.5",
        "mobilenetv2*02",
        "mobilenetv2~0",
        "mobilenetv2~1.",
        "mobilenetv2~.1",
        "mobilenetv2~1,2",
        "mobilenetv2~1.2@8",
        "mobilenetv2 *2",
        "mobilenetv2(2)",
        "MobileNetV2",
        "mobilenetv2\n*2",
        "conv/conv",
        "mobilenetv2*٢",  # a digit, but no ASCII one
    ],
)
def test_no_stage_says_how_one_is_written(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_stage(text, DOWN_NAMES, "model.fused")
    assert caught.value.message == f"'{text}' is no stage"
    assert (caught.value.where, caught.value.hint) == ("model.fused", FORM_HINT)
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("name", [name for name in DOWN_NAMES if name != "mobilenetv2"])
@pytest.mark.parametrize("tail", ["*1", "@8", "~1"])
def test_only_inverted_residuals_are_adjusted(name: str, tail: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_stage(name + tail, DOWN_NAMES, "model.encoder")
    assert caught.value.message == (
        f"'{name}{tail}' adjusts a block that takes no repeats, attention or rates"
    )
    assert (caught.value.where, caught.value.hint) == ("model.encoder", "only mobilenetv2 does")


def test_an_unknown_block_is_told_before_its_adjustments() -> None:
    with pytest.raises(UsageError) as caught:
        parse_stage("mobilenet*2", DOWN_NAMES, "model.encoder")
    assert caught.value.message == "unknown block 'mobilenet'; did you mean mobilenetv2?"
    assert caught.value.hint == f"choices: {', '.join(DOWN_NAMES)}; in model.encoder"


@pytest.mark.parametrize("name", sorted(set(DOWN_NAMES) - set(STEM_NAMES)))
def test_blocks_that_halve_are_no_stems(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown block '{name}'") as caught:
        parse_stage(name, STEM_NAMES, "model.stem")
    assert str(caught.value.hint).endswith("in model.stem")


@pytest.mark.parametrize("n_stages", [1, 2, 5])
def test_one_text_stands_for_all_stages(n_stages: int) -> None:
    plans = parse_stages("mobilenetv2*2", n_stages, "x")
    assert plans == (StagePlan("mobilenetv2", 2),) * n_stages


def test_stages_may_have_blanks_around_them() -> None:
    assert [plan.block for plan in parse_stages(" conv / ghost ", 2, "x")] == ["conv", "ghost"]


@pytest.mark.parametrize(("text", "n_found"), [("conv/conv", 2), ("conv/ghost/replk/conv", 4)])
def test_another_number_of_stages_is_told(text: str, n_found: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_stages(text, 3, "model.encoder")
    assert caught.value.message == f"'{text}' has {n_found} stages, 3 are wanted"
    assert caught.value.hint == "one stage alone stands for all"


@pytest.mark.parametrize("text", ["conv//ghost", "/conv", "conv/", "/", ""])
def test_an_empty_stage_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="'' is no stage"):
        parse_stages(text, 3, "model.encoder")
