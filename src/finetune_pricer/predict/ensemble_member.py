"""`EnsembleMember`: what a member of an ensemble weighs, errs and costs; the table of several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .._display import ShortRepr
from .._escape import escape_markdown
from .._format import format_dollars, format_money
from .mixture import FEWEST_ERRORS, find_error_quantiles
from .prediction import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .prediction import Prediction

_MOST_LINES = 6  # members in the printed table
_MOST_NAME = 32  # characters of a member's name there


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EnsembleMember(ShortRepr):
    """A member of a fitted ensemble: its weight, its own error on the items of `fit`, and what it costs."""

    name: str
    """What tables call it."""
    weight: float
    """Its share in the mean, 0 to 1; one of weight 0 is not asked."""
    mae: float
    """Its mean absolute error by itself; where it has no price, the median of the items' prices counts."""
    low: float
    """Lower end of the 95 % interval of that."""
    high: float
    """Upper end of the 95 % interval."""
    unpriced: int
    """How many of the items it left without a price."""
    tokens: float | None
    """How many tokens it took for an item, read and written; None where nobody counted."""
    cost: float | None
    """Dollars for 1,000 items; 0 for what asks no service, None where nobody knows."""
    errors: tuple[float, ...] = (0.0,)
    """Errors that stand for those it made where it gave no distribution: log(1 + price), true less given."""


def cut_name(name: str) -> str:
    """Return a name that fits into a line with others."""
    return name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 3]}..."


def read_price(found: Prediction) -> float | None:
    """Return the price of a prediction; None where it is no amount of money."""
    price = found.price
    return price if price is not None and 0 <= price < math.inf else None


def learn_errors(column: Sequence[Prediction], truths: Sequence[float]) -> tuple[float, ...]:
    """Return the errors that stand for those of a member where it gives no distribution."""
    priced = [
        (one, math.log1p(truth) - math.log1p(price))
        for one, truth in zip(column, truths, strict=True)
        if (price := read_price(one)) is not None
    ]
    plain = [error for one, error in priced if one.distribution is None]
    return find_error_quantiles(plain if len(plain) >= FEWEST_ERRORS else [error for _, error in priced])


def count_tokens(column: Sequence[Prediction]) -> float | None:
    """Return how many tokens an item took on average; None where nobody counted."""
    usage = sum((one.usage for one in column), Usage())
    total = usage.prompt_tokens + usage.completion_tokens
    return total / len(column) if total or _asks_nobody(column) else None


def price_thousand(member: Any, column: Sequence[Prediction]) -> float | None:
    """Return the dollars for 1,000 items like those that were priced; None where nobody knows."""
    if hasattr(member, "price_usage"):
        usage = sum((one.usage for one in column), Usage())
        dollars: float | None = member.price_usage(usage) if usage.prompt_tokens else None
        return None if dollars is None else 1_000 * dollars / len(column)
    if hasattr(member, "members"):
        return sum_costs(member.members)
    return 0.0 if _asks_nobody(column) else None


def sum_costs(members: Iterable[EnsembleMember]) -> float | None:
    """Return the dollars for 1,000 items of those that are asked; None where nobody knows one of them."""
    costs = [member.cost for member in members if member.weight]
    return None if None in costs else math.fsum(cast("list[float]", costs))


def tabulate(members: Sequence[EnsembleMember], currency: str) -> Iterator[str]:
    """Yield the lines of a table in Markdown, those with the largest weights first."""
    ordered = sorted(members, key=lambda member: (-member.weight, member.mae))
    yield "| member | weight | MAE | unpriced | tokens an item | 1,000 items cost |"
    yield "|---|---|---|---|---|---|"
    for member in ordered[:_MOST_LINES]:
        tokens = "unknown" if member.tokens is None else f"{member.tokens:,.0f}"
        error = write_interval(member.mae, member.low, member.high, currency)
        cells = [f"{member.weight:.2f}", error, f"{member.unpriced:,}", tokens, format_dollars(member.cost)]
        yield f"| {escape_markdown(cut_name(member.name))} | {' | '.join(cells)} |"
    if more := ordered[_MOST_LINES:]:
        yield f"| {len(more):,} more | {math.fsum(member.weight for member in more):.2f} | | | | |"


def write_interval(value: float, low: float, high: float, currency: str) -> str:
    """Return an amount with its 95 % interval as text."""
    ends = (format_money(None if math.isnan(end) else end, currency, 2) for end in (low, high))
    return f"{format_money(value, currency, 2)} (95% CI {' to '.join(ends)})"


def _asks_nobody(column: Sequence[Prediction]) -> bool:
    return all(one.decoding == "fitted" for one in column)
