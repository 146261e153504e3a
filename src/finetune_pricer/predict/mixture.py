"""Distributions of several predictors as one, around the one price that they agree on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .decoding import Distribution

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_PRICES = 64  # of a distribution: more are taken by as many quantiles as half of that
_QUANTILES = 32
_ERRORS = 20
_HIGHEST = 709.0  # log(1 + price) of the highest price that is a number here
FEWEST_ERRORS = 10
"""Of fewer errors no quantiles are taken."""


def find_error_quantiles(errors: Sequence[float]) -> tuple[float, ...]:
    """Return equally likely errors, in log(1 + price), that stand for those that a member made.

    Of too few errors nothing is known, and the one of 0 is returned.
    """
    if len(errors) < FEWEST_ERRORS:
        return (0.0,)
    ordered = sorted(errors)
    places = ((at + 0.5) / _ERRORS * len(ordered) - 0.5 for at in range(_ERRORS))
    return tuple(_interpolate(ordered, place) for place in places)


def spread_by_errors(price: float, errors: Sequence[float]) -> Distribution:
    """Return what a price may be, by a member that gives no distribution and made such errors."""
    share = 1.0 / len(errors)
    log = math.log1p(price)
    return Distribution.of(((_from_log(log + error), share) for error in errors), source="mixture")


def mix(parts: Sequence[tuple[Distribution, float]], price: float) -> Distribution:
    """Return the mixture of distributions by their weights, moved so that its median is the price.

    Each of the prices that are mixed is moved as far in log(1 + price).

    Args:
        parts: Distributions and their weights, which sum to 1.
        price: What the members agree on.
    """
    weighted = [
        (each, weight * share) for found, weight in parts for each, share in _list_prices(found) if share
    ]
    median = Distribution.of(weighted, source="mixture").median
    step = math.log1p(price) - math.log1p(median)
    moved = ((_from_log(math.log1p(each) + step), share) for each, share in weighted)
    return Distribution.of(moved, source="mixture")


def _list_prices(found: Distribution) -> Sequence[tuple[float, float]]:
    if len(found.prices) <= _MOST_PRICES:
        return list(zip(found.prices, found.probabilities, strict=True))
    return [(found.quantile((at + 0.5) / _QUANTILES), 1.0 / _QUANTILES) for at in range(_QUANTILES)]


def _from_log(value: float) -> float:
    return max(0.0, math.expm1(min(value, _HIGHEST)))


def _interpolate(ordered: Sequence[float], place: float) -> float:
    place = min(max(place, 0.0), len(ordered) - 1.0)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
