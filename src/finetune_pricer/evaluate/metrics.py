"""Pure numbers: true prices and predicted prices in, one number out.

Every function takes two arrays of the same shape, dollars in both, and works along the last axis: shape
`(n,)` gives a number, `(rounds, n)` gives `(rounds,)`, which is how the bootstrap resamples at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    MetricFunction = Callable[[Floats, Floats], Any]

GREEN = (40.0, 0.2)
ORANGE = (80.0, 0.4)
"""Dollars of error, or share of the true price, below which the course calls a guess green or orange."""


def mean_absolute_error(truth: Floats, price: Floats) -> Any:
    """Mean of |price - truth|, in dollars.

    >>> float(mean_absolute_error(np.array([10.0, 20.0]), np.array([12.0, 16.0])))
    3.0
    """
    return np.abs(price - truth).mean(axis=-1)


def median_absolute_error(truth: Floats, price: Floats) -> Any:
    """Median of |price - truth|, in dollars.

    >>> float(median_absolute_error(np.array([1.0, 1.0, 1.0]), np.array([2.0, 3.0, 9.0])))
    2.0
    """
    return np.median(np.abs(price - truth), axis=-1)


def root_mean_squared_error(truth: Floats, price: Floats) -> Any:
    """Square root of the mean of (price - truth)², in dollars.

    >>> float(root_mean_squared_error(np.array([0.0, 0.0]), np.array([1.0, 7.0])))
    5.0
    """
    return np.sqrt(np.square(price - truth).mean(axis=-1))


def root_mean_squared_log_error(truth: Floats, price: Floats) -> Any:
    """Square root of the mean of (log(1 + price) - log(1 + truth))². A price below 0 is taken as 0.

    >>> float(root_mean_squared_log_error(np.array([np.e - 1]), np.array([-5.0])))
    1.0
    """
    return np.sqrt(np.square(np.log1p(np.maximum(price, 0.0)) - np.log1p(truth)).mean(axis=-1))


def r2(truth: Floats, price: Floats) -> Any:
    """Share of the variance that is explained: 1 - Σ(price - truth)² / Σ(truth - mean)².

    1 is perfect, 0 is always guessing the mean, below 0 is worse than that; `nan` where all truths are equal.

    >>> float(r2(np.array([1.0, 3.0]), np.array([1.0, 3.0])))
    1.0
    """
    spread = np.square(truth - truth.mean(axis=-1, keepdims=True)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1 - np.square(price - truth).sum(axis=-1) / spread, np.nan)


def hit_colours(truth: Floats, price: Floats) -> npt.NDArray[np.str_]:
    """Call each guess `green`, `orange` or `red`, with the course's thresholds.

    Green is an error below $40 or below 20 % of the true price, orange one below $80 or 40 %, red the rest.

    >>> hit_colours(np.array([100.0, 100.0, 100.0]), np.array([139.0, 179.0, 180.0])).tolist()
    ['green', 'orange', 'red']
    """
    green, orange = (_within(truth, price, *limits) for limits in (GREEN, ORANGE))
    return np.where(green, "green", np.where(orange, "orange", "red"))


def green_share(truth: Floats, price: Floats) -> Any:
    """Share of guesses that the course calls green, 0 to 1."""
    return _within(truth, price, *GREEN).mean(axis=-1)


def orange_share(truth: Floats, price: Floats) -> Any:
    """Share of guesses that the course calls orange, 0 to 1."""
    return _within(truth, price, *ORANGE).mean(axis=-1) - green_share(truth, price)


def red_share(truth: Floats, price: Floats) -> Any:
    """Share of guesses that the course calls red, 0 to 1."""
    return 1 - _within(truth, price, *ORANGE).mean(axis=-1)


def _within(truth: Floats, price: Floats, dollars: float, share: float) -> npt.NDArray[np.bool_]:
    error = np.abs(price - truth)
    # Multiplied out, so that a true price of 0 divides nothing.
    return (error < dollars) | (error < share * truth)


_AT_ONCE = 2_000_000  # array elements of one slice of the bootstrap: some 16 MB an array


def bootstrap_intervals(
    functions: Mapping[str, MetricFunction],
    truth: Floats,
    price: Floats,
    *,
    rounds: int = 2000,
    seed: int = 42,
) -> dict[str, tuple[float, float]]:
    """Give a 95 % percentile-bootstrap interval for each metric, all from the same resamples of the items.

    Args:
        functions: Metrics by name.
        truth: True prices, shape `(n,)`.
        price: Predicted prices, shape `(n,)`.
        rounds: Resamples.
        seed: Of the resampling.

    Returns:
        Low and high by name; both `nan` for fewer than two items, which say nothing about their spread.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if truth.size < 2:
        return dict.fromkeys(functions, (float("nan"), float("nan")))
    random = np.random.default_rng(seed)
    drawn: dict[str, list[Any]] = {name: [] for name in functions}
    step = max(1, _AT_ONCE // truth.size)
    for start in range(0, rounds, step):
        index = random.integers(0, truth.size, (min(step, rounds - start), truth.size))
        truths, prices = truth[index], price[index]
        for name, function in functions.items():
            drawn[name].append(function(truths, prices))
    return {name: _middle(np.concatenate(values)) for name, values in drawn.items()}


def _middle(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
