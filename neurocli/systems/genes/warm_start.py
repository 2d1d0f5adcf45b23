"""Put the closed form into linear encoders, as the weights from which training starts.

The best that cosines of linear maps can do is to weigh each pair of variates that correlate at r
with sqrt(r / (1 - r^2)) on both sides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.systems.genes.closed_form import Components
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.models.pair import Aligned, GenePair
from neurocli.systems.genes.models.sequence import GeneSequence
from neurocli.systems.genes.oracle import pmi_terms

Float64 = npt.NDArray[np.float64]
_SPARE = 1e-3  # size of the first weights in outputs that the closed form leaves free


def start_from_closed_form(model: Aligned, form: ClosedForm) -> None:
    """Set the weights of linear encoders to the closed form.

    Args:
        model: gene_pair without a hidden layer, or gene_sequence with the tower `linear-sum`.
        form: Fitted on the training part.

    Raises:
        UsageError: An encoder is not linear, or nothing stands out.
    """
    is_sum = isinstance(model, GeneSequence) and model.config.gene_tower == "linear-sum"
    if model.neuro_projection.last is not None or not (isinstance(model, GenePair) or is_sum):
        raise UsageError(
            "the closed form is linear and starts linear encoders only",
            where="--method rcca+contrastive",
            hint="leave --hidden-dim out; with --mode sequence add -s model.gene_tower=linear-sum",
        )
    kept = [
        np.arange(len(fit.r)) if len(form.fits) == 1 else np.flatnonzero(fit.counted)
        for fit in form.fits
    ]
    r = np.concatenate([fit.weights[at] for fit, at in zip(form.fits, kept, strict=True)])
    if not len(r):
        raise UsageError("no gene stands out in training, so there is nothing to start from")
    place = np.argsort(-r)[: model.neuro_projection.first.out_features]
    weight = np.sqrt(pmi_terms(r)[0])
    brain = np.concatenate(
        [fit.brain[:, at] for fit, at in zip(form.fits, kept, strict=True)], axis=1
    )
    _set_linear(
        model.neuro_projection.first,
        _raw_map(form.components, (brain * weight)[:, place]),
        (model.neuro_mean, model.neuro_std),
    )
    first = 0
    for index, (fit, at) in enumerate(zip(form.fits, kept, strict=True)):
        columns = np.zeros((fit.gene.shape[0], len(r)))
        columns[:, first : first + len(at)] = fit.gene[:, at] * weight[first : first + len(at)]
        first += len(at)
        mapped = _raw_map(fit.components, columns[:, place])
        standard = (model.gene_mean[index], model.gene_std[index])
        if isinstance(model, GenePair):
            _set_linear(model.gene_projection.first, mapped, standard)
        elif isinstance(model, GeneSequence):
            weights, bias = _standardised(mapped, standard)
            with torch.no_grad():
                model.input_weight[index].mul_(_SPARE)[:, : len(place)] = weights
                model.input_bias[index][: len(place)] = bias


def _raw_map(components: Components, columns: Float64) -> tuple[Float64, Float64]:
    """Return weights (F, K) and bias (K,) from raw rows to variates."""
    weights = components.axes.astype(np.float64) @ columns
    return weights, -components.mean.astype(np.float64) @ weights


def _standardised(
    mapped: tuple[Float64, Float64], standard: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the same map of z-scored rows, as tensors."""
    mean, std = (value.double().numpy() for value in standard)
    weights, bias = mapped[0] * std[:, None], mapped[1] + mean @ mapped[0]
    return torch.from_numpy(weights).float(), torch.from_numpy(bias).float()


def _set_linear(
    layer: nn.Linear, mapped: tuple[Float64, Float64], standard: tuple[Tensor, Tensor]
) -> None:
    weights, bias = _standardised(mapped, standard)
    n = weights.shape[1]
    with torch.no_grad():
        layer.weight.mul_(_SPARE)
        layer.bias.mul_(_SPARE)
        layer.weight[:n] = weights.T
        layer.bias[:n] = bias
