"""Numbers and tables of numbers, as every report writes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ..._format import format_money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..measurement import Metric
    from ..metrics import Unit


class Table(NamedTuple):
    """Cells as text, before somebody decides between HTML and Markdown."""

    head: tuple[str, ...]
    """Names of the columns; all are empty where the table needs no head."""
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1
    """How many columns on the left are words; the others are numbers."""

    @property
    def has_head(self) -> bool:
        """Whether a column has a name."""
        return any(self.head)


def format_number(value: float, unit: Unit, currency: str) -> str:
    """Return a metric's value as text in its unit; shares become percentages, NaN is `unknown`."""
    if math.isnan(value):
        return "unknown"
    if unit == "$":
        return format_money(value, currency, 2)
    if unit == "%":
        return f"{value:.1%}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def format_interval(metric: Metric, unit: Unit, currency: str) -> str:
    """Return both ends of a metric's interval as text, `unknown` for fewer than two items."""
    if math.isnan(metric.low):
        return "unknown"
    return f"{format_number(metric.low, unit, currency)} to {format_number(metric.high, unit, currency)}"
