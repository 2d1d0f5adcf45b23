"""Reproducible chance: orders from hashes, and counts that add up.

Nothing here draws from a random generator. A SHA-256 of the seed and the id ranks people, so the
same seed gives the same order on any machine, under any library version and for any row order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from neurocli.core.errors import UsageError


def hash_key(seed: int, name: str) -> bytes:
    """Return the rank of a name under a seed: the SHA-256 of "seed:name".

    >>> hash_key(0, "sub-01").hex()[:16]
    'a06b73c5d07096b2'
    """
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()


def keyed_order(names: Iterable[str], seed: int) -> list[str]:
    """Return names in the order of their hashes; their given order does not matter.

    >>> keyed_order(["a", "b", "c"], seed=1) == keyed_order(["c", "a", "b"], seed=1)
    True
    """
    return sorted(names, key=lambda name: (hash_key(seed, name), name))


def exact(share: float) -> Fraction:
    """Return the decimal number that a share was written as, free of binary rounding.

    >>> exact(0.7)
    Fraction(7, 10)

    Raises:
        UsageError: The share is no finite number.
    """
    try:
        return Fraction(repr(float(share)))
    except (ValueError, TypeError):
        raise UsageError(f"{share!r} is no share", hint="give a number from 0 to 1") from None


def largest_remainder(n: int, shares: Sequence[Fraction]) -> list[int]:
    """Divide n things by shares (Hamilton's method).

    Each share gets its quota rounded down; what is left goes to the largest remainders, of equal
    ones to the first in the list. Every count is within one of its quota.

    Args:
        n: How many things, at least 0.
        shares: Shares that add up to 1.

    Returns:
        Counts that add up to n.

    >>> largest_remainder(90, [exact(0.7), exact(0.15), exact(0.15)])
    [63, 14, 13]
    """
    quotas = [n * share for share in shares]
    counts = [int(quota) for quota in quotas]
    # sorted() is stable, so equal remainders keep the order of the list.
    by_remainder = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for index in by_remainder[: n - sum(counts)]:
        counts[index] += 1
    return counts


def even_sequence(counts: Sequence[int]) -> Iterator[int]:
    """Yield each index as often as its count says, as evenly spread as can be.

    In every prefix of length k, index i occurs within 1 - 1/(2m-2) of k * counts[i] / n times, m
    being the number of indices (Tijdeman's solution of the chairman assignment problem, 1980). So
    any consecutive stretch of people gets its proper share of every part, to within two.

    Args:
        counts: How often each index occurs.

    >>> list(even_sequence([4, 1, 1]))
    [0, 0, 1, 0, 2, 0]
    """
    n, m = sum(counts), len(counts)
    slack = max(2 * m - 2, 1)  # all quantities below are times n * slack, hence integers
    given = [0] * m
    for step in range(1, n + 1):
        due = [
            (((slack - 1) * n - slack * (count * step - given[i] * n)), count, i)
            for i, count in enumerate(counts)
            if slack * (count * step - given[i] * n) >= n
        ]
        chosen = min(due, key=lambda entry: (Fraction(entry[0], entry[1]), entry[2]))[2]
        given[chosen] += 1
        yield chosen
