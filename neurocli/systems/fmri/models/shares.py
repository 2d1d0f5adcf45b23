"""Which tokens of a batch a process holds, and how packed tokens are laid out by sample.

With a mask per sample all kept tokens of a batch are packed one sample after the other, and the
packed sequence is what several ranks divide; with one mask for all, every sample is divided alike.
A share also knows the token behind its last one, whose voxels are what that one predicts.

Letters: B samples, N tokens of the grid, M kept tokens of the batch or of a sample, L own tokens,
K most own tokens of a sample (and the one behind), F values per token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.sequence_parallel import WHOLE, Border, SequenceGroup
from neurocli.core.nn.values import has_values
from neurocli.systems.fmri.models.patches import kept_index, kept_pairs

Borders = tuple[Border | None, Border | None]
"""Where scans from the beginning and from the end cross to other processes."""


class FMambaOutput(TypedDict):
    """What a forward pass returns.

    With `token_mask="per-sample"` the token axis is padded with zeros to the longest sample, the
    mask is (B,N) and the index (B,K) with -1 for padding; else they are (N,) and (K,). `masked`
    (B,K), given when tokens were hidden, says which of the kept ones were.

    Where several processes share the tokens, all but the mask is of this process: patches and
    index hold its tokens and the one behind them, `own` says which of the index are its own, and
    features and predictions are zero where a token is not.
    """

    patches: Tensor
    features: Tensor
    last_block_out: Tensor
    token_mask: Tensor
    token_index: Tensor
    own: Tensor
    pred: NotRequired[Tensor]
    masked: NotRequired[Tensor]


@dataclass(frozen=True)
class Share:
    """Hold the places of a process's tokens.

    Args:
        rows: Where they and the one behind stand among all M kept tokens.
        n_own: How many are its own, L.
        sample: Sample of each (L or L+1,); None where one mask serves all samples.
        place: Place of each in the raster.
        index: The same laid out, (K,) or (B,K) with -1 for padding.
        own: Which of `index` are its own, bool.
        borders: Where scans from the beginning and from the end cross to other ranks.
    """

    rows: slice
    n_own: int
    sample: Tensor | None
    place: Tensor
    index: Tensor
    own: Tensor
    borders: Borders

    @property
    def seq_idx(self) -> Tensor | None:
        """Return the segment of each own token (1,L), None for one segment."""
        return None if self.sample is None else self.sample[None, : self.n_own]

    def laid_out(self, packed: Tensor, *, own: bool) -> Tensor:
        """Lay tokens out by sample.

        Args:
            packed: Tokens (1,L,F), or with the one behind; (B,L,F) where one mask serves all.
            own: Whether they are the own tokens only.

        Returns:
            (B,K,F), zero where a sample has no more tokens.
        """
        if self.sample is None:
            n_missing = self.index.shape[0] - packed.shape[1]
            return F.pad(packed, (0, 0, 0, n_missing)) if n_missing else packed
        return laid_out(packed[0], self.own if own else self.index >= 0)

    def at(self, mask: Tensor) -> Tensor:
        """Return a mask (B,N) at the laid-out own tokens (B,K), false elsewhere."""
        places = self.index.expand(mask.shape[0], -1)
        return mask.gather(1, places.clamp(min=0)) & self.own


def share_of(mask: Tensor, group: SequenceGroup, *, n_before: int) -> Share:
    """Return what this process holds of the kept tokens of a batch.

    Args:
        mask: Tokens to keep, (N,) for all samples or (B,N).
        group: The processes that share them.
        n_before: Tokens before a share that a layer's convolution reads.

    Raises:
        NeuroError: There are fewer tokens than processes.
    """
    packed = mask.ndim == 2
    sample, place = kept_pairs(mask) if packed else (None, kept_index(mask))
    rows = group.rows(len(place))
    n_own, rows = rows.stop - rows.start, slice(rows.start, min(rows.stop + 1, len(place)))
    is_own = torch.arange(rows.stop - rows.start, device=mask.device) < n_own
    if sample is None:
        borders = _borders(group, None, rows.start + n_own, rows.start, n_before)
        return Share(rows, n_own, None, place[rows], place[rows], is_own, borders)
    borders = _borders(group, sample, rows.start + n_own, rows.start, n_before)
    sample, place = sample[rows], place[rows]
    if not has_values(mask):  # every token is kept, in one process
        index = place.view_as(mask)
        return Share(rows, n_own, sample, place, index, torch.ones_like(mask), borders)
    counts = sample.bincount(minlength=len(mask))
    real = torch.arange(int(counts.max()), device=mask.device) < counts.unsqueeze(1)
    index, own = torch.full_like(real, -1, dtype=place.dtype), real.clone()
    index[real], own[real] = place, is_own
    return Share(rows, n_own, sample, place, index, own, borders)


def _borders(
    group: SequenceGroup, sample: Tensor | None, stop: int, start: int, n_before: int
) -> Borders:
    """Return the borders of the tokens [start, stop) for both ways."""
    if group.size == 1:
        return None, None
    if sample is None:
        return Border(group, "forth"), Border(group, "back")
    # Beyond the ends stand zeros, which may count to any segment.
    steps = torch.arange(n_before, device=sample.device)
    before = sample[(start - n_before + steps).clamp(min=0)]
    behind = sample[(stop + n_before - 1 - steps).clamp(max=len(sample) - 1)]
    return Border(group, "forth", before[None]), Border(group, "back", behind[None])


def laid_out(packed: Tensor, mask: Tensor) -> Tensor:
    """Lay packed tokens (M,F) out where a mask (B,K) is true: (B,K,F), zero elsewhere."""
    whole = packed.new_zeros(*mask.shape, packed.shape[-1])
    if not has_values(mask):
        return whole.copy_(packed.view_as(whole))
    whole[mask] = packed
    return whole


def counted(output: Mapping[str, Any], group: SequenceGroup = WHOLE) -> Tensor | None:
    """Return which tokens (B,K) of a model's output count as this process's; None for all.

    Args:
        output: Of an FMamba.
        group: The processes that share its tokens.
    """
    own: Tensor = output["own"]
    if own.ndim == 1 and group.size == 1:
        return None
    return own.expand(output["features"].shape[0], -1)


def whole_features(output: Mapping[str, Any], group: SequenceGroup) -> tuple[Tensor, Tensor | None]:
    """Return the features of all tokens, from every process, and which (B,K) are real.

    Args:
        output: Of an FMamba.
        group: The processes that share its tokens.

    Returns:
        Features (B,K,E) and their mask, None where all are real.
    """
    features: Tensor = output["features"]
    own, mask = output["own"], output["token_mask"]
    if group.size == 1:
        return features, counted(output)
    n_tokens = int(mask.sum())
    if own.ndim == 1:
        return group.gather(features[:, : int(own.sum())], n_tokens), None
    packed = group.gather(features[own].unsqueeze(0), n_tokens)
    counts = mask.sum(1)
    real = torch.arange(int(counts.max()), device=mask.device) < counts.unsqueeze(1)
    return laid_out(packed[0], real), real
