"""Numbers and tables of numbers, as every report writes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ..._format import format_money, format_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evaluation import Evaluation
    from ..measurement import Metric
    from ..metrics import Unit


class Table(NamedTuple):
    """Cells as text, before somebody decides between HTML and Markdown."""

    head: tuple[str, ...]
    """Names of the columns; all are empty where the table needs no head."""
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1
    """How many columns on the left are words; the others are numbers."""
    spare: frozenset[str] = frozenset()
    """Names of the columns that a phone's page leaves out."""

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


def format_metric(metric: Metric, unit: Unit, currency: str) -> str:
    """Return a metric's value and its interval as text: `$66.10 ($55.02 to $78.30)`."""
    return f"{format_number(metric.value, unit, currency)} ({format_interval(metric, unit, currency)})"


def format_p(value: float) -> str:
    """Return a p-value as text; one below a thousandth is not zero."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def say_p(value: float, adjusted_for: int = 1) -> str:
    """Return a p-value in words: `p=0.030 by Holm for 3 comparisons`, `p<0.001` where there was but one."""
    written = format_p(value)
    adjusted = f" by Holm for {adjusted_for} comparisons" if adjusted_for > 1 else ""
    return f"p{'' if written.startswith('<') else '='}{written}{adjusted}"


def format_unscored(evaluation: Evaluation) -> str:
    """Return how many items are unscored, and which share of all that is: `19 (4.8%)`, or `0`."""
    share = f" ({format_share(evaluation.share_unscored)})" if evaluation.unscored else ""
    return f"{evaluation.unscored:,}{share}"


def format_interval(metric: Metric, unit: Unit, currency: str) -> str:
    """Return both ends of a metric's interval as text, `unknown` for fewer than two items.

    An interval that is known to cover too seldom with so few items says so.
    """
    if math.isnan(metric.low):
        return "unknown"
    mark = ", too short" if metric.too_short else ""
    low, high = (format_number(end, unit, currency) for end in (metric.low, metric.high))
    return f"{low} to {high}{mark}"
