"""A small segmentation network learns one case by heart and does not stall at background."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config

SIZE, STEPS = 32, 60
# Two branches, one of them with large kernels: what is learned passes most kinds of layers.
NAMES = ("dualbranch_05_unet_xs",)


def one_case() -> tuple[Tensor, Tensor]:
    """Return a volume (1,2,D,H,W) of FLAIR and T1ce, and its classes (1,D,H,W).

    Nested balls: edema is bright in FLAIR, enhancing tumour in T1ce too, the core in neither.
    """
    random = torch.Generator().manual_seed(0)
    axes = torch.stack(torch.meshgrid(*[torch.arange(SIZE)] * 3, indexing="ij")).float()
    radius = ((axes - torch.tensor([14.0, 17.0, 15.0]).view(3, 1, 1, 1)) ** 2).sum(0).sqrt()
    labels = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.long)
    for limit, label in ((11, 2), (7, 3), (4, 1)):
        labels[radius < limit] = label
    volume = 0.2 * torch.randn(2, SIZE, SIZE, SIZE, generator=random)
    volume[0][(labels == 2) | (labels == 3)] += 1
    volume[1][labels == 3] += 1
    return volume[None], labels[None]


def dice(predicted: Tensor, labels: Tensor, classes: tuple[int, ...]) -> float:
    found, true = (torch.isin(part, torch.tensor(classes)) for part in (predicted, labels))
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def learn(model: nn.Module, volume: Tensor, labels: Tensor) -> Tensor:
    """Return the classes that a model gives after a few steps, judged as it was trained."""
    steps = torch.optim.AdamW(model.parameters(), 5e-3)
    model.train()
    for _ in range(STEPS):
        loss = functional.cross_entropy(model(volume), labels)
        steps.zero_grad()
        loss.backward()
        steps.step()
    with torch.no_grad():
        return model(volume).argmax(1)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_case_is_learned(name: str) -> None:
    torch.manual_seed(1)
    config = load_config(model=name, set=["model.width=8"])
    info = {"modalities": ["flair", "t1ce"]}
    model = resolve(find_model(name)[1].build)(config, info)
    volume, labels = one_case()
    predicted = learn(model, volume, labels)
    for region, classes in {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}.items():
        assert dice(predicted, labels, classes) > 0.9, region
