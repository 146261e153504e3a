"""What a set of items looks like: numbers, and a histogram in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import format_dollars
from .item import TEXT_FIELDS
from .tables import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

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
    """Quantiles of the known prices, in dollars, from `min` to `max`; empty where none is known."""
    categories: Mapping[str, int]
    """How many items each category has, the largest first; `""` is no category."""
    characters: Mapping[str, float]
    """Quantiles of the texts' lengths; empty where there are no items."""
    histogram: tuple[tuple[float, float, int], ...]
    """From, to (dollars) and how many, over equal steps of the log price."""
    skipped: int
    """Rows of the source that could not be items."""

    def __str__(self) -> str:
        sections = [self._counts(), self._quantiles(), self._bars(), self._categories()]
        return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines)

    def _counts(self) -> Iterator[str]:
        skipped = f"; {self.skipped:,} rows of the source could not be items" if self.skipped else ""
        yield f"{self.n:,} items, {self.priced:,} with a price{skipped}"

    def _quantiles(self) -> Iterator[str]:
        if self.prices:
            shown = (f"{name} {format_dollars(value)}" for name, value in self.prices.items())
            yield "price      " + "  ".join(shown)
        if self.characters:
            shown = (f"{name} {value:,.0f}" for name, value in self.characters.items())
            yield "characters " + "  ".join(shown)

    def _bars(self) -> Iterator[str]:
        most = max((count for *_, count in self.histogram), default=0) or 1
        for low, high, count in self.histogram:
            bar = "#" * max(round(_WIDTH * count / most), 1 if count else 0)
            prices = f"{format_dollars(low):>11} to {format_dollars(high):>11}"
            yield f"{prices} {count:>8,} {bar}".rstrip()

    def _categories(self) -> Iterator[str]:
        if self.categories:
            first = list(self.categories.items())[:_SHOWN]
            named = ", ".join(f"{escape_line(name) or '(none)'} {count:,}" for name, count in first)
            more = len(self.categories) - len(first)
            yield f"{len(self.categories):,} categories: {named}" + (f", {more:,} more" if more else "")


def describe(table: pa.Table, *, skipped: int) -> Description:
    """Describe a table of items, of whose source so many rows could not be items."""
    import numpy as np
    import pyarrow.compute as pc

    prices = numbers_of(table, "price")
    known = prices[~np.isnan(prices)]
    text = pc.coalesce(*(_blank_to_null(table[name]) for name in TEXT_FIELDS))
    lengths = pc.utf8_length(text).to_numpy() if table.num_rows else np.zeros(0)
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
    )


def _blank_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)


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
