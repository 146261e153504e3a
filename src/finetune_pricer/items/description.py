"""What a set of items looks like: numbers, and a histogram in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import format_money
from .item import ITEM_FIELDS, build_items
from .tables import BATCH, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

MADE_HERE = "made in Python"
"""The history of items that come from no file."""
_QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "50 %": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
_BARS = 10
_WIDTH = 40  # characters of the longest bar
_SHOWN = 8  # categories that are spelled out


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Description(PrintsAsPage):
    """What a set of items looks like; `str()` of it is a page of text."""

    n: int
    """How many items there are."""
    priced: int
    """How many of them have a price."""
    prices: Mapping[str, float]
    """Quantiles of the known prices (the currency's unit), from `min` to `max`; empty where none is known."""
    categories: Mapping[str, int]
    """How many items each category has, the largest first; `""` is no category."""
    characters: Mapping[str, float]
    """Quantiles of the texts' lengths; empty where there are no items."""
    histogram: tuple[tuple[float, float, int], ...]
    """From, to (in the currency's unit) and how many, over equal steps of the log price."""
    skipped: int
    """Rows of the source that could not be items."""
    history: tuple[str, ...] = ()
    """Where the items come from, how they were read, and what was done to them, a sentence each."""
    currency: str = "USD"
    """ISO code of the prices' currency."""

    def __str__(self) -> str:
        parts = [self._counts(), self._origin(), self._quantiles(), self._bars(), self._categories()]
        return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines)

    def _money(self, amount: float) -> str:
        return format_money(amount, self.currency)

    def _counts(self) -> Iterator[str]:
        skipped = f"; {self.skipped:,} rows of the source could not be items" if self.skipped else ""
        yield f"{self.n:,} items, {self.priced:,} with a price{skipped}"

    def _origin(self) -> Iterator[str]:
        # Who made the items knows that they were made.
        if self.history != (MADE_HERE,):
            yield from map(escape_line, self.history)

    def _quantiles(self) -> Iterator[str]:
        if self.prices:
            shown = (f"{name} {self._money(value)}" for name, value in self.prices.items())
            yield "price      " + "  ".join(shown)
        if self.characters:
            shown = (f"{name} {value:,.0f}" for name, value in self.characters.items())
            yield "characters " + "  ".join(shown)

    def _bars(self) -> Iterator[str]:
        most = max((count for *_, count in self.histogram), default=0) or 1
        for low, high, count in self.histogram:
            bar = "#" * max(round(_WIDTH * count / most), 1 if count else 0)
            prices = f"{self._money(low):>11} to {self._money(high):>11}"
            yield f"{prices} {count:>8,} {bar}".rstrip()

    def _categories(self) -> Iterator[str]:
        if self.categories:
            first = list(self.categories.items())[:_SHOWN]
            named = ", ".join(f"{escape_line(name) or '(none)'} {count:,}" for name, count in first)
            more = len(self.categories) - len(first)
            yield f"{len(self.categories):,} categories: {named}" + (f", {more:,} more" if more else "")


def describe(
    table: pa.Table, *, skipped: int, history: tuple[str, ...] = (), currency: str = "USD"
) -> Description:
    """Describe a table of items, of whose source so many rows could not be items, and their history."""
    import numpy as np

    prices = numbers_of(table, "price")
    known = prices[~np.isnan(prices)]
    lengths = np.fromiter(_lengths_of(table), dtype=np.float64, count=table.num_rows)
    counts = {
        entry["values"] or "": entry["counts"] for entry in table["category"].value_counts().to_pylist()
    }
    return Description(
        n=table.num_rows,
        priced=len(known),
        prices=_quantiles_of(known),
        categories=dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))),
        characters=_quantiles_of(lengths),
        histogram=_histogram_of(known),
        skipped=skipped,
        history=history,
        currency=currency,
    )


def _lengths_of(table: pa.Table) -> Iterator[int]:
    for start in range(0, table.num_rows, BATCH):
        part = table.slice(start, BATCH)
        yield from (len(item.text) for item in build_items(part[name].to_pylist() for name in ITEM_FIELDS))


def _quantiles_of(values: npt.NDArray[np.float64]) -> dict[str, float]:
    import numpy as np

    if not len(values):
        return {}
    quantiles = np.quantile(values, list(_QUANTILES.values())).tolist()
    return dict(zip(_QUANTILES, quantiles, strict=True))


def _histogram_of(prices: npt.NDArray[np.float64]) -> tuple[tuple[float, float, int], ...]:
    import numpy as np

    if not len(prices) or prices.min() == prices.max():
        return ()
    edges = np.expm1(np.linspace(np.log1p(prices.min()), np.log1p(prices.max()), _BARS + 1))
    # Rounding must not push the smallest or the largest price out of its bar.
    edges[0], edges[-1] = prices.min(), prices.max()
    counts, _ = np.histogram(prices, edges)
    return tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))
