"""Maps of a network that has learned: enhancing tumour is looked for where it is.

The bar is that of energy inside the region (two voxels around it counted in): 70 % after training,
less than 30 % for random weights. Planted cases: oedema is bright in FLAIR, and enhancing tumour is
a smaller box in it that only T1ce tells from oedema.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.gradcam import grad_cam, share_inside
from neurocli.systems.brats.models.branchnet import BranchNet

EDGE, STEPS = 20, 25
CONFIG = BranchNetConfig(
    name="dualbranch_01_unet_xs", modalities=("flair", "t1ce"), branches="per-modality", width=4,
    branch_stages=2, encoder=("conv",), fused="conv", fused_widths=(4,), decoder=(4, 2, 2),
    norm="in",
)  # fmt: skip


def case(seed: int) -> tuple[Tensor, Tensor]:
    """Return contrasts (2,D,H,W) and classes (D,H,W)."""
    make = torch.Generator().manual_seed(seed)
    x = 0.4 * torch.randn(2, EDGE, EDGE, EDGE, generator=make)
    labels = torch.zeros(EDGE, EDGE, EDGE, dtype=torch.long)
    start = torch.randint(0, EDGE - 10, (3,), generator=make).tolist()
    outer = tuple(slice(a, a + 10) for a in start)
    inner = tuple(slice(a + 3, a + 7) for a in start)
    labels[outer], labels[inner] = 2, 3
    x[0][labels > 0] += 2
    x[1][labels == 3] += 2
    return x, labels


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    """Return a network before and after it learned."""
    torch.manual_seed(0)
    random = BranchNet(CONFIG, {"modalities": ["flair", "t1ce"], "n_classes": 4})
    trained = copy.deepcopy(random).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2)
    for step in range(STEPS):
        x, labels = case(step)
        loss = functional.cross_entropy(
            trained(x[None]), labels[None], weight=torch.tensor([1.0, 1.0, 2.0, 5.0])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"random": random.eval(), "trained": trained.eval()}


@pytest.mark.parametrize("seed", [1001, 1002])
def test_the_map_of_a_trained_network_lies_in_the_region(
    nets: dict[str, nn.Module], seed: int
) -> None:
    x, labels = case(seed)
    mask = labels == 3
    last = [name for name, _ in nets["trained"].named_children() if name.startswith("up")][-1]
    share = {}
    for name, net in nets.items():
        found = grad_cam(net, x, "et", stages=[last], labels=labels)
        share[name] = share_inside(found.maps[last], mask, dilate=2)
    assert share["trained"] > 0.7
    assert share["random"] < 0.3
