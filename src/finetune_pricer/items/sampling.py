"""Which rows to take: even samples over strata, and splits that keep groups together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]

PRICE_STRATA = 10
"""Into how many parts the range of log prices is cut."""


def price_strata(prices: npt.NDArray[np.float64]) -> Rows:
    """Cut the range of log(1 + price) into parts of equal width and say in which part each price lies."""
    logs = np.log1p(prices)
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (0.0, 0.0)
    if high == low:
        return np.zeros(len(logs), dtype=np.int64)
    return np.minimum(((logs - low) / (high - low) * PRICE_STRATA).astype(np.int64), PRICE_STRATA - 1)


def numbered(labels: Sequence[Any] | npt.NDArray[Any]) -> Rows:
    """Give equal labels equal numbers, in the order in which they appear."""
    numbers: dict[Any, int] = {}
    found = labels.tolist() if isinstance(labels, np.ndarray) else labels
    return np.array([numbers.setdefault(label, len(numbers)) for label in found], dtype=np.int64)


def even_sample(strata: Rows, n: int, seed: int) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Draw `n` rows, as many from each stratum as from any other while it has some.

    Returns:
        The rows in random order, and for each the number of rows of its stratum that it stands for.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(strata))
    sizes = np.bincount(strata, minlength=1)
    quota = _even_quota(sizes, n, draw)
    shuffled = strata[order]
    # A stable sort keeps the random order inside each stratum; the first rows of each are drawn.
    by_stratum = np.argsort(shuffled, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(strata), dtype=np.int64)
    rank[by_stratum] = np.arange(len(strata)) - np.repeat(starts, sizes)
    rows = order[rank < quota[shuffled]]
    return rows, (sizes / np.maximum(quota, 1))[strata[rows]]


def _even_quota(sizes: Rows, n: int, draw: np.random.Generator) -> Rows:
    quota = np.zeros_like(sizes)
    left = n
    while left:
        open_ = np.flatnonzero(quota < sizes)
        if left < len(open_):
            quota[draw.choice(open_, size=left, replace=False)] += 1
            return quota
        share = np.minimum(sizes[open_] - quota[open_], left // len(open_))
        quota[open_] += share
        left -= int(share.sum())
    return quota


def parts(groups: Rows, sizes: tuple[int, int], seed: int) -> tuple[Rows, Rows, Rows]:
    """Divide rows into what is left, validation and test, in random order, no group in two parts.

    A part is filled group by group, in random order; a group that would make it too large is passed over, so
    a part may stay a little smaller than was asked for, never larger.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(groups))
    in_random_order = numbered(groups[order])
    members = np.bincount(in_random_order, minlength=1)
    part_of = np.zeros(len(members), dtype=np.int64)
    for part, wanted in ((2, sizes[1]), (1, sizes[0])):
        left = wanted
        for group in np.flatnonzero(part_of == 0) if wanted else ():
            if members[group] <= left:
                part_of[group] = part
                left -= int(members[group])
                if not left:
                    break
    where = part_of[in_random_order]
    rest, validation, test = (order[where == part] for part in (0, 1, 2))
    return rest, validation, test


def part_size(name: str, asked: float, rows: int) -> int:
    """Turn a share below 1, or a count, into a count.

    Raises:
        DataError: It is negative, not whole, or more than there is.
    """
    share = isinstance(asked, float) and asked < 1
    count = round(asked * rows) if share else int(asked)
    if asked < 0 or (not share and count != asked) or count > rows:
        raise DataError(
            f"{name}={asked!r} is neither a share from 0 to below 1 nor a count up to {rows:,} items"
        )
    return count
