"""Weights under the published package's layer names, both ways, key by key.

One session is `net.0`, `net.2.module.0`, ... (`net.1`, `net.3`, ... of the single-frame encoder);
several sessions stand below their numbers, `0.net.0`, as a list of models does. A shared trunk is
written once per session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from neurocli.core.engine.export import OfficialWeights
from neurocli.core.engine.weights import Recognised
from neurocli.core.errors import NeuroError
from neurocli.systems.calcium.config import FIELDS, N_SKIPS

_OWN = re.compile(r"(inputs|trunks)\.(\d+)\.(.+)")
_THEIRS = re.compile(r"(?:(\d+)\.)?(?:module\.)?(net\.\d+\.(?:module\.0\.)?(?:weight|bias))")
_MODELS = {
    "offset1": "cebra-offset1",
    "offset5": "cebra-offset5",
    "offset10": "cebra",
    "offset36": "cebra-offset36",
}


def layer_names(encoder: str) -> dict[str, str]:
    """Return our layer -> the package's, for an encoder; our input layer is `inputs`.

    Args:
        encoder: Key of `FIELDS`.
    """
    if encoder == "offset1":
        return {"inputs": "net.1", "skips.0": "net.3", "skips.1": "net.5", "out": "net.7"}
    n = N_SKIPS[encoder]
    skips = {f"skips.{i}": f"net.{i + 2}.module.0" for i in range(n)}
    return {"inputs": "net.0", **skips, "out": f"net.{n + 2}"}


def recognise(
    weights: Mapping[str, Tensor], told: Mapping[str, Any] | None = None
) -> Recognised | None:
    """Tell which encoder weights are of, ours or the package's.

    Args:
        weights: Tensors by name.
        told: Unused: shapes tell all sizes.

    Returns:
        The encoder, its sizes and the weights under our names; None for other weights.
    """
    del told
    own = dict(weights)
    if "inputs.0.weight" not in own:
        found = _from_package(own)
        if found is None:
            return None
        own = found
    encoder = _encoder(own)
    if encoder is None:
        return None
    out, first = own["trunks.0.out.weight"], own["inputs.0.weight"]
    n_inputs = sum(name.startswith("inputs.") and name.endswith(".weight") for name in own)
    neurons = [int(own[f"inputs.{i}.weight"].shape[1]) for i in range(n_inputs)]
    sizes = {"encoder": encoder, "hidden_dim": int(first.shape[0]), "output_dim": int(out.shape[0]),
             "n_neurons": neurons}  # fmt: skip
    return Recognised(_MODELS[encoder], sizes, {}, own)


def _encoder(own: Mapping[str, Tensor]) -> str | None:
    first = own.get("inputs.0.weight")
    out = own.get("trunks.0.out.weight")
    if first is None or out is None:
        return None
    if first.ndim == 2:
        return "offset1" if "trunks.0.skips.1.weight" in own else None
    count = sum(bool(re.fullmatch(r"trunks\.0\.skips\.\d+\.weight", name)) for name in own)
    return next((encoder for encoder, n in N_SKIPS.items() if n == count), None)


def _from_package(theirs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    by_session: dict[int, dict[str, Tensor]] = {}
    for name, value in theirs.items():
        match = _THEIRS.fullmatch(name)
        if match is None:
            return None
        by_session.setdefault(int(match[1] or 0), {})[match[2]] = value
    if not by_session:
        return None
    own: dict[str, Tensor] = {}
    for number, weights in by_session.items():
        encoder = next(
            (e for e in FIELDS if {f"{n}.weight" for n in layer_names(e).values()} | {
                f"{n}.bias" for n in layer_names(e).values()} == set(weights)),
            None,
        )  # fmt: skip
        if encoder is None:
            return None
        for layer, name in layer_names(encoder).items():
            place = f"inputs.{number}" if layer == "inputs" else f"trunks.{number}.{layer}"
            for kind in ("weight", "bias"):
                own[f"{place}.{kind}"] = weights[f"{name}.{kind}"]
    return own


def official_names(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], info: Mapping[str, Any]
) -> OfficialWeights:
    """Return weights of this room as the package names them.

    Args:
        weights: Tensors by our names.
        config: The run's configuration as plain values; empty when unknown.
        info: What its data told; empty when unknown.

    Raises:
        NeuroError: The weights are of no encoder of this room.
    """
    match = recognise(weights)
    if match is None:
        raise NeuroError(
            "these are weights of no encoder of this room",
            hint="see `neuro models list` for the models that can be exported",
        )
    own = match.weights
    n_sessions = len(match.sizes["n_neurons"])
    is_shared = "trunks.1.out.weight" not in own
    names = layer_names(match.sizes["encoder"])
    found: dict[str, Tensor] = {}
    for number in range(n_sessions):
        prefix = f"{number}." if n_sessions > 1 else ""
        trunk = 0 if is_shared else number
        for layer, name in names.items():
            place = f"inputs.{number}" if layer == "inputs" else f"trunks.{trunk}.{layer}"
            for kind in ("weight", "bias"):
                found[f"{prefix}{name}.{kind}"] = own[f"{place}.{kind}"]
    left_out = tuple(name for name in own if _OWN.fullmatch(name) is None)
    hyper = {
        "model_architecture": f"{match.sizes['encoder']}-model",
        "num_hidden_units": match.sizes["hidden_dim"],
        "output_dimension": match.sizes["output_dim"],
        "sessions": list(info.get("sessions", ())) or None,
        "temperature": config.get("task", {}).get("temperature"),
    }
    return OfficialWeights(
        bare=found,
        wrapped=found,
        hyper_parameters={key: value for key, value in hyper.items() if value is not None},
        left_out=left_out,
        notes=(
            "the encoder takes scaled traces: the scale of every neuron stays in the checkpoint, "
            "and the published package scales nothing by itself",
        ),
    )
