"""Goodness of fit: the loss over fixed pairs, in bits, and what the geometry lets it be at most.

Bits are (ln N - loss) / ln 2 with N negatives. At a fixed temperature on a sphere they are capped
at (1/tau - ln E[exp(cos/tau)]) / ln 2 with E[exp(k cos)] = Gamma(D/2) (2/k)^(D/2-1) I_(D/2-1)(k),
reached when positives coincide and negatives are uniform.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from neurocli.core.nn.contrastive import prior_info_nce
from neurocli.systems.calcium.sampling import Pairs, Sampler

_DRAWS, _SEED = 8, 20
_LEAST_BESSEL, _TERMS = 1e-290, 2000


def attainable_bits(n_dims: int, scale: float) -> float:
    """Return the most bits that unit vectors allow.

    Args:
        n_dims: D.
        scale: Inverse temperature.

    >>> [round(attainable_bits(d, 1.0), 3) for d in (3, 8, 32, 128)]
    [1.21, 1.353, 1.42, 1.437]
    """
    from scipy.special import gammaln, ive, logsumexp

    order = n_dims / 2 - 1
    # ive is the Bessel function times exp(-scale), which would overflow.
    bessel = float(ive(order, scale))
    if bessel > _LEAST_BESSEL:
        log_mean = gammaln(n_dims / 2) + order * math.log(2 / scale) + math.log(bessel) + scale
    else:  # of many outputs it underflows; the power series of the mean then needs few terms
        m = np.arange(_TERMS)
        terms = 2 * m * math.log(scale / 2) - gammaln(m + 1) - gammaln(n_dims / 2 + m)
        log_mean = gammaln(n_dims / 2) + logsumexp(terms)
    return float((scale - log_mean) / math.log(2))


def fixed_loss(
    sampler: Sampler,
    embedded: list[npt.NDArray[np.float32]],
    n_refs: int,
    scale: float,
    distance: str,
    *,
    is_null: bool = False,
) -> tuple[float, int]:
    """Return the mean loss over draws that are always the same, and the negatives of each.

    Args:
        sampler: Over the judged windows.
        embedded: (n, D) per session.
        n_refs: References per session and draw.
        scale: Inverse temperature.
        distance: cosine or euclidean.
        is_null: Take positives at random instead, as a control.
    """
    tensors = [torch.from_numpy(own) for own in embedded]
    losses = []
    n_negatives = n_refs
    for number in range(_DRAWS):
        pairs = sampler.draw(np.random.default_rng([_SEED, number]), n_refs)
        ref, pos, neg = _three(tensors, pairs)
        if is_null:
            order = np.random.default_rng([_SEED, number, 1]).permutation(ref.shape[-2])
            pos = pos[..., torch.from_numpy(order), :]
        n_negatives = neg.shape[-2]
        losses.append(float(prior_info_nce(ref, pos, neg, scale, distance=distance)))
    return float(np.mean(losses)), n_negatives


def _three(
    tensors: list[torch.Tensor], pairs: Pairs
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ref, pos, neg = (
        [own[torch.from_numpy(index)] for own, index in zip(tensors, chosen, strict=True)]
        for chosen in (pairs.ref, pairs.pos, pairs.neg)
    )
    if pairs.align is None:
        return torch.stack(ref), torch.stack(pos), torch.stack(neg)
    return torch.cat(ref), torch.cat(pos)[torch.from_numpy(pairs.align)], torch.cat(neg)
