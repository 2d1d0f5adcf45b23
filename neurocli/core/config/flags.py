"""Which config key each named flag sets: the one table for the shell and for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurocli.core.config.nodes import Plain

TRAIN_KEYS: Mapping[str, str] = {
    "pretrain": "task.objective",
    "task": "task.target",
    "task_type": "task.target_type",
    "data": "data.path",
    "split": "data.split",
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch_size": "data.batch_size",
    "lr": "train.lr",
    "precision": "train.precision",
    "init_from": "train.init_from",
    "freeze": "train.freeze",
    "parallel": "train.parallel",
    "accumulate": "train.accumulate",
    "ema": "train.ema",
    "early_stop": "train.early_stop",
    "seed": "run.seed",
    "device": "run.device",
}

EVALUATE_KEYS: Mapping[str, str] = {
    "data": "data.path",
    "split": "data.split",
    "device": "run.device",
    "batch_size": "data.eval_batch_size",
    "sliding_window": "task.sliding_window",
    "roi": "task.roi",
    "overlap": "task.overlap",
    "blend": "task.blend",
    "tta": "task.tta",
    "empty": "task.empty",
}


def flag_layer(
    values: Mapping[str, Any], keys: Mapping[str, str] = TRAIN_KEYS
) -> dict[str, tuple[str, Plain]]:
    """Return the config layer of the flags that were given.

    Args:
        values: Parameter name -> value; None means the flag was not given.
        keys: Parameter name -> dotted config key.

    Returns:
        Dotted key -> (flag as typed, value), as `resolve_config` takes it.

    >>> flag_layer({"lr": 0.1, "steps": None})
    {'train.lr': ('--lr', 0.1)}
    """
    return {
        keys[name]: (f"--{name.replace('_', '-')}", _plain(value))
        for name, value in values.items()
        if name in keys and value is not None
    }


def _plain(value: Any) -> Plain:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)
