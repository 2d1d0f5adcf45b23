"""One process gathers itself; what several do is in tests/distributed."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from neurocli.core.nn.gathered import (
    gather,
    gathered_loss,
    is_shared,
    row_counts,
)
from neurocli.core.nn.pair_loss import pair_loss


def test_one_process_gathers_itself() -> None:
    x = torch.randn(3, 2)
    assert not is_shared()
    assert row_counts(x) == [3]
    assert gather(x) is x
    u = F.normalize(x, dim=1)
    scale = torch.tensor(3.0)
    assert float(gathered_loss(u, u, scale)) == float(pair_loss(u, u, scale))
