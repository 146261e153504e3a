"""What a set of items looks like: numbers, and a histogram in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .dataset import ItemDataset

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_NAMES = ("min", "5 %", "25 %", "50 %", "75 %", "95 %", "max")
_BARS = 10
_WIDTH = 40  # characters of the longest bar
_SHOWN = 8  # categories that are spelled out


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a set of items looks like; `str()` of it is a page of text."""

    n: int
    """How many items."""
    priced: int
    """How many of them have a price."""
    prices: Mapping[str, float]
    """Quantiles of the known prices, in dollars, from `min` to `max`; empty where none is known."""
    categories: Mapping[str, int]
    """How many items each category has, the largest first; `""` is no category."""
    characters: Mapping[str, float]
    """Quantiles of the texts' lengths."""
    histogram: tuple[tuple[float, float, int], ...]
    """From, to (dollars) and how many, over equal steps of the log price."""
    skipped: int
    """Rows of the source that could not be items."""

    def __str__(self) -> str:
        lines = [f"{self.n:,} items, {self.priced:,} with a price"]
        if self.skipped:
            lines[0] += f"; {self.skipped:,} rows of the source could not be items"
        if self.prices:
            lines += ["", "price      " + _row(self.prices, "$")]
        if self.n:
            lines += ["" if not self.prices else "characters " + _row(self.characters, "")]
        if self.histogram:
            most = max(count for *_, count in self.histogram) or 1
            lines += [""]
            for low, high, count in self.histogram:
                bar = "#" * max(round(_WIDTH * count / most), 1 if count else 0)
                lines.append(f"${low:>10,.2f} to ${high:>10,.2f} {count:>8,} {bar}".rstrip())
        if self.categories:
            first = list(self.categories.items())[:_SHOWN]
            named = ", ".join(f"{name or '(none)'} {count:,}" for name, count in first)
            more = len(self.categories) - len(first)
            lines += [
                "",
                f"{len(self.categories):,} categories: {named}" + (f", {more:,} more" if more else ""),
            ]
        return "\n".join(lines)


def _row(quantiles: Mapping[str, float], unit: str) -> str:
    shown = "{:,.2f}" if unit else "{:,.0f}"
    return "  ".join(f"{name} {unit}{shown.format(value)}" for name, value in quantiles.items())


def describe(items: ItemDataset) -> Description:
    """Look at a set of items once."""
    table = items.table
    prices = items.prices
    known = prices[~np.isnan(prices)]
    text = pc.coalesce(*(_or_null(table[name]) for name in ("summary", "full", "title")))
    lengths = pc.utf8_length(text).to_numpy() if len(items) else np.zeros(0)
    counts = table["category"].value_counts().to_pylist()
    counted = sorted(
        ((entry["values"] or "", entry["counts"]) for entry in counts), key=lambda each: (-each[1], each[0])
    )
    return Description(
        n=len(items),
        priced=len(known),
        prices=_quantiles(known),
        categories=dict(counted),
        characters=_quantiles(lengths),
        histogram=_histogram(known),
        skipped=len({problem.row for problem in items.skipped}),
    )


def _or_null(column: object) -> object:
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)


def _quantiles(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    if not len(values):
        return {}
    return {name: float(value) for name, value in zip(_NAMES, np.quantile(values, _QUANTILES), strict=True)}


def _histogram(prices: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[tuple[float, float, int], ...]:
    if not len(prices) or prices.min() == prices.max():
        return ()
    edges = np.expm1(np.linspace(np.log1p(prices.min()), np.log1p(prices.max()), _BARS + 1))
    # Rounding must not push the smallest or the largest price out of its bar.
    edges[0], edges[-1] = prices.min(), prices.max()
    counts, _ = np.histogram(prices, edges)
    return tuple(
        (float(low), float(high), int(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    )
