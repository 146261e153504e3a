"""`DollarPoints`: the prices that a model may name: which dollars are asked, and which cents go with them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]

_EACH_BELOW = 1_000
"""Dollars below this are all asked: with single digits that takes 99 or 100 tokens."""
_UNTRAINED = 10_000  # dollars up to which a model is asked that saw no prices
_MOST = 1_000  # prices above, each of which may take a token or two
_USUAL_CENTS = 4  # endings that any dollars may have
_HEADROOM = 1.25  # times the highest price seen


@dataclass(frozen=True, slots=True, kw_only=True)
class DollarPoints:
    """Prices in rising order. The model says how likely each of the dollars is, cents are shared out."""

    prices: Floats
    dollars: Ints
    """For each price: the place of its dollars among all dollars that are asked."""
    shares: Floats
    """For each price: its share of its dollars' probability."""

    @classmethod
    def from_prices(cls, prices: Sequence[float], *, decimals: int) -> DollarPoints:
        """Choose the dollars around the prices of a training file, or usual ones where there are none.

        Cents are shared out as they occurred with the same dollars, and a little as they occurred with all.
        """
        seen = np.round(np.asarray(prices, dtype=np.float64), min(decimals, 15))
        units = 10 ** min(decimals, 15)
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for price in seen:
            whole, part = divmod(round(price * units), units)
            counts[whole][part] += 1
        asked = _choose_dollars(counts, untrained=not len(seen))
        usual = _find_usual(counts)
        points, owners, shares = [], [], []
        for place, whole in enumerate(asked):
            weights = dict(usual)
            for part, count in counts.get(whole, {}).items():
                weights[part] = weights.get(part, 0.0) + count
            total = sum(weights.values())
            for part in sorted(weights):
                points.append(whole + part / units)
                owners.append(place)
                shares.append(weights[part] / total)
        return cls(prices=np.array(points), dollars=np.array(owners), shares=np.array(shares))

    def spread(self, chances: Floats) -> Floats:
        """Return the probability of each price, given that of all dollars."""
        spread: Floats = chances[self.dollars] * self.shares
        return spread

    def to_dict(self) -> dict[str, list[float]]:
        """Return what JSON can hold."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}

    @classmethod
    def from_dict(cls, stored: dict[str, list[float]]) -> DollarPoints:
        """Return the points that were stored so."""
        return cls(
            prices=np.array(stored["prices"], dtype=np.float64),
            dollars=np.array(stored["dollars"], dtype=np.int64),
            shares=np.array(stored["shares"], dtype=np.float64),
        )


def _find_usual(counts: dict[int, Counter[int]]) -> dict[int, float]:
    """Return the commonest cents, with shares that together weigh as much as one price that was seen."""
    total: Counter[int] = Counter()
    for each in counts.values():
        total.update(each)
    common = total.most_common(_USUAL_CENTS) or [(0, 1)]
    weight = sum(count for _, count in common)
    return {part: count / weight for part, count in common}


def _choose_dollars(counts: dict[int, Counter[int]], *, untrained: bool) -> list[int]:
    highest = _UNTRAINED if untrained else int(max(counts) * _HEADROOM) + 1
    lowest = 0 if 0 in counts else 1
    above = [whole for whole in counts if whole >= _EACH_BELOW]
    if len(above) > _MOST:
        # As many of each price range as occurred in it.
        above = [sorted(above)[place] for place in np.linspace(0, len(above) - 1, _MOST).round().astype(int)]
    return sorted({*range(lowest, min(highest, _EACH_BELOW - 1) + 1), *above, *_round_dollars(highest)})


def _round_dollars(highest: int) -> list[int]:
    """Return the prices of two digits and noughts, from 1,000 on."""
    found, unit = [], _EACH_BELOW // 10
    while 10 * unit <= highest:
        found += [n * unit for n in range(10, 100) if n * unit <= highest]
        unit *= 10
    return found
