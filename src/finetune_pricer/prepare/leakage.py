"""Prices where they should not be: in the item's own text, or far from their kind's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ..prices import marked_prices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Prices = npt.NDArray[np.float64]

_NUMBER = re.compile(r"(?<![\d.,])\d{1,6}(?:\.\d{1,2})?(?![\d.,]*\d)")
_SHUFFLES = 20
_FAR = 4 * 1.4826  # four robust standard deviations, in median absolute deviations
_ENOUGH = 20  # items of a category, below which nothing is called an outlier


def own_price_in_text(text: str, price: float, currency: str) -> str | None:
    """Find the item's own price (within 1 %) marked by a currency in its text, as it stands there."""
    for value, shown in marked_prices(text, currency):
        if value > 0 and abs(value - price) <= max(0.005, 0.01 * price):
            return shown
    return None


def bare_numbers(texts: Sequence[str]) -> list[frozenset[float]]:
    """Give the numbers that stand in each text."""
    return [frozenset(float(number) for number in _NUMBER.findall(text)) for text in texts]


def equal_to_price(numbers: Sequence[frozenset[float]], prices: Prices) -> Iterator[int]:
    """Give the rows in whose text a number equals the price."""
    for row, (found, price) in enumerate(zip(numbers, prices.tolist(), strict=True)):
        if price in found:
            yield row


def by_chance(numbers: Sequence[frozenset[float]], prices: Prices) -> float:
    """Give how many rows would hold their price by chance: the mean count over shuffled prices."""
    draw = np.random.default_rng(42)
    counts = [sum(1 for _ in equal_to_price(numbers, draw.permutation(prices))) for _ in range(_SHUFFLES)]
    return float(np.mean(counts))


def outliers(prices: Prices, categories: Sequence[str | None]) -> Iterator[tuple[int, float]]:
    """Give rows whose log price lies far from their category's median, and that median in dollars."""
    kinds: dict[str | None, list[int]] = {}
    for row, category in enumerate(categories):
        if not np.isnan(prices[row]):
            kinds.setdefault(category, []).append(row)
    for rows in kinds.values():
        logs = np.log1p(prices[rows])
        middle = np.median(logs)
        spread = np.median(np.abs(logs - middle))
        if len(rows) >= _ENOUGH and spread > 0:
            for place in np.flatnonzero(np.abs(logs - middle) > _FAR * spread).tolist():
                yield rows[place], float(np.expm1(middle))


def fitting_reply(prices: Prices) -> str:
    """Say which form of a reply fits these prices, and why."""
    known = prices[~np.isnan(prices)]
    if not len(known):
        return "no prices are known, so no form of a reply can be advised"
    above, median = float((known >= 999.5).mean()), float(np.median(known))
    if median < 10:
        return f"'$19.99' (the default): half of the prices are below ${median:,.2f}, where cents matter"
    if above == 0:
        return (
            "'20': all prices are at most $999, so whole dollars are one token, and all of it is seen at once"
        )
    if above <= 0.01:
        return f"'20': all prices but {above:.1%} are at most $999 and so one token; the dearer ones take two"
    return f"'$19.99' (the default) or '$1,199.99': {above:.0%} of the prices take more than one token"
