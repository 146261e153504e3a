"""Records become metrics: of all items, of each category, of each price band."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, overload

from .._display import ShortRepr
from .._format import format_money
from .._methods.duplicates import group_ids
from ..errors import EvaluationError
from .metrics import METRICS, Column, find_intervals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_OF_SLICES = ("mae", "median_ape", "bias")
SLICE_ROUNDS = 1000
"""Resamples of the intervals of a slice."""
_FEWEST = 5  # items of a category; of fewer the interval says nothing
_MOST = 15  # categories; a longer list is not read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """A number with its 95 % interval and how many items it was taken from.

    It counts as its value: it formats, rounds, compares, sorts and computes as that number, with other
    metrics and with plain numbers. `str()` shows the interval too.

    Examples:
        >>> mae = Metric(value=67.754, low=53.6, high=82.4, n=200)
        >>> print(mae)
        67.75 (95% CI 53.60 to 82.40)
        >>> f"{mae:.1f}", round(mae), mae < 100, mae * 2
        ('67.8', 68, True, 135.508)
    """

    value: float
    low: float
    """Lower end of the 95 % bootstrap interval; `nan` for fewer than two items."""
    high: float
    n: int
    too_short: bool = False
    """Whether the interval is known to cover less often than in 93 of 100 cases, with so few items."""

    def __float__(self) -> float:
        return self.value

    def __int__(self) -> int:
        return int(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    @overload
    def __round__(self, ndigits: None = None) -> int: ...
    @overload
    def __round__(self, ndigits: int) -> float: ...
    def __round__(self, ndigits: int | None = None) -> float:
        return round(self.value, ndigits)

    # By its value alone, with numbers and metrics alike: what is equal must have one hash, and be equal to
    # whatever either of the two is equal to.
    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Metric) else other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: Metric | float) -> bool:
        return self.value < _value_of(other)

    def __le__(self, other: Metric | float) -> bool:
        return self.value <= _value_of(other)

    def __gt__(self, other: Metric | float) -> bool:
        return self.value > _value_of(other)

    def __ge__(self, other: Metric | float) -> bool:
        return self.value >= _value_of(other)

    def __add__(self, other: Metric | float) -> float:
        return self.value + _value_of(other)

    def __radd__(self, other: float) -> float:
        return other + self.value

    def __sub__(self, other: Metric | float) -> float:
        return self.value - _value_of(other)

    def __rsub__(self, other: float) -> float:
        return other - self.value

    def __mul__(self, other: Metric | float) -> float:
        return self.value * _value_of(other)

    def __rmul__(self, other: float) -> float:
        return other * self.value

    def __truediv__(self, other: Metric | float) -> float:
        return self.value / _value_of(other)

    def __rtruediv__(self, other: float) -> float:
        return other / self.value

    def __neg__(self) -> float:
        return -self.value

    def __abs__(self) -> float:
        return abs(self.value)

    def __str__(self) -> str:
        interval = "unknown" if math.isnan(self.low) else f"{self.low:,.2f} to {self.high:,.2f}"
        interval += ", too short" if self.too_short and not math.isnan(self.low) else ""
        return f"{self.value:,.2f} (95% CI {interval})"


def _value_of(number: Metric | float) -> float:
    return number.value if isinstance(number, Metric) else number


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Record(ShortRepr):
    """One item's true price and the price that was predicted for it."""

    item_id: str
    label: str
    category: str | None
    truth: float
    """In the currency's unit."""
    price: float | None
    """In the currency's unit; None when unscored."""
    low: float | None = None
    """Lower end of the price range; None without one."""
    high: float | None = None
    """Upper end of the price range; None without one."""
    weight: float = 1.0
    """How much the item counts in the metrics."""
    group: int | None = None
    """A number that items share which err alike, such as near-twins; None where each stands for itself."""
    text: str | None = None
    """The reply, where there was one."""
    unscored: str | None = None
    """Why there is no price to score."""

    @property
    def error(self) -> float | None:
        """Predicted minus true price; None when unscored."""
        return None if self.price is None else self.price - self.truth


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoredRecord(Record):
    """A record that has a price, and so an error."""

    price: float
    """In the currency's unit."""

    @property
    def error(self) -> float:
        """Predicted minus true price."""
        return self.price - self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """How wrong the prices are on one part of the items."""

    label: str
    n: int
    """How many items were scored."""
    unscored: int
    """How many items were not."""
    mae: Metric | None
    """In the currency's unit; None where nothing was scored."""
    median_ape: Metric | None
    """Median of the error as a share of the true price."""
    bias: Metric | None
    """Mean of predicted minus true price."""


def select_scored(records: Iterable[Record]) -> tuple[ScoredRecord, ...]:
    """Return the records that have a price, in their order."""
    names = [entry.name for entry in fields(Record)]
    return tuple(
        ScoredRecord(**{name: getattr(record, name) for name in names})
        for record in records
        if record.price is not None
    )


def number_groups(records: Sequence[Record]) -> Ints | None:
    """Return a number from 0 on for each record, equal in a group; None where no record has a group."""
    if all(record.group is None for record in records):
        return None
    # A record without a group is one of its own.
    return group_ids([(at,) if one.group is None else one.group for at, one in enumerate(records)])


def measure(records: Sequence[Record], *, seed: int, rounds: int) -> dict[str, Metric | None]:
    """Return every metric of `METRICS` with its interval.

    A metric of price ranges is None where no record has a range, or where one has an open end that leaves the
    metric without a value.

    Raises:
        EvaluationError: No scored record has a weight above 0.
    """
    metrics = _measure(records, tuple(METRICS), seed=seed, rounds=rounds)
    if metrics["mae"] is None:
        raise EvaluationError("not one scored item has a weight above 0")
    return metrics


