"""FMamba: a causal Mamba-2 backbone over the brain tokens of a 4D fMRI clip.

A clip is cut into patches, background patches are dropped, each patch is projected and given a
position, and L pre-norm Mamba-2 layers read the tokens in raster order, time fastest. Pretraining
predicts the voxels of the next kept token. State-dict names are those of the official model:
`embedder.projection`, `embedder.pos`, `mamba_layers.{i}.0.weight` (norm), `mamba_layers.{i}.1.*`
(Mamba-2), `norm.weight`, `output_layer.*`.

Letters: B batch, C channel, H W D space, T time, N tokens of the grid, K kept tokens, E width,
F voxels of one token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import lookup
from neurocli.core.nn.gathered import any_over_ranks
from neurocli.core.nn.mamba2 import Mamba2, RMSNorm, head_size
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup
from neurocli.core.nn.shapes import ShapeError
from neurocli.core.nn.values import is_true
from neurocli.systems.fmri.models.embedder import TokenEmbedder
from neurocli.systems.fmri.models.forecast import next_token_loss
from neurocli.systems.fmri.models.patches import (
    brain_tokens,
    check_clip,
    check_token_mask,
    foreground_tokens,
    patchify,
    token_grid,
)
from neurocli.systems.fmri.models.ready import check_ready, own_patches, whole_raster
from neurocli.systems.fmri.models.shares import Borders, FMambaOutput, share_of

TOKEN_MASKS = {
    "union": "keep what is brain in any sample of the batch",
    "per-sample": "keep each sample's own brain tokens; samples are packed into one sequence",
    "none": "keep all tokens",
}
_MINIMUM_BACKGROUND = "znorm_minback"
_CPU_CHUNK = 64  # fastest on a CPU; the result does not depend on it


class FMamba(nn.Module):
    """Encode fMRI clips with Mamba-2 layers and, when pretraining, predict the next token.

    Background tokens are dropped only with `calc_loss_without_background` and a `token_mask` other
    than "none". With "union" a sample's result depends on the other samples of its batch, as in
    the reference; with "per-sample" it does not.

    Args:
        embed_dim: Width E.
        num_layers: Layers L.
        d_state: State size of a layer; E // 4 in the published models.
        d_conv: Taps of a layer's convolution.
        expand: Inner width of a layer over E.
        img_size: Voxels along H, W, D and frames along T of a clip.
        patch_size: The same for one patch; divides `img_size`.
        pe_method: Positional encoding: nerf, ff, cpe or none.
        calc_loss_without_background: Drop background tokens.
        input_scaling_method: How clips were scaled; "znorm_minback" makes a sample's minimum the
            background value, anything else 0.
        token_mask: union, per-sample or none.
        in_chans: Channels C.
        pretraining: Build the output layer.
        chunk_size: Chunk of the scan; the result does not depend on it.
        bidirectional: Let every layer also scan the reversed tokens and add both branches. The
            weights are the same; predictions then see the tokens after them.
        mask_token: Learn a token that stands in for hidden patches (`masked` of `forward`).
        pe_seed: Seed of the positions' fixed random projection.

    Raises:
        UsageError: A size or a name does not fit; what fits is named.
    """

    def __init__(  # the published signature, kept whole
        self,
        embed_dim: int,
        num_layers: int,
        d_state: int,
        d_conv: int,
        expand: int,
        img_size: Sequence[int],
        patch_size: Sequence[int],
        pe_method: str,
        calc_loss_without_background: bool,
        input_scaling_method: str,
        token_mask: str = "union",
        *,
        in_chans: int = 1,
        pretraining: bool = True,
        chunk_size: int = _CPU_CHUNK,
        bidirectional: bool = False,
        mask_token: bool = False,
        pe_seed: int = 0,
    ) -> None:
        super().__init__()
        lookup("token mask", token_mask, TOKEN_MASKS)
        self.grid = token_grid(img_size, patch_size)
        self.img_size = tuple(int(size) for size in img_size)
        self.patch_size = tuple(int(size) for size in patch_size)
        self.in_chans, self.embed_dim = in_chans, embed_dim
        self.drops_background = calc_loss_without_background and token_mask != "none"
        self.minimum_is_background = input_scaling_method == _MINIMUM_BACKGROUND
        self.token_mask, self.bidirectional = token_mask, bidirectional
        n_voxels = in_chans * torch.Size(self.patch_size).numel()

        self.embedder = TokenEmbedder(
            n_voxels,
            embed_dim,
            grid=self.grid,
            pe_method=pe_method,
            pe_seed=pe_seed,
            mask_token=mask_token,
        )
        headdim = _head_size(embed_dim, expand)
        if num_layers < 1:
            raise UsageError(f"num_layers is {num_layers}, expected at least 1", where="num_layers")
        self.mamba_layers = nn.ModuleList(
            nn.ModuleList(
                [
                    RMSNorm(embed_dim),
                    Mamba2(embed_dim, d_state, d_conv, expand, headdim, chunk_size=chunk_size),
                ]
            )
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(embed_dim)
        self.output_layer = nn.Linear(embed_dim, n_voxels) if pretraining else None
        self.sequence, self._n_before = WHOLE, d_conv - 1

    def divide_sequence(self, group: SequenceGroup) -> None:
        """Share the tokens of every batch with other processes, which are given the same batches.

        Args:
            group: The processes; see `core.nn.sequence_parallel`.
        """
        self.sequence = group

    def forward(
        self, x: Tensor, brain: Tensor | None = None, *, masked: Tensor | None = None
    ) -> FMambaOutput:
        """Encode a batch of clips.

        Args:
            x: Scaled clips (B,C,H,W,D,T), finite; or ready patches (B,K+1,F), see `ready`.
            brain: Voxel masks (B,H,W,D), bool: a token is brain where any of its voxels is. None
                to compare voxels with the background value. With ready patches the mask (B,N) of
                their tokens.
            masked: Tokens (B,N) of the full raster to hide behind the mask token, bool; None to
                hide none. The kept tokens do not depend on it.

        Returns:
            `patches` (B,K,F) of the kept tokens, `features` (B,K,E) after the last norm,
            `last_block_out` (B,K,E) of the last layer before its residual, `token_mask`,
            `token_index`, when pretraining `pred` (B,K,F), and with `masked` its kept part (B,K).

        Raises:
            ShapeError: The clip or a mask does not fit the model, or is not finite.
            UsageError: Tokens are to be hidden, and the model has no mask token.
            NeuroError: No token is brain.
        """
        patches, mask = self._patches(x, brain)
        if masked is not None:
            check_token_mask("masked", masked, mask.expand(x.shape[0], -1))
        share = share_of(mask, self.sequence, n_before=self._n_before)
        sample, place, n_own = share.sample, share.place[: share.n_own], share.n_own
        if sample is None:
            kept = patches if len(share.index) == mask.numel() else patches[:, share.index]
            hidden = None if masked is None else masked[:, place]
        else:
            # Packed one after the other, the samples are a single sequence.
            if x.ndim == 3:
                kept = own_patches(patches, mask)[share.rows].unsqueeze(0)
            else:
                kept = patches[sample, share.place].unsqueeze(0)
            hidden = None if masked is None else masked[sample[:n_own], place].unsqueeze(0)
        tokens = self.embedder(kept[:, :n_own], place, hidden)
        features, last = self._encode(tokens, share.seq_idx, share.borders)
        features = share.laid_out(features, own=True)
        output = FMambaOutput(
            patches=share.laid_out(kept, own=False),
            features=features,
            last_block_out=share.laid_out(last, own=True),
            token_mask=mask,
            token_index=share.index,
            own=share.own,
        )
        if self.output_layer is not None:
            output["pred"] = self.output_layer(features)
        if masked is not None:
            output["masked"] = share.at(masked)
        return output

    def ar_loss(self, x: Tensor, brain: Tensor | None = None) -> Tensor:
        """Return the autoregressive loss: mean (pred of token k - patch of token k+1)^2.

        Args:
            x: Scaled clips (B,C,H,W,D,T).
            brain: Voxel masks (B,H,W,D), bool, or None.

        Returns:
            Scalar over all voxels of all next-token targets of the batch.

        Raises:
            UsageError: The model was built without its output layer, or sees the future.
            NeuroError: The clip does not fit, or fewer than two tokens are kept.
        """
        if self.output_layer is None:
            raise UsageError(
                "this FMamba was built without its output layer, so it predicts no tokens",
                hint="build it with pretraining=True",
            )
        if self.bidirectional:
            raise UsageError(
                "this FMamba reads both ways, so it has seen the token it would predict",
                where="model.bidirectional",
                hint="set it to false for next-token prediction",
            )
        output = self(x, brain)
        pred, patches, index = output["pred"], output["patches"], output["token_index"]
        return next_token_loss(pred, patches, index, group=self.sequence)

    def fitted(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights whose positions are those of this model's grid, ready to be loaded.

        A model that was trained on another grid or clip length starts one on this grid that way.

        Args:
            weights: Tensors by official name; none is changed.

        Raises:
            ShapeError: The patches differ, or the positions were saved for another grid with a
                random projection that is not known.
        """
        fitted = dict(weights)
        projection = fitted.get("embedder.projection")
        own = self.embedder.projection
        if projection is not None and projection.shape[:1] != own.shape[:1]:
            raise ShapeError(
                f"the checkpoint has patches of {projection.shape[0]} voxels, patch_size "
                f"{self.patch_size} has {own.shape[0]}",
                where="model.patch_size",
                hint="use the patch_size the checkpoint was trained with: patches are learned",
            )
        if "embedder.pos" in fitted:
            fitted["embedder.pos"] = self.embedder.fitted_positions(fitted["embedder.pos"])
        return fitted

    @property
    def scan_backend(self) -> str | None:
        """Return what the last forward pass scanned with: torch, mamba-ssm, or None before it."""
        layer = cast(nn.ModuleList, self.mamba_layers[0])
        return cast(Mamba2, layer[1]).scan_backend

    def _encode(
        self, tokens: Tensor, seq_idx: Tensor | None, borders: Borders
    ) -> tuple[Tensor, Tensor]:
        branch = tokens
        for layer in self.mamba_layers:
            norm, mixer = cast(nn.ModuleList, layer)
            branch = self._mix(mixer, norm(tokens), seq_idx, borders)
            tokens = tokens + branch
        return self.norm(tokens), branch

    def _mix(
        self, mixer: nn.Module, normed: Tensor, seq_idx: Tensor | None, borders: Borders
    ) -> Tensor:
        """Scan the tokens, and from the end too where both ways are read."""
        forth, back = borders
        if not self.bidirectional:
            return cast(Tensor, mixer(normed, seq_idx, forth))
        # Reversed packed samples stay apart: only their order and their tokens' turns.
        turned = None if seq_idx is None else seq_idx.flip(1)
        if self.sequence.comes_first("forth"):
            branch = mixer(normed, seq_idx, forth)
            return cast(Tensor, branch + mixer(normed.flip(1), turned, back).flip(1))
        branch = mixer(normed.flip(1), turned, back).flip(1)
        return cast(Tensor, mixer(normed, seq_idx, forth) + branch)

    def _patches(self, x: Tensor, brain: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return patches of the raster (B,N,F) and the mask of the tokens to keep.

        Ready patches stay as they came where each sample keeps its own.
        """
        if x.ndim != 3:
            check_clip(x, (self.in_chans, *self.img_size))
            patches = patchify(x, self.patch_size)
            return patches, self._tokens_to_keep(patches, brain)
        projection = self.embedder.projection
        tokens = check_ready(x, brain, math.prod(self.grid), projection.shape[0])
        mask = self._joined(tokens)
        x = x.to(projection.dtype)
        return (x if mask.ndim == 2 else whole_raster(x, tokens)), mask

    def _tokens_to_keep(self, patches: Tensor, brain: Tensor | None) -> Tensor:
        if not self.drops_background:
            return torch.ones(patches.shape[1], dtype=torch.bool, device=patches.device)
        if brain is not None:
            mask = brain_tokens(brain, patches.shape[0], self.grid, self.patch_size)
        else:
            mask = foreground_tokens(patches, minimum_is_background=self.minimum_is_background)
        return self._joined(mask)

    def _joined(self, mask: Tensor) -> Tensor:
        """Return which tokens a batch keeps, (N,) or (B,N), from those that are brain (B,N)."""
        if not self.drops_background:
            return torch.ones(mask.shape[1], dtype=torch.bool, device=mask.device)
        empty = ~mask.any(1)
        union = mask.any(0)
        if self.training and self.token_mask == "union":
            # A batch that processes share has one union, or its tokens would depend on them.
            union = any_over_ranks(union)
        nobody = ~union.any() if self.token_mask == "union" else empty.any()
        if is_true(nobody, usually=False):
            raise NeuroError(
                f"sample {int(empty.nonzero()[0])} of the batch has no brain token",
                hint="check its brain mask and the input scaling, or set the token mask to none",
            )
        return union if self.token_mask == "union" else mask

    def shard_units(self) -> list[nn.Module]:
        """Return the blocks whose weights a sharding engine gathers one at a time."""
        return [cast(nn.ModuleList, layer)[1] for layer in self.mamba_layers]


def _head_size(embed_dim: int, expand: int) -> int:
    size = head_size(embed_dim * expand) if embed_dim * expand > 0 else None
    if size is None:
        step = 8 // math.gcd(8, expand)
        low = embed_dim // step * step
        fitting = [str(width) for width in (low, low + step, low + 2 * step) if width > 0]
        raise UsageError(
            f"embed_dim {embed_dim} with expand {expand} gives an inner width of "
            f"{embed_dim * expand}, which no head size (64, 32, 16, 8) divides",
            where="model.embed_dim",
            hint=f"embed_dim that can be built: {', '.join(fitting)}; multiples of 32 are fastest",
        )
    return size
