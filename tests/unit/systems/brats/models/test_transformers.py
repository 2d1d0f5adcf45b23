"""The transformer networks: MONAI's own result, public layouts, slices and volumes of any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config

INFO = {"modalities": ["t1", "t1ce", "t2", "flair"]}
SMALL_UNETR = [
    "model.img_size=32,32,32",
    "model.hidden_size=24",
    "model.num_heads=3",
    "model.mlp_dim=24",
    "model.feature_size=4",
]


def build(name: str, *settings: str) -> nn.Module:
    torch.manual_seed(0)
    config = load_config(model=name, set=list(settings))
    return resolve(find_model(name)[1].build)(config, INFO).eval()  # type: ignore[no-any-return]


def n_parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_unetr_is_monais() -> None:
    from monai.networks.nets.unetr import UNETR

    ours = build("unetr", *SMALL_UNETR)
    theirs = UNETR(2, 4, (32, 32, 32), 4, 24, 24, 3, "conv", "instance", res_block=True).eval()
    left = theirs.load_state_dict(ours.net.state_dict(), strict=False)
    # Only the attention over text, which MONAI holds and never runs, is not in ours.
    assert left.unexpected_keys == []
    assert all("cross_attn" in key for key in left.missing_keys)
    x = torch.randn(1, 4, 32, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x[:, [3, 1]]), atol=1e-5, rtol=1e-5)
    # Another size is filled, its positions interpolated, and cut again.
    assert ours(torch.randn(2, 4, 48, 33, 16)).shape == (2, 4, 48, 33, 16)
    assert torch.equal(ours(x), ours(x))


def test_swin_unetr_is_monais() -> None:
    from monai.networks.nets.swin_unetr import SwinUNETR

    ours = build("swin_unetr", "model.feature_size=12", "model.window_size=4")
    theirs = SwinUNETR(2, 4, window_size=4, feature_size=12).eval()
    theirs.load_state_dict(ours.net.state_dict())
    x = torch.randn(1, 4, 64, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x[:, [3, 1]]), atol=1e-4, rtol=1e-4)
    # One window of the smallest size is a single voxel at the bottom, where MONAI's norms fail.
    assert ours(x[..., :30, :20, :7]).shape == (1, 4, 30, 20, 7)


@pytest.mark.parametrize(
    # Published numbers with four classes, without the expanding layer (last width x deepest and its
    # norm), which nothing reads, and with the layer from two modalities to three colours.
    ("variant", "published", "deepest", "last"),
    [("s", 14_157_868, 160, 640), ("xs", 5_663_844, 96, 384), ("xxs", 3_006_148, 80, 320)],
)
def test_sizes_of_mobile_unetr(variant: str, published: int, deepest: int, last: int) -> None:
    unread = deepest * last + 2 * last
    assert n_parameters(build("mobile_unetr", f"model.variant={variant}")) == published - unread + 6


def in_our_order(theirs: nn.Module) -> list[torch.Tensor]:
    """Return their weights in our order: a layer norm before what it feeds, q k v as one."""
    layer = {
        "layernorm_before": 0,
        "attention.attention": 1,
        "attention.output": 2,
        "layernorm_after": 3,
        "intermediate": 4,
        "output": 5,
    }
    found: dict[tuple[int, int, str], list[torch.Tensor]] = {}
    for at, (name, weight) in enumerate(theirs.named_parameters()):
        head, inside, tail = name.partition(".transformer.layer.")
        if not inside:
            found[at, 0, ""] = [weight]
            continue
        number, _, rest = tail.partition(".")
        first = (
            next(key[0] for key in found if key[2] == head + number)
            if any(key[2] == head + number for key in found)
            else at
        )
        part = next(place for word, place in layer.items() if rest.startswith(word))
        kind = int(rest.endswith("bias"))
        found.setdefault((first, 2 * part + kind, head + number), []).append(weight)
    return [torch.cat(found[key]) for key in sorted(found)]


def test_the_encoder_is_the_public_mobilevit() -> None:
    """The public implementation, with our weights in its places, gives our maps."""
    transformers = pytest.importorskip("transformers")
    ours = build("mobile_unetr", "model.variant=xxs").encoder
    config = transformers.MobileViTConfig(
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        output_hidden_states=True,
        hidden_dropout_prob=0.0,
    )
    theirs = transformers.MobileViTModel(config, expand_output=False).eval()
    assert n_parameters(ours) == n_parameters(theirs)
    with torch.no_grad():
        for weight, source in zip(ours.parameters(), in_our_order(theirs), strict=True):
            assert weight.shape == source.shape
            weight.copy_(source)
    x = torch.randn(1, 3, 64, 64)
    want = theirs(x).hidden_states
    for got, other in zip(ours(x), want, strict=True):
        torch.testing.assert_close(got, other, atol=1e-4, rtol=1e-4)


def test_volumes_are_cut_into_slices() -> None:
    model = build("mobile_unetr", "model.variant=xxs")
    x = torch.randn(1, 4, 40, 36, 2)
    with torch.no_grad():
        whole = model(x)
        assert whole.shape == (1, 4, 40, 36, 2)
        for at in range(2):
            torch.testing.assert_close(whole[..., at], model(x[..., at]), atol=1e-5, rtol=1e-5)
        across = build("mobile_unetr", "model.variant=xxs", "model.slice_axis=0")
        torch.testing.assert_close(
            across(x.permute(0, 1, 4, 2, 3)), whole.permute(0, 1, 4, 2, 3), atol=1e-5, rtol=1e-5
        )


def test_the_3d_form_takes_any_size() -> None:
    model = build("mobile_unetr_3d", "model.variant=xxs")
    assert model(torch.randn(1, 4, 33, 20, 40)).shape == (1, 4, 33, 20, 40)
