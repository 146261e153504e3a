"""Which rows to take: even samples over strata, and splits that keep groups together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments import require_number
from .._methods.duplicates import group_ids
from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

PRICE_STRATA = 10
"""Into how many parts the range of log prices is cut."""


def price_strata(prices: npt.NDArray[np.float64]) -> Ints:
    """Cut the range of log(1 + price) into parts of equal width, and return the part of each price."""
    import numpy as np

    logs = np.log1p(prices)
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (0.0, 0.0)
    if high == low:
        return np.zeros(len(logs), dtype=np.int64)
    return np.minimum(((logs - low) / (high - low) * PRICE_STRATA).astype(np.int64), PRICE_STRATA - 1)


def sample_evenly(strata: Ints, n: int, seed: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Draw `n` rows, as many from each stratum as from any other while it has some.

    Returns:
        The rows in random order, and for each the number of rows of its stratum that it stands for.
    """
    import numpy as np

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


def _even_quota(sizes: Ints, n: int, draw: np.random.Generator) -> Ints:
    import numpy as np

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


def split_rows(groups: Ints, sizes: tuple[int, int], seed: int) -> tuple[Ints, Ints, Ints]:
    """Divide rows into training, validation and test, in random order, no group in two parts.

    Validation and test are filled group by group, in random order. A group that would make the part larger
    than its size in `sizes` is passed over, so a part may stay a little smaller, but is never larger.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    order = draw.permutation(len(groups))
    in_random_order = group_ids(groups[order])
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
    train, validation, test = (order[where == part] for part in (0, 1, 2))
    return train, validation, test


def count_of(name: str, asked: float, rows: int) -> int:
    """Turn a share below 1, or a count, into a count.

    Raises:
        DataError: It is negative, not whole, or more than there is.
    """
    require_number(name, asked)
    share = isinstance(asked, float) and asked < 1
    count = round(asked * rows) if share else int(asked)
    if asked < 0 or (not share and count != asked) or count > rows:
        raise DataError(
            f"{name}={asked!r} is neither a share from 0 to below 1 nor a count up to {rows:,} items"
        )
    return count
