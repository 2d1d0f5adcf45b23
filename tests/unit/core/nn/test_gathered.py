"""One process gathers itself; what several do is in tests/distributed."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from neurocli.core.nn.gathered import (
    gather_with_gradient,
    gathered_loss,
    in_one_process,
    rows_of_ranks,
)
from neurocli.core.nn.pair_loss import pair_loss


def test_one_process_gathers_itself() -> None:
    x = torch.randn(3, 2)
    assert in_one_process()
    assert rows_of_ranks(x) == [3]
    assert gather_with_gradient(x) is x
    u = F.normalize(x, dim=1)
    scale = torch.tensor(3.0)
    assert float(gathered_loss(u, u, scale)) == float(pair_loss(u, u, scale))
