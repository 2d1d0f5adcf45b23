"""A batch is divided without a rest; whole batches are dealt in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from neurocli.core.data.loader import Batches, Share


class Numbers:
    def __len__(self) -> int:
        return 11

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        return {"index": index}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"indices": [sample["index"] for sample in samples]}


class Drawn(Numbers):
    def collate_share(self, samples: Sequence[dict[str, Any]], own: slice) -> dict[str, Any]:
        return {"all": [sample["index"] for sample in samples], "own": own}


def batches(samples: Numbers, share: Share) -> Batches:
    return Batches(samples, batch_size=5, seed=3, shuffle=True, prefetch=0, share=share)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
def test_shares_of_a_batch_join_to_it(n_ranks: int) -> None:
    whole = [batch["indices"] for batch in batches(Numbers(), Share())]
    ranks = [batches(Numbers(), Share(rank, n_ranks)) for rank in range(n_ranks)]
    for number, parts in enumerate(zip(*ranks, strict=True)):
        real = [part for part in parts if not part.get("stand_in")]
        assert [i for part in real for i in part["indices"]] == whole[number]
        sizes = [rank.own_size(number) for rank in ranks]
        assert sum(sizes) == len(whole[number])
        assert max(sizes) - min(sizes) <= 1
        for part, size in zip(parts, sizes, strict=True):
            if not size:  # it takes part with the first sample, and counts for nothing
                assert part == {"indices": whole[number][:1], "stand_in": True}


def test_whole_batches_are_dealt_in_turn() -> None:
    whole = [batch["indices"] for batch in batches(Numbers(), Share())]
    for rank in (0, 1):
        own = batches(Numbers(), Share(rank, 2, by_batch=True))
        assert [batch["indices"] for batch in own] == whole[rank::2]
        assert list(own.numbers) == list(range(rank, 3, 2))


def test_a_set_that_draws_for_a_whole_batch_divides_itself() -> None:
    whole = [batch["indices"] for batch in batches(Numbers(), Share())]
    for batch, indices in zip(batches(Drawn(), Share(1, 2)), whole, strict=True):
        n = len(indices)
        assert batch == {"all": indices, "own": slice(n // 2, n)}
