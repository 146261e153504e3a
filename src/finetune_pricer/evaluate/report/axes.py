"""Axes of prices: logarithmic where prices span much, with both scales to choose from.

On a linear axis from $2 to $900 two thirds of the dots lie in one corner.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._format import format_money

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDE = 50
"""By which factor prices must span for their axes to be logarithmic."""
_STEPS = (1, 2, 5)
_MOST_TICKS = 8
_MARGIN = 1.08


class PriceScale(NamedTuple):
    """The scale of an axis, or of two axes alike, on which some amounts are drawn."""

    lowest: float
    """The smallest amount above 0."""
    least: float
    """The smallest amount."""
    largest: float
    currency: str

    @classmethod
    def of(cls, amounts: Iterable[float], currency: str) -> PriceScale:
        """Return the scale of some amounts; those that are infinite are left out."""
        known = [float(amount) for amount in amounts if math.isfinite(amount)] or [1.0]
        largest = max(*known, 0.01) if len(known) > 1 else max(known[0], 0.01)
        return cls(min((one for one in known if one > 0), default=largest), min(known), largest, currency)

    @property
    def is_wide(self) -> bool:
        """Whether the amounts span so much that they want a logarithmic axis."""
        return self.largest / self.lowest > WIDE

    @property
    def linear(self) -> dict[str, Any]:
        """A linear axis, from 0 or below."""
        low = min(self.least * _MARGIN, 0.0)
        return {"type": "linear", "range": [low, self.largest * _MARGIN], "tickmode": "auto"}

    @property
    def logarithmic(self) -> dict[str, Any]:
        """A logarithmic axis of the amounts above 0, with amounts that people say at its ticks."""
        low, high = self.lowest / _MARGIN, self.largest * _MARGIN
        ticks = _find_ticks(low, high)
        written = [format_money(tick, self.currency, 2).removesuffix(".00") for tick in ticks]
        ends = [math.log10(low), math.log10(high)]
        return {"type": "log", "range": ends, "tickmode": "array", "tickvals": ticks, "ticktext": written}


def set_scale(figure: Any, x: PriceScale, y: PriceScale | None = None, *, log: bool | None = None) -> None:
    """Give a figure's axes their scales, and a choice of linear and logarithmic ones below it.

    Args:
        figure: A plotly figure.
        x: The scale of the amounts to the right.
        y: The scale of those upwards; the same by default.
        log: Which one is shown at first; by default what the amounts want.
    """
    y = x if y is None else y
    if log is None:
        log = x.is_wide or y.is_wide
    figure.update_xaxes(x.logarithmic if log else x.linear)
    figure.update_yaxes(y.logarithmic if log else y.linear)
    buttons = [
        {"label": "linear", "method": "relayout", "args": [_name_changes(x.linear, y.linear)]},
        {"label": "log", "method": "relayout", "args": [_name_changes(x.logarithmic, y.logarithmic)]},
    ]
    # Beside the title of the axis: above the figure is what plotly itself offers.
    place = {"x": 1, "xanchor": "right", "y": -0.09, "yanchor": "top", "direction": "right"}
    figure.update_layout(
        updatemenus=[{"type": "buttons", "buttons": buttons, "active": int(log), "showactive": True, **place}]
    )


def _name_changes(x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{axis}.{name}": value
        for axis, layout in (("xaxis", x), ("yaxis", y))
        for name, value in layout.items()
    }


def _find_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in _STEPS]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) <= _MOST_TICKS:
        return inside
    return [tick for tick in inside if math.log10(tick).is_integer()]
