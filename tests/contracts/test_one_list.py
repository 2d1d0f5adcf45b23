"""Lists of names that stand in two places, for the sake of light imports, stay equal."""

from __future__ import annotations

import inspect
import typing

from neurocli.cli.commands import preprocess
from neurocli.core.cohort.splits import PARTS
from neurocli.core.config.flags import EVALUATE_KEYS
from neurocli.core.data.scaling import SCALINGS
from neurocli.core.engine import evaluate
from neurocli.core.engine.task import Part
from neurocli.core.infer.windows import BLENDS, EXTENTS
from neurocli.core.metrics.lesions import RULES
from neurocli.core.metrics.segmentation import CLASSES, EMPTY_RULES, Definition
from neurocli.core.nn.blocks3d import DOWNS, STEMS
from neurocli.core.nn.layers3d import ACTIVATIONS, NORMS
from neurocli.core.nn.mobilevit3d import FUSIONS
from neurocli.core.nn.positions import METHODS
from neurocli.systems.brats import blocks
from neurocli.systems.brats import config as brats
from neurocli.systems.brats.blocks import MODALITIES, Modality
from neurocli.systems.brats.models.mobile_unetr import VARIANTS
from neurocli.systems.brats.stages import DOWN_NAMES, STEM_NAMES
from neurocli.systems.fmri import config
from neurocli.systems.fmri.models.fmamba import TOKEN_MASKS
from neurocli.systems.fmri.models.heads import HEADS


def words(annotation: object) -> list[str]:
    """Return the texts of a Literal, nested ones too."""
    found = []
    for part in typing.get_args(annotation):
        found += [part] if isinstance(part, str) else words(part)
    return found


def allowed(block: type, key: str) -> list[str]:
    return words(typing.get_type_hints(block)[key])


def test_scalings() -> None:
    assert words(config.StoredScaling) == list(SCALINGS)
    assert words(config.Scaling) == ["auto", *SCALINGS]
    assert allowed(config.PreprocessOptions, "scaling") == list(SCALINGS)


def test_the_help_of_preprocess_names_the_scalings() -> None:
    text = inspect.getsource(preprocess)
    assert all(name in text for name in SCALINGS)


def test_model_words() -> None:
    assert set(allowed(config.FMambaConfig, "pe_method")) == set(METHODS)
    assert set(allowed(config.FMambaConfig, "token_mask")) == set(TOKEN_MASKS)
    assert set(allowed(config.FMambaHeadConfig, "head")) == set(HEADS)


def test_tumour_words() -> None:
    assert allowed(blocks.BratsTaskBlock, "blend") == list(BLENDS)
    assert allowed(blocks.BratsTaskBlock, "extent") == list(EXTENTS)
    assert allowed(blocks.BratsTaskBlock, "empty") == list(EMPTY_RULES)
    assert allowed(blocks.BratsTaskBlock, "hd95") == words(Definition)
    assert allowed(blocks.BratsTaskBlock, "lesions") == [*RULES, "none"]


def test_flags_of_evaluate() -> None:
    assert set(EVALUATE_KEYS) <= set(evaluate.EvaluateOptions.__annotations__)
    own = [key.partition(".")[2] for key in EVALUATE_KEYS.values() if key.startswith("task.")]
    assert set(own) <= set(blocks.BratsTaskBlock.model_fields)


def test_blocks_and_styles() -> None:
    assert tuple(STEMS) == STEM_NAMES
    assert tuple(DOWNS) == DOWN_NAMES
    assert allowed(brats.BranchNetConfig, "norm") == list(NORMS)
    assert allowed(brats.BranchNetConfig, "act") == list(ACTIVATIONS)
    assert allowed(brats.BranchNetConfig, "mvit_fusion") == list(FUSIONS)
    assert set(allowed(brats.MobileUnetrConfig, "variant")) == set(VARIANTS)
    assert words(brats.Modality) == list(MODALITIES) == words(Modality)
    assert len(CLASSES) == brats.N_CLASSES


def test_parts() -> None:
    assert words(Part) == [*PARTS, "rest"]
    assert set(evaluate.PARTS) == {*PARTS, "all"}
