"""Records become metrics: of all items, of each category, of each price band."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from .metrics import MetricFunction

    Floats = npt.NDArray[np.float64]

Unit = Literal["$", "%", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number with its 95 % interval and how many items it was taken from. `float(metric)` is its value."""

    value: float
    low: float
    """Lower end of the 95 % bootstrap interval; `nan` for fewer than two items."""
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        interval = "unknown" if math.isnan(self.low) else f"{self.low:,.2f} to {self.high:,.2f}"
        return f"{self.value:,.2f} (95% CI {interval})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item's truth beside what was said about it."""

    item_id: str
    label: str
    category: str | None
    truth: float
    """Dollars."""
    price: float | None
    """Dollars; None when unscored."""
    low: float | None = None
    """Lower end of the price range, dollars; None without one."""
    high: float | None = None
    """Upper end of the price range, dollars; None without one."""
    weight: float = 1.0
    """How much the item counts in the metrics."""
    text: str | None = None
    """The reply, where there was one."""
    unscored: str | None = None
    """Why there is no price to score."""

    @property
    def error(self) -> float | None:
        """Predicted minus true price in dollars."""
        return None if self.price is None else self.price - self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """How wrong the prices are on one part of the items."""

    label: str
    n: int
    """How many items were scored."""
    unscored: int
    mae: Metric | None
    """Dollars; None where nothing was scored."""
    median_ape: Metric | None
    """Median of the error as a share of the true price."""
    bias: Metric | None
    """Mean of predicted minus true price, dollars."""


class MetricKind(NamedTuple):
    """What a metric is called, and how it is written."""

    label: str
    unit: Unit


KINDS: dict[str, MetricKind] = {
    "mae": MetricKind("MAE", "$"),
    "median_absolute_error": MetricKind("median absolute error", "$"),
    "rmse": MetricKind("RMSE", "$"),
    "mse": MetricKind("MSE ($²)", ""),
    "rmsle": MetricKind("RMSLE", ""),
    "mape": MetricKind("MAPE", "%"),
    "smape": MetricKind("sMAPE", "%"),
    "median_ape": MetricKind("median absolute % error", "%"),
    "r2": MetricKind("r²", "%"),
    "bias": MetricKind("bias", "$"),
    "within_10": MetricKind("within 10 %", "%"),
    "within_20": MetricKind("within 20 %", "%"),
    "within_40": MetricKind("within 40 %", "%"),
    "green": MetricKind("green: within $40 or 20 %", "%"),
    "orange": MetricKind("orange: within $80 or 40 %", "%"),
    "red": MetricKind("red: further off", "%"),
    "coverage": MetricKind("price range covers", "%"),
    "width": MetricKind("price range, mean width", "$"),
}
"""Every metric of an evaluation, by the name of its attribute, in the order of tables."""


def functions() -> dict[str, MetricFunction]:
    """Give the metrics of a true and a predicted price, by the name of their attribute."""
    from . import metrics

    return {
        "mae": metrics.mean_absolute_error,
        "median_absolute_error": metrics.median_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "mse": metrics.mean_squared_error,
        "rmsle": metrics.root_mean_squared_log_error,
        "mape": metrics.mean_absolute_percentage_error,
        "smape": metrics.symmetric_mean_absolute_percentage_error,
        "median_ape": metrics.median_absolute_percentage_error,
        "r2": metrics.r2,
        "bias": metrics.bias,
        "within_10": partial(metrics.share_within, share=0.1),
        "within_20": partial(metrics.share_within, share=0.2),
        "within_40": partial(metrics.share_within, share=0.4),
        "green": metrics.green_share,
        "orange": metrics.orange_share,
        "red": metrics.red_share,
    }


class Arrays(NamedTuple):
    """What was scored, one array a column."""

    truth: Floats
    price: Floats
    weight: Floats