def measure_value(records: Iterable[Record], name: str) -> float:
    """Return the value of one metric without its interval; `nan` where no record has what it is made of."""
    columns = _Columns.read(records, METRICS[name].columns)
    if not columns.weights.any():
        return float("nan")
    return float(METRICS[name].function(*columns.values, columns.weights))


def measure_one(records: Sequence[Record], name: str, *, seed: int, rounds: int) -> Metric | None:
    """Return one metric with its interval; None where no record has what it is made of."""
    return _measure(records, (name,), seed=seed, rounds=rounds)[name]


def slice_by_category(records: Iterable[Record], *, seed: int, rounds: int) -> tuple[Slice, ...]:
    """Measure each category, the largest first."""
    largest = _group_by_category(records)
    return tuple(_slice(label, group, seed=seed, rounds=rounds) for label, group in largest)


def slice_by_large_category(records: Iterable[Record], *, seed: int, rounds: int) -> tuple[Slice, ...]:
    """Measure the large categories, the largest first, and at the end all others as one."""
    shown, folded = list[tuple[str, list[Record]]](), list[tuple[str, list[Record]]]()
    for label, group in _group_by_category(records):
        is_large = len(group) >= _FEWEST and len(shown) < _MOST
        (shown if is_large else folded).append((label, group))
    if len(folded) == 1:
        shown.append(folded[0])
    elif folded:
        others = [record for _, group in folded for record in group]
        shown.append((f"{len(folded)} other categories", others))
    return tuple(_slice(label, group, seed=seed, rounds=rounds) for label, group in shown)


def _group_by_category(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.category or "no category", []).append(record)
    return sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))


def slice_by_price_band(
    records: Sequence[Record], edges: Sequence[float] | None, *, currency: str, seed: int, rounds: int
) -> tuple[Slice, ...]:
    """Measure bands of true prices, cut at the given edges or so that each has about a fifth of the items."""
    import numpy as np

    truths = np.array([record.truth for record in records])
    if edges is None:
        edges = sorted({_round(float(edge)) for edge in np.quantile(truths, [0.2, 0.4, 0.6, 0.8])})
    bands = np.searchsorted(edges, truths, side="right")
    slices = []
    for band in range(len(edges) + 1):
        group = [record for record, at in zip(records, bands, strict=True) if at == band]
        if group:
            slices.append(_slice(_band_name(edges, band, currency), group, seed=seed, rounds=rounds))
    return tuple(slices)


class _Columns(NamedTuple):
    """Fields of the records that have them all, one array each, and those records' weights."""

    values: tuple[Floats, ...]
    weights: Floats
    groups: Ints | None

    @classmethod
    def read(cls, records: Iterable[Record], names: tuple[Column, ...]) -> _Columns:
        import numpy as np

        known = [one for one in records if all(getattr(one, name) is not None for name in names)]
        rows = [tuple(getattr(record, name) for name in (*names, "weight")) for record in known]
        *values, weights = np.array(rows, dtype=np.float64).reshape(-1, len(names) + 1).T
        return cls(tuple(values), weights, number_groups(known))

    @property
    def independent(self) -> int:
        """How many items or groups of them tell something of their own."""
        return self.weights.size if self.groups is None else int(self.groups.max()) + 1

    @property
    def have_open_ends(self) -> bool:
        import numpy as np

        return not all(np.isfinite(column).all() for column in self.values)


def _measure(
    records: Sequence[Record], names: Iterable[str], *, seed: int, rounds: int
) -> dict[str, Metric | None]:
    """Return metrics by name; None where no record with a weight has what a metric is computed from."""
    metrics: dict[str, Metric | None] = dict.fromkeys(names)
    for wanted in {METRICS[name].columns: None for name in metrics}:
        columns = _Columns.read(records, wanted)
        if not columns.weights.any():
            continue
        functions = {
            name: METRICS[name].function
            for name in metrics
            if METRICS[name].columns == wanted and (METRICS[name].open_ends or not columns.have_open_ends)
        }
        ends = find_intervals(
            functions, columns.values, columns.weights, rounds=rounds, seed=seed, groups=columns.groups
        )
        for name, function in functions.items():
            value = float(function(*columns.values, columns.weights))
            metrics[name] = Metric(
                value=value,
                low=ends[name].low,
                high=ends[name].high,
                n=columns.weights.size,
                too_short=ends[name].is_rough or columns.independent < METRICS[name].covers_from,
            )
    return metrics


def _slice(label: str, records: Sequence[Record], *, seed: int, rounds: int) -> Slice:
    scored = sum(record.price is not None for record in records)
    metrics = _measure(records, _OF_SLICES, seed=seed, rounds=rounds)
    return Slice(label=label, n=scored, unscored=len(records) - scored, **metrics)


def _round(edge: float) -> float:
    # Two digits make bands that people can read: $23 to $76, not $23.14 to $75.88.
    return 0.0 if edge <= 0 else round(edge, 1 - math.floor(math.log10(edge)))


def _band_name(edges: Sequence[float], band: int, currency: str) -> str:
    names = [format_money(edge, currency, 2).removesuffix(".00") for edge in edges]
    if not names:
        return "all prices"
    if band == 0:
        return f"below {names[0]}"
    return f"{names[band - 1]} and above" if band == len(names) else f"{names[band - 1]} to {names[band]}"
