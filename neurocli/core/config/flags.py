"""Which config key each named flag sets: the one table for the shell and for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurocli.core.config.nodes import Plain

DATA_KEY, JOIN_KEY = "data.path", "data.join"
"""One dataset, or several; what is said later wins over both."""

TRAIN_KEYS: Mapping[str, str] = {
    "pretrain": "task.objective",
    "task": "task.target",
    "task_type": "task.target_type",
    "data": DATA_KEY,
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
    "data": DATA_KEY,
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
    >>> flag_layer({"data": ["h5"]}), flag_layer({"data": ["a", "b"]})
    ({'data.path': ('--data', 'h5')}, {'data.join': ('--data', ['a', 'b'])})
    """
    found: dict[str, tuple[str, Plain]] = {}
    for name, value in values.items():
        if name in keys and value is not None:
            key, plain = keys[name], _plain(value)
            if key == DATA_KEY and isinstance(plain, list):
                # One folder is a dataset, several are joined.
                key, plain = (DATA_KEY, plain[0]) if len(plain) == 1 else (JOIN_KEY, plain)
            found[key] = (f"--{name.replace('_', '-')}", plain)
    return found


def _plain(value: Any) -> Plain:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)
