"""Which rows to take: even samples over strata, and splits that keep groups together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._arguments import require_number
from .._methods.duplicates import group_ids
from .._numbers import read_number, read_whole
from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_FILLED = 0.9
"""Share of what was asked for that whole groups must fill, or else the split is refused."""
_FEW = 1_000
PRICE_STRATA = 10
"""Into how many parts the range of log prices is cut."""


def make_draw(seed: object) -> np.random.Generator:
    """Return a generator of random numbers.

    Raises:
        DataError: The seed is no whole number of at least 0.
    """
    import numpy as np

    number = read_whole(seed)
    if number is None or number < 0:
        raise DataError(f"seed must be a whole number of at least 0, not {seed!r}")
    return np.random.default_rng(number)


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

    draw = make_draw(seed)
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

    Raises:
        DataError: Whole groups do not fill a part to nine tenths of its size.
    """
    import numpy as np

    draw = make_draw(seed)
    order = draw.permutation(len(groups))
    in_random_order = group_ids(groups[order])
    members = np.bincount(in_random_order, minlength=1)
    part_of = np.zeros(len(members), dtype=np.int64)
    for part, wanted in ((2, sizes[1]), (1, sizes[0])):
        free = np.flatnonzero(part_of == 0)
        part_of[free[_fill(members[free], wanted)]] = part
    where = part_of[in_random_order]
    train, validation, test = (order[where == part] for part in (0, 1, 2))
    for name, rows, wanted in (("test", test, sizes[1]), ("validation", validation, sizes[0])):
        _require_filled(name, len(rows), wanted, members)
    return train, validation, test


def _fill(members: Ints, wanted: int) -> list[int]:
    """Return which groups to take, in their order while they fit; else those that fill it best."""
    taken, left = list[int](), wanted
    for group, size in enumerate(members.tolist() if wanted else ()):
        if size <= left:
            taken.append(group)
            left -= size
            if not left:
                break
    # Where single items are at hand, it is full by now. With few large groups, which ones matters.
    return _fill_best(members.tolist(), wanted) if left and len(members) <= _FEW else taken


def _fill_best(members: list[int], wanted: int) -> list[int]:
    """Return the groups whose sizes add up to as much of `wanted` as possible (subset sum, sums as bits)."""
    reached = [1]
    for size in members:
        reached.append((reached[-1] | reached[-1] << size) & ((2 << wanted) - 1))
    total, taken = reached[-1].bit_length() - 1, list[int]()
    for group in reversed(range(len(members))):
        if not reached[group] >> total & 1:
            taken.append(group)
            total -= members[group]
    return taken


def _require_filled(name: str, got: int, wanted: int, members: Ints) -> None:
    if got >= _FILLED * wanted:
        return
    total, count, largest = int(members.sum()), len(members), int(members.max())
    raise DataError(
        f"{name} shall have {wanted:,} of {total:,} items, and whole groups fill no more than {got:,}: there "
        f"are {count:,} groups, the largest of {largest:,} items, and none may stand in two parts; ask for "
        "sizes that groups can fill, or group by something finer (of texts from a template, "
        "audit(similarity=0.8) finds fewer alike), or leave group= out, and near-twins stand on both sides"
    )


def find_rows(asked: object, count: int) -> Ints:
    """Return the positions among `count` rows that a list of positions, or a mask of truth values, names.

    Raises:
        DataError: There is no row at a position, a mask is not as long as there are rows, or it is neither.
    """
    import numpy as np

    # A set and a dictionary have no order that anybody chose.
    if isinstance(asked, str | bytes | dict | set | frozenset) or not isinstance(asked, Iterable):
        raise DataError(f"rows are positions or a mask, not a {type(asked).__name__}; such as [0, 3]")
    cells = asked.tolist() if hasattr(asked, "tolist") else list(asked)
    cells = [cell.as_py() if hasattr(cell, "as_py") else cell for cell in cells]
    truths = [isinstance(cell, bool | np.bool_) for cell in cells]
    if cells and all(truths):
        if len(cells) != count:
            raise DataError(f"a mask of {len(cells):,} truth values for {count:,} items; give one for each")
        return np.flatnonzero(np.array(cells, dtype=bool))
    return np.array([_find_row(cell, count) for cell in cells], dtype=np.int64)


def _find_row(asked: object, count: int) -> int:
    row = read_whole(asked)
    if row is None:
        raise DataError(f"{asked!r} is no position; give whole numbers, or a truth value for each item")
    if not -count <= row < count:
        raise DataError(f"there is no item at position {row:,}: there are {count:,}, counted from 0")
    return row % count


def count_of(name: str, asked: object, rows: int) -> int:
    """Turn a share below 1, or a count, into a count.

    Raises:
        DataError: It is no number, negative, not whole, or more than there is; or it is a share above 0 of so
            few items that none would be left.
    """
    whole, number = read_whole(asked), read_number(asked)
    if number is None:
        require_number(name, asked)
    if whole is None and number is not None and 0 <= number < 1:
        count = round(number * rows)
        if number and not count:
            raise DataError(
                f"{name}={asked!r} of {rows:,} items is not one item; give a count, or a larger share"
            )
        return count
    if whole is None and number is not None and number.is_integer() and number != 1:
        whole = int(number)
    if whole is None or not 0 <= whole <= rows:
        # 1.0 may mean all items, or one.
        hint = f"; write 1 for one item, or {rows} for all" if number == 1 and whole is None else ""
        raise DataError(
            f"{name}={asked!r} is neither a share from 0 to below 1 nor a count up to {rows:,} items{hint}"
        )
    return whole
