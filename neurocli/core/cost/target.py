"""From what a user names (a model, a preset, a checkpoint) to something whose cost can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurocli.core.catalog import RoomCard, find_model, models, resolve, rooms
from neurocli.core.config.load import config_from_plain, resolve_config
from neurocli.core.config.presets import presets
from neurocli.core.config.run import RunConfig
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import matching

if TYPE_CHECKING:
    from torch import Tensor, nn


_ALL = "all"


@dataclass(frozen=True)
class Target:
    """Hold one model whose cost is asked for.

    Args:
        name: Model name.
        room: Its room.
        config: Its configuration.
        info: What its builder must know of the data.
        input_shape: Shape of one sample as its room counts it.
        tokens_kept: Tokens left of a sample when its background is dropped; None for all.
    """

    name: str
    room: RoomCard
    config: RunConfig
    info: Mapping[str, Any]
    input_shape: tuple[int, ...]
    tokens_kept: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as plain values: classes of configurations are made there."""
        plain = self.config.model_dump(mode="json")
        return _restored, (plain, dict(self.info), self.input_shape, self.tokens_kept)

    def formula(self) -> dict[str, Any]:
        """Return the closed-form cost of one sample.

        Raises:
            NeuroError: The room has no closed formula.
        """
        options = {} if self.tokens_kept is None else {"tokens_kept": self.tokens_kept}
        count = _room_function(self.room, "clip_cost")
        cost: dict[str, Any] = count(self.config, self.info, **options)
        return cost

    def keeping(self, tokens: int) -> Target:
        """Return the same model on samples whose background is dropped.

        Args:
            tokens: How many tokens are kept.

        Raises:
            UsageError: The room's models have no tokens to drop, or not so many.
        """
        count = _room_function(self.room, "clip_cost")
        if "tokens_kept" not in signature(count).parameters:
            raise UsageError(
                f"{self.name} drops no background", where="--tokens-kept", hint="leave it out"
            )
        kept = replace(self, tokens_kept=tokens)
        kept.formula()
        return kept

    def build(self) -> nn.Module:
        """Return the untrained model in evaluation mode; weights do not change a cost."""
        _, card = find_model(self.name)
        model: nn.Module = resolve(card.build)(self.config, self.info)
        return model.eval()

    def example(self) -> Tensor:
        """Return one random sample with batch and channel axes, none of it background."""
        import torch

        shape = self._sample_shape()
        # Background is exactly 0 or a minimum; normal numbers keep every token.
        generator = torch.Generator().manual_seed(0)
        return torch.randn(*shape, generator=generator)

    def count_parameters(self) -> int:
        """Return how many numbers the model learns, by the room's formula and without torch.

        Raises:
            NeuroError: The room has no closed formula.
        """
        return int(_room_function(self.room, "count_parameters")(self.config, self.info))

    def outline(self) -> list[dict[str, Any]]:
        """Return the model's stages as rows, where its room can draw them; else none."""
        if self.room.outline is None:
            return []
        rows: list[dict[str, Any]] = resolve(self.room.outline)(self.config, self.info)
        return rows

    def _sample_shape(self) -> tuple[int, ...]:
        """Return the room's shape of one sample; one channel where the room does not say."""
        module = import_module(str(self.room.cost).partition(":")[0])
        told = getattr(module, "sample_shape", None)
        if told is None:
            return (1, 1, *self.input_shape)
        return tuple(told(self.config, {**self.info, "img_size": self.input_shape}))


def find_target(
    name: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Target:
    """Return what a name or a checkpoint stands for.

    Args:
        name: Model name, preset name (its model, else its room's first) or checkpoint file.
        input_shape: Shape of one sample; None takes the checkpoint's or the room's default.
        preset: Preset to start from.
        config: Configuration file.
        settings: `KEY=VALUE` texts.

    Raises:
        UsageError: An unknown name, or settings beside a checkpoint, which fixes its own.
        InputError: The checkpoint cannot be read.
        ConfigError: The configuration is wrong.
    """
    if is_checkpoint(name):
        if preset or config or settings:
            raise UsageError(
                "a checkpoint fixes its configuration, so --preset, --config and --set cannot "
                "change it",
                where=str(name),
                hint="name the model instead of the checkpoint",
            )
        return _from_checkpoint(Path(name), input_shape)
    model = str(name)
    if model in presets() and model not in models():
        if preset:
            raise UsageError(f"two presets were named: {model} and {preset}", where="--preset")
        preset, model = model, next(iter(rooms()[presets()[model].room].models)).name
    room, card = find_model(model)
    found = resolve_config(model=card.name, preset=preset, config=config, settings=settings).config
    return _target(room, found, {}, input_shape)


def _restored(
    plain: Mapping[str, Any],
    info: Mapping[str, Any],
    input_shape: tuple[int, ...],
    tokens_kept: int | None,
) -> Target:
    config = config_from_plain(plain, "the process that asked")
    room, card = find_model(config.model.name)
    return Target(card.name, room, config, info, input_shape, tokens_kept)


def is_checkpoint(name: str | Path) -> bool:
    """Return whether a user means a file: no known name, and it exists or looks like a path."""
    text = str(name)
    # A folder that happens to be called like a model must not hide the model.
    if text in models() or text in presets():
        return False
    path = Path(name)
    return path.exists() or bool(path.suffix) or isinstance(name, Path)


def expand_names(names: Sequence[str | Path]) -> list[str | Path]:
    """Return names with `all` and shell patterns replaced by the model names they fit, each once.

    Raises:
        UsageError: A pattern fits no model.
    """
    found: list[str | Path] = []
    for name in names:
        if name == _ALL:
            found += list(models())
            continue
        is_pattern = any(sign in str(name) for sign in "*?[") and not is_checkpoint(name)
        fitting = matching(str(name), models()) if is_pattern else [name]
        if not fitting:
            raise UsageError(f"no model fits '{name}'", hint="see `neuro models list`")
        found += fitting
    return list(dict.fromkeys(found))


def _from_checkpoint(path: Path, input_shape: Sequence[int] | None) -> Target:
    from neurocli.core.engine.checkpoint import load_checkpoint

    payload = load_checkpoint(path)
    config = config_from_plain(payload["config"], str(path))
    room, _ = find_model(config.model.name)
    return _target(room, config, payload["info"], input_shape)


def _target(
    room: RoomCard,
    config: RunConfig,
    info: Mapping[str, Any],
    input_shape: Sequence[int] | None,
) -> Target:
    default: Mapping[str, Any] = _room_function(room, "default_info")(config, input_shape)
    # What the data of a checkpoint told stands, unless another shape is asked for.
    merged = {**default, **info} if input_shape is None else {**info, **default}
    told = getattr(import_module(str(room.cost).partition(":")[0]), "input_shape", None)
    if told is not None:
        merged["img_size"] = list(told(config, merged))
    shape = tuple(int(size) for size in merged["img_size"])
    return Target(config.model.name, room, config, merged, shape)


def _room_function(room: RoomCard, name: str) -> Any:
    if room.cost is None:
        raise NeuroError(
            f"the room {room.name} does not tell what its models cost",
            hint="`neuro models list` shows the models of the other rooms",
        )
    module, _, _ = room.cost.partition(":")
    return resolve(f"{module}:{name}")