def scored(records: Iterable[Record]) -> Arrays:
    """Gather the records that have a price."""
    import numpy as np

    rows = [(one.truth, one.price, one.weight) for one in records if one.price is not None]
    return Arrays(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def measure(records: Sequence[Record], *, seed: int, rounds: int) -> dict[str, Metric | None]:
    """Give every metric of some records with its interval; those of price ranges are None without ranges.

    Raises:
        EvaluationError: No scored record has a weight above 0.
    """
    found = scored(records)
    if not found.weight.any():
        raise EvaluationError("not one scored item has a weight above 0")
    made: dict[str, Metric | None] = dict(_metrics(functions(), found, seed=seed, rounds=rounds))
    return made | _of_ranges(records, seed=seed, rounds=rounds)


def _of_ranges(records: Iterable[Record], *, seed: int, rounds: int) -> dict[str, Metric | None]:
    import numpy as np

    from . import metrics

    rows = [(r.truth, r.low, r.high, r.weight) for r in records if r.low is not None and r.high is not None]
    if not rows or not any(row[3] for row in rows):
        return {"coverage": None, "width": None}
    truth, low, high, weight = np.array(rows, dtype=np.float64).T
    # An open end covers what lies beyond, and its width has no mean.
    bounded = np.clip(low, -1e300, 1e300), np.clip(high, -1e300, 1e300)
    called: dict[str, Callable[..., Any]] = {
        "coverage": lambda truth, _, weights: metrics.interval_coverage(truth, *bounded, weights)
    }
    finite = np.isfinite(low).all() and np.isfinite(high).all()
    if finite:
        called["width"] = lambda _, __, weights: metrics.mean_width(low, high, weights)
    made: dict[str, Metric | None] = {"width": None}
    return made | _metrics(called, Arrays(truth, truth, weight), seed=seed, rounds=rounds)


def _metrics(
    called: dict[str, Any], found: Arrays, *, seed: int, rounds: int, names: Sequence[str] = ()
) -> dict[str, Metric]:
    from . import metrics

    chosen = {name: called[name] for name in names or called}
    ends = metrics.bootstrap_intervals(
        chosen, found.truth, found.price, weights=found.weight, rounds=rounds, seed=seed
    )
    return {
        name: Metric(
            value=float(function(*found)), low=ends[name][0], high=ends[name][1], n=int(found.truth.size)
        )
        for name, function in chosen.items()
    }


def by_category(records: Iterable[Record], *, seed: int, rounds: int) -> tuple[Slice, ...]:
    """Cut by category, the largest first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.category or "no category", []).append(record)
    largest = sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return tuple(_slice(label, group, seed=seed, rounds=rounds) for label, group in largest)


def by_price_band(
    records: Sequence[Record], edges: Sequence[float] | None, *, seed: int, rounds: int
) -> tuple[Slice, ...]:
    """Cut by true price at the given edges, or so that about a fifth of the items lies in each band."""
    import numpy as np

    truths = np.array([record.truth for record in records])
    if edges is None:
        edges = sorted({_round(float(edge)) for edge in np.quantile(truths, [0.2, 0.4, 0.6, 0.8])})
    place = np.searchsorted(edges, truths, side="right")
    found = []
    for band in range(len(edges) + 1):
        group = [record for record, at in zip(records, place, strict=True) if at == band]
        if group:
            found.append(_slice(_band_name(edges, band), group, seed=seed, rounds=rounds))
    return tuple(found)


def _slice(label: str, records: Sequence[Record], *, seed: int, rounds: int) -> Slice:
    found = scored(records)
    names = ("mae", "median_ape", "bias")
    made: dict[str, Metric] = {}
    if found.weight.any():
        made = _metrics(functions(), found, seed=seed, rounds=rounds, names=names)
    unscored = len(records) - int(found.truth.size)
    mae, median_ape, bias = (made.get(name) for name in names)
    return Slice(
        label=label, n=int(found.truth.size), unscored=unscored, mae=mae, median_ape=median_ape, bias=bias
    )


def _round(edge: float) -> float:
    # Two digits make bands that people can read: $23 to $76, not $23.14 to $75.88.
    return 0.0 if edge <= 0 else round(edge, 1 - math.floor(math.log10(edge)))


def _band_name(edges: Sequence[float], band: int) -> str:
    names = [f"${edge:,.2f}".removesuffix(".00") for edge in edges]
    if not names:
        return "all prices"
    if band == 0:
        return f"below {names[0]}"
    return f"{names[band - 1]} and above" if band == len(names) else f"{names[band - 1]} to {names[band]}"
