"""Pure numbers: true prices and predicted prices in, one number out.

Every function takes arrays of the same length, one currency in all, and works along the last axis: shape
`(n,)` gives a number, `(rounds, n)` gives `(rounds,)`. `weights` say how much each item counts; of shape
`(rounds, n)` they give one number for each row, which is how the bootstrap resamples without copying prices.

All raise `EvaluationError`, naming the array, where one is empty, has another length, or holds a NaN, an
infinity or an amount beyond 1e100.

`METRICS` is the one table of what each metric of an evaluation is. To add one: write its function
here, its row there, and its field in `Evaluation`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from .._display import NamedValues
from .._format import mark_of
from .._methods.resampling import Interval, studentised_intervals, weighted_intervals
from ..errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Array = npt.ArrayLike

GREEN = (40.0, 0.2)
ORANGE = (80.0, 0.4)
"""Units of error, or share of the true price, below which the course calls a guess green or orange."""
LARGEST = 1e100
"""The largest amount that is computed with: squares of many larger ones are no numbers any more."""


class MetricFunction(Protocol):
    """What every metric of a true and a predicted price looks like."""

    def __call__(self, truth: Array, price: Array, weights: Array | None = None, /) -> Any:
        """Return the number, or one for each row of weights."""


def mean_absolute_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Mean of |price - truth|, in the currency's unit.

    Examples:
        >>> float(mean_absolute_error([10, 20], [12, 16]))
        3.0
    """
    truth, price, weights = _pair(truth, price, weights)
    return _mean(abs(price - truth), weights)


def median_absolute_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Median of |price - truth|, in the currency's unit; half of the weight lies on either side of it.

    Examples:
        >>> float(median_absolute_error([1, 1, 1], [2, 3, 9]))
        2.0
    """
    truth, price, weights = _pair(truth, price, weights)
    return _median(abs(price - truth), weights)


def absolute_error_quantile(truth: Array, price: Array, share: float, weights: Array | None = None) -> float:
    """Smallest |price - truth|, in the currency's unit, that at least a share of the weight does not exceed.

    Examples:
        >>> absolute_error_quantile([0, 0, 0, 0], [4, 1, 3, 2], 0.75)
        3.0
    """
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    errors = abs(price - truth)
    order = np.argsort(errors, kind="stable")
    reached = np.cumsum(np.ones(errors.size) if weights is None else weights[order])
    # A little slack, as above a half of weights that are no whole numbers.
    at = int(np.searchsorted(reached, reached[-1] * share * (1 - 1e-12)))
    return float(errors[order][at])


def mean_squared_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Mean of (price - truth)², in the currency's unit squared. A few far misses make most of it.

    Examples:
        >>> float(mean_squared_error([0, 0], [1, 7]))
        25.0
    """
    truth, price, weights = _pair(truth, price, weights)
    return _mean((price - truth) ** 2, weights)


def root_mean_squared_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Square root of the mean of (price - truth)², in the currency's unit.

    Examples:
        >>> float(root_mean_squared_error([0, 0], [1, 7]))
        5.0
    """
    import numpy as np

    return np.sqrt(mean_squared_error(truth, price, weights))


def root_mean_squared_log_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Square root of the mean of (log(1 + price) - log(1 + truth))²: about the typical relative error.

    A price below 0 is taken as 0. Source: the Mercari price suggestion challenge.

    Examples:
        >>> from math import e
        >>> float(root_mean_squared_log_error([e - 1], [-5]))
        1.0
    """
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    if (truth < 0).any():
        raise EvaluationError("truth has prices below 0, which have no logarithm")
    return np.sqrt(_mean(np.square(np.log1p(np.maximum(price, 0.0)) - np.log1p(truth)), weights))


def mean_absolute_percentage_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Mean of |price - truth| / truth; 0.25 is 25 %. It rewards guessing low and explodes at cheap items.

    Items whose true price is 0 have no percentage and are left out; `nan` where none is left.

    Examples:
        >>> float(mean_absolute_percentage_error([10, 20, 0], [5, 25, 3]))
        0.375
    """
    return _mean(*_shares(truth, price, weights))


def median_absolute_percentage_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Median of |price - truth| / truth; 0.25 is 25 %. Items whose true price is 0 are left out.

    Source: what automated valuations of houses report (www.avmetrics.net).

    Examples:
        >>> float(median_absolute_percentage_error([10, 10, 10], [11, 12, 90]))
        0.2
    """
    return _median(*_shares(truth, price, weights))


