"""Prices that stand in the item's own text, where a model would read them instead of learning them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..prices import marked_prices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    Prices = npt.NDArray[np.float64]

_NUMBER = re.compile(r"(?<![\d.,])\d{1,6}(?:\.\d{1,2})?(?![\d.,]*\d)")
_SHUFFLES = 20


def find_own_price(text: str, price: float, currency: str) -> str | None:
    """Return the item's own price as its text shows it, marked by a currency; else None.

    Its own are the prices within 1 % of it, and the price in whole dollars, as an older layout of the course
    ends its texts: "Price is $3.00" for $3.49.
    """
    for value, shown in marked_prices(text, currency):
        if value > 0 and (abs(value - price) <= max(0.005, 0.01 * price) or _is_rounded(value, price)):
            return shown
    return None


def _is_rounded(value: float, price: float) -> bool:
    return value.is_integer() and abs(value - price) <= 0.5


def find_numbers(texts: Sequence[str]) -> list[frozenset[float]]:
    """Return the numbers that stand in each text, with a currency or without."""
    return [frozenset(float(number) for number in _NUMBER.findall(text)) for text in texts]


def rows_with_own_price(numbers: Sequence[frozenset[float]], prices: Prices) -> Iterator[int]:
    """Yield the rows in whose text a number equals the price."""
    for row, (found, price) in enumerate(zip(numbers, prices.tolist(), strict=True)):
        if price in found:
            yield row


def count_expected_by_chance(numbers: Sequence[frozenset[float]], prices: Prices) -> float:
    """Return how many rows would hold their price by chance: the mean count over shuffled prices."""
    import numpy as np

    draw = np.random.default_rng(42)
    counts = [
        sum(1 for _ in rows_with_own_price(numbers, draw.permutation(prices))) for _ in range(_SHUFFLES)
    ]
    return float(np.mean(counts))