def symmetric_mean_absolute_percentage_error(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Mean of 2 |price - truth| / (|price| + |truth|), from 0 to 2; 0 where both are 0.

    Source: Makridakis, International Journal of Forecasting 9 (1993), 527-529.

    Examples:
        >>> float(symmetric_mean_absolute_percentage_error([10, 0], [30, 0]))
        0.5
    """
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    size = abs(price) + abs(truth)
    return _mean(2 * abs(price - truth) / np.where(size > 0, size, 1.0), weights)


def r2(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Share of the variance that is explained: 1 - Σ(price - truth)² / Σ(truth - mean)².

    1 is perfect, 0 is always guessing the mean, below 0 is worse than that; `nan` where all truths are equal.

    Examples:
        >>> float(r2([1, 3], [1, 3]))
        1.0
    """
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    # Around the plain mean, or weighted squares of large prices would cancel each other's digits.
    centred = truth - truth.mean(axis=-1, keepdims=True)
    spread = _mean(np.square(centred), weights) - np.square(_mean(centred, weights))
    error = _mean(np.square(price - truth), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        # What rounding leaves of equal prices is no variance: neither of the prices nor of their distances.
        least = 1e-12 * np.square(centred).max() + np.square(1e-14 * truth).max()
        return np.where(spread > least, 1 - error / spread, np.nan)


def bias(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Mean of price - truth, in the currency's unit: above 0 where guesses are too dear on average.

    Examples:
        >>> float(bias([10, 10], [12, 6]))
        -1.0
    """
    truth, price, weights = _pair(truth, price, weights)
    return _mean(price - truth, weights)


def share_within(truth: Array, price: Array, weights: Array | None = None, *, share: float = 0.2) -> Any:
    """Share of guesses with |price - truth| ≤ share x truth, 0 to 1.

    Source: the "percentage of predicted errors" PPE10 and PPE20 of house valuations (www.avmetrics.net).

    Examples:
        >>> float(share_within([100, 100], [120, 121]))
        0.5
    """
    truth, price, weights = _pair(truth, price, weights)
    return _mean((abs(price - truth) <= share * truth).astype(float), weights)


def hit_colours(truth: Array, price: Array) -> npt.NDArray[np.str_]:
    """Return for each guess `green`, `orange` or `red`, with the course's thresholds.

    Green is an error below $40 or below 20 % of the true price, orange one below $80 or 40 %, red the rest.

    Examples:
        >>> hit_colours([100, 100, 100], [139, 179, 180]).tolist()
        ['green', 'orange', 'red']
    """
    import numpy as np

    truth, price, _ = _pair(truth, price, None)
    green, orange = (_within(truth, price, *limits) for limits in (GREEN, ORANGE))
    return np.where(green > 0, "green", np.where(orange > 0, "orange", "red"))


def green_share(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Share of guesses that the course calls green, 0 to 1."""
    truth, price, weights = _pair(truth, price, weights)
    return _mean(_within(truth, price, *GREEN), weights)


def orange_share(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Share of guesses that the course calls orange, 0 to 1."""
    truth, price, weights = _pair(truth, price, weights)
    return _mean(_within(truth, price, *ORANGE) - _within(truth, price, *GREEN), weights)


def red_share(truth: Array, price: Array, weights: Array | None = None) -> Any:
    """Share of all other guesses, 0 to 1."""
    truth, price, weights = _pair(truth, price, weights)
    return _mean(1 - _within(truth, price, *ORANGE), weights)


def interval_coverage(truth: Array, low: Array, high: Array, weights: Array | None = None) -> Any:
    """Share of true prices with low ≤ truth ≤ high, 0 to 1.

    Examples:
        >>> float(interval_coverage([10, 20], [5, 21], [10, 30]))
        0.5
    """
    truth, low, high = _as_arrays(truth=truth, low=low, high=high)
    return _mean(((low <= truth) & (truth <= high)).astype(float), _check_weights(weights, truth))


def mean_width(low: Array, high: Array, weights: Array | None = None) -> Any:
    """Mean of high - low, in the currency's unit: of two that cover as much, the narrower range says more.

    Examples:
        >>> float(mean_width([1, 2], [4, 3]))
        2.0
    """
    low, high = _as_arrays(low=low, high=high)
    return _mean(high - low, _check_weights(weights, low))


def pinball_loss(truth: Array, price: Array, weights: Array | None = None, *, quantile: float = 0.5) -> Any:
    """Mean of max(q (truth - price), (q - 1) (truth - price)): least for the true q-quantile.

    At q = 0.5 it is half of the MAE. Source: Koenker and Bassett, Econometrica 46 (1978), 33-50.

    Raises:
        EvaluationError: The quantile is not between 0 and 1.

    Examples:
        >>> float(pinball_loss([10, 10], [8, 14], quantile=0.9))
        1.1
    """
    import numpy as np

    if not 0 <= quantile <= 1:
        raise EvaluationError(f"quantile must be between 0 and 1, not {quantile!r}")
    truth, price, weights = _pair(truth, price, weights)
    short = truth - price
    return _mean(np.maximum(quantile * short, (quantile - 1) * short), weights)


def bootstrap_intervals(
    functions: Mapping[str, MetricFunction],
    truth: Array,
    price: Array,
    *,
    weights: Array | None = None,
    rounds: int = 2000,
    seed: int = 42,
) -> dict[str, tuple[float, float]]:
    """Return a 95 % bootstrap interval for each metric, all from resamples of the items by the same seed.

    Of metrics that are means, or roots of means, it is the bootstrap-t interval, which covers more often
    where errors are skewed; of others, and with fewer than ten items, the percentile interval.

    Args:
        functions: Metrics by name, as those of this module: they take weights.
        truth: True prices, shape `(n,)`.
        price: Predicted prices, shape `(n,)`.
        weights: How much each item counts, shape `(n,)`.
        rounds: Resamples.
        seed: Of the resampling.

    Returns:
        Low and high by name; both `nan` for fewer than two items, which say nothing about their spread.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 12 and 13.
    """
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    each = np.ones(truth.size) if weights is None else weights
    found = find_intervals(functions, (truth, price), each, rounds=rounds, seed=seed)
    return {name: (one.low, one.high) for name, one in found.items()}


def find_intervals(
    functions: Mapping[str, Callable[..., Any]],
    columns: Sequence[Floats],
    weights: Floats,
    *,
    rounds: int,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
) -> dict[str, Interval]:
    """Return the interval of each metric by the method that was measured to cover best.

    Args:
        functions: Metrics by name: they take the columns, and weights.
        columns: What the metrics are computed from, each of shape `(n,)`.
        weights: How much each item counts, shape `(n,)`.
        rounds: Resamples.
        seed: Of the resampling.
        groups: A number from 0 on for each item, equal for those that err alike; they are drawn together.
    """
    import numpy as np

    drawn = weights.size if groups is None else int(groups.max()) + 1
    means = {name: TERMS[one] for name, one in functions.items() if one in TERMS} if drawn >= _ENOUGH else {}
    others = {name: partial(one, *columns) for name, one in functions.items() if name not in means}
    ends = weighted_intervals(others, weights, rounds=rounds, seed=seed, groups=groups) if others else {}
    found = {name: Interval(*pair) for name, pair in ends.items()}
    terms = [one.of_items(*columns) for one in means.values()]
    if terms:
        values = np.stack([each for each, _ in terms], axis=1)
        counted = np.stack([weights if known is None else weights * known for _, known in terms], axis=1)
        intervals = studentised_intervals(values, counted, rounds=rounds, seed=seed, groups=groups)
        bounds = np.where(
            (values >= 0).all(axis=0), 0.0, -np.inf
        )  # what is a mean of errors is no less than 0
        for (name, each), one, bound in zip(means.items(), intervals, bounds, strict=True):
            found[name] = each.finish(one._replace(low=max(one.low, float(bound))))
    return {name: found[name] for name in functions}


class Terms(NamedTuple):
    """How a metric is a mean, or the root of one."""

    of_items: Callable[[Floats, Floats], tuple[Floats, Floats | None]]
    """From true and predicted prices to the values whose mean it is, and which count; None where all do."""
    is_root: bool = False

    def finish(self, interval: Interval) -> Interval:
        """Return the interval of the metric for that of the mean."""
        if not self.is_root:
            return interval
        return interval._replace(low=math.sqrt(interval.low), high=math.sqrt(interval.high))


def _drop_sign(truth: Floats, price: Floats) -> tuple[Floats, None]:
    return abs(price - truth), None


def _square(truth: Floats, price: Floats) -> tuple[Floats, None]:
    return (price - truth) ** 2, None


def _keep_sign(truth: Floats, price: Floats) -> tuple[Floats, None]:
    return price - truth, None


def _square_logs(truth: Floats, price: Floats) -> tuple[Floats, None]:
    import numpy as np

    return np.square(np.log1p(np.maximum(price, 0.0)) - np.log1p(truth)), None


def _divide_by_both(truth: Floats, price: Floats) -> tuple[Floats, None]:
    import numpy as np

    size = abs(price) + abs(truth)
    return 2 * abs(price - truth) / np.where(size > 0, size, 1.0), None


def _divide_by_truth(truth: Floats, price: Floats) -> tuple[Floats, Floats]:
    import numpy as np

    known = truth > 0
    return abs(price - truth) / np.where(known, truth, 1.0), known.astype(np.float64)


TERMS: dict[Callable[..., Any], Terms] = {
    mean_absolute_error: Terms(_drop_sign),
    mean_squared_error: Terms(_square),
    root_mean_squared_error: Terms(_square, is_root=True),
    root_mean_squared_log_error: Terms(_square_logs, is_root=True),
    mean_absolute_percentage_error: Terms(_divide_by_truth),
    symmetric_mean_absolute_percentage_error: Terms(_divide_by_both),
    bias: Terms(_keep_sign),
}
"""The metrics that are means, or roots of means, whose intervals the bootstrap-t makes."""
_ENOUGH = 10
"""Items, or groups of them, from which on a resample has a spread to divide by."""


def _coverage_of_open_ranges(truth: Array, low: Array, high: Array, weights: Array | None = None) -> Any:
    import numpy as np

    # An open end covers everything beyond the other one; arrays of this module hold no infinities.
    return interval_coverage(
        truth, np.clip(low, -LARGEST, LARGEST), np.clip(high, -LARGEST, LARGEST), weights
    )


Unit = Literal["$", "%", ""]
"""How a metric is written: as an amount of money, as a percentage, or as a plain number."""
Column = Literal["truth", "price", "low", "high"]
"""A field of `Record` that a metric is computed from."""


class MetricInfo(NamedTuple):
    """What a metric is: its name in tables, its unit, how it is computed, and which value is best.

    Examples:
        >>> min([-8.0, 3.0], key=METRICS["bias"].sort_key)
        3.0
    """

    label: str
    """What tables call it."""
    unit: Unit
    function: Callable[..., Any]
    """Takes one array for each of `columns`, and weights."""
    best: Literal["low", "high", "zero"] = "low"
    """Which values are better: low ones, high ones, or those near zero."""
    in_card: bool = False
    """Whether a model card shows it."""
    columns: tuple[Column, ...] = ("truth", "price")
    """The fields of `Record` that it takes; it is computed from the items that have them all."""
    open_ends: bool = False
    """Whether it has a value where a price range has no lower or no upper end."""
    covers_from: int = 0
    """The number of items from which on its 95 % interval was measured to cover in 93 of 100 cases, on real
    errors of prices; with fewer it is marked as too short."""

    @property
    def of_ranges(self) -> bool:
        """Whether it is computed from price ranges, which not every prediction has."""
        return "price" not in self.columns

    def label_in(self, currency: str) -> str:
        """Return what tables of prices in this currency call it."""
        return self.label.replace("$", mark_of(currency))

    def sort_key(self, value: float) -> float:
        """Return a number that is the lower, the better a value of this metric is."""
        return {"low": value, "high": -value, "zero": abs(value)}[self.best]


METRICS: dict[str, MetricInfo] = NamedValues(
    {
        "mae": MetricInfo("MAE", "$", mean_absolute_error, in_card=True, covers_from=20),
        "median_absolute_error": MetricInfo(
            "median absolute error", "$", median_absolute_error, in_card=True, covers_from=20
        ),
        "rmse": MetricInfo("RMSE", "$", root_mean_squared_error, in_card=True, covers_from=200),
        "mse": MetricInfo("MSE ($²)", "", mean_squared_error, covers_from=200),
        "rmsle": MetricInfo("RMSLE", "", root_mean_squared_log_error, in_card=True, covers_from=200),
        "mape": MetricInfo("MAPE", "%", mean_absolute_percentage_error, covers_from=2000),
        "smape": MetricInfo("sMAPE", "%", symmetric_mean_absolute_percentage_error, covers_from=20),
        "median_ape": MetricInfo(
            "median absolute % error", "%", median_absolute_percentage_error, in_card=True, covers_from=20
        ),
        "r2": MetricInfo("r²", "%", r2, "high", in_card=True, covers_from=200),
        "bias": MetricInfo("bias", "$", bias, "zero", covers_from=200),
        "within_10": MetricInfo("within 10 %", "%", partial(share_within, share=0.1), "high", covers_from=20),
        "within_20": MetricInfo(
            "within 20 %", "%", partial(share_within, share=0.2), "high", in_card=True, covers_from=20
        ),
        "within_40": MetricInfo("within 40 %", "%", partial(share_within, share=0.4), "high", covers_from=20),
        "green": MetricInfo("green: within $40 or 20 %", "%", green_share, "high", covers_from=20),
        # Neither many nor few orange guesses are good in themselves; perfect prices have none.
        "orange": MetricInfo("orange: within $80 or 40 %", "%", orange_share, covers_from=20),
        "red": MetricInfo("red: further off", "%", red_share, covers_from=20),
        "coverage": MetricInfo(
            "price range covers",
            "%",
            _coverage_of_open_ranges,
            "high",
            columns=("truth", "low", "high"),
            open_ends=True,
            covers_from=20,
        ),
        "width": MetricInfo(
            "price range, mean width", "$", mean_width, columns=("low", "high"), covers_from=50
        ),
    }
)
"""Every metric of an `Evaluation`, by the name of its field, in the order of tables."""


def _as_arrays(**values_by_name: Array) -> list[Floats]:
    """Return values as arrays of floats; refuse empties, unequal lengths, NaN and infinities by name."""
    import numpy as np

    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in values_by_name.items()}
    first = next(iter(arrays))
    for name, array in arrays.items():
        if not array.size or not array.ndim:
            raise EvaluationError(f"{name} is empty; give at least one price")
        if array.shape[-1] != arrays[first].shape[-1]:
            raise EvaluationError(
                f"{first} has {arrays[first].shape[-1]:,} values but {name} has {array.shape[-1]:,}; "
                "give one for each item"
            )
        usable = np.abs(array) <= LARGEST  # neither is a NaN
        if not usable.all():
            at = int(np.argmin(usable.ravel()))
            raise EvaluationError(
                f"{name} has {array.ravel()[at]} at position {at}; leave it out or correct it"
            )
    return list(arrays.values())


def _pair(truth: Array, price: Array, weights: Array | None) -> tuple[Floats, Floats, Floats | None]:
    truth, price = _as_arrays(truth=truth, price=price)
    return truth, price, _check_weights(weights, truth)


def _check_weights(weights: Array | None, like: Floats) -> Floats | None:
    import numpy as np

    if weights is None:
        return None
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim == 1:
        _as_arrays(truth=like, weights=array)
        if (array < 0).any() or not array.any():
            raise EvaluationError("weights must be at least 0, and one of them above it")
    return array


def _mean(values: Floats, weights: Floats | None) -> Any:
    import numpy as np

    if weights is None:
        return values.mean(axis=-1)
    total = weights @ values if values.ndim == 1 else (weights * values).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / weights.sum(axis=-1)


def _median(values: Floats, weights: Floats | None) -> Any:
    import numpy as np

    if weights is None:
        return np.median(values, axis=-1)
    order = np.argsort(values, kind="stable")
    ordered, reached = values[order], np.cumsum(weights[..., order], axis=-1)
    total = reached[..., -1:]
    # A little slack, so that halves of weights that are no whole numbers are still found equal.
    low = (reached < total / 2 - 1e-12 * total).sum(axis=-1)
    high = np.minimum((reached <= total / 2 + 1e-12 * total).sum(axis=-1), values.size - 1)
    return np.where(total[..., 0] > 0, (ordered[low] + ordered[high]) / 2, np.nan)


def _shares(truth: Array, price: Array, weights: Array | None) -> tuple[Floats, Floats | None]:
    import numpy as np

    truth, price, weights = _pair(truth, price, weights)
    known = truth > 0
    if not known.all():
        weights = known.astype(float) if weights is None else weights * known
    return abs(price - truth) / np.where(known, truth, 1.0), weights


def _within(truth: Floats, price: Floats, dollars: float, share: float) -> Floats:
    error = abs(price - truth)
    # Multiplied out, so that a true price of 0 divides nothing.
    return ((error < dollars) | (error < share * truth)).astype(float)
