"""Amounts of money as people read them; the one place where an amount is written with its mark."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ._currencies import CODES
from .errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CENT = 0.01
# Marks as English texts have them; of the other currencies the code is written.
_MARKS = {
    "AUD": "A$",
    "BRL": "R$",
    "CAD": "CA$",
    "CNY": "CN¥",
    "EUR": "€",
    "GBP": "£",
    "HKD": "HK$",
    "ILS": "₪",
    "INR": "₹",
    "JPY": "¥",
    "KRW": "₩",
    "MXN": "MX$",
    "NZD": "NZ$",
    "PHP": "₱",
    "TWD": "NT$",
    "USD": "$",
    "VND": "₫",
}
_TENTH = 0.0995


def require_currency(currency: object) -> str:
    """Return the ISO code of a currency.

    Raises:
        DataError: It is none.
    """
    if isinstance(currency, str) and currency in CODES:
        return currency
    raise DataError(f"currency must be an ISO code such as 'USD' or 'EUR', not {currency!r}")


class Unnamed(str):
    """The currency of prices of which nobody has named one: it agrees with any that somebody names."""

    __slots__ = ()


UNNAMED = Unnamed("USD")
"""What prices are taken to be in where nobody says it."""


def agree_on_currency(said: Mapping[str, str | None]) -> str:
    """Return the one currency that everybody names who names one; USD where nobody does.

    Args:
        said: Who says it, in words such as `"the items"`, and the ISO code; None from whoever names none.

    Raises:
        DataError: Two name different ones.
    """
    known = {who: currency for who, currency in said.items() if currency is not None}
    named = {who: currency for who, currency in known.items() if not isinstance(currency, Unnamed)}
    for (one, first), (other, second) in pairwise(named.items()):
        if first != second:
            raise DataError(
                f"the prices of {one} are in {first} and those of {other} in {second}; nothing is converted: "
                "give both the same currency="
            )
    return next(iter(named.values()), UNNAMED)


def mark_of(currency: str) -> str:
    """Return what stands before an amount in a currency: `$`, `€`, and `CHF ` where there is only a code."""
    return _MARKS.get(currency, f"{currency} ")


def format_money(amount: float | None, currency: str, decimals: int | None = None) -> str:
    """Return an amount of money as text: `€1,234.50`, `-CHF 3.00`, and `unknown` for None.

    Args:
        amount: In the currency's unit; None where nobody knows.
        currency: Its ISO code.
        decimals: How many decimal places; by default two, and four for less than a cent.
    """
    if amount is None:
        return "unknown"
    if decimals is None:
        decimals = 4 if 0 < abs(amount) < _CENT else 2
    sign = "-" if amount < 0 else ""
    return f"{sign}{mark_of(currency)}{abs(amount):,.{decimals}f}"


def format_dollars(amount: float | None, decimals: int | None = None) -> str:
    """Return dollars as text, in which services name what they charge: `$1,234.50`, and `unknown` for None.

    Args:
        amount: Dollars; None where nobody knows.
        decimals: How many decimal places; by default two, and four for less than a cent.
    """
    return format_money(amount, "USD", decimals)


def format_share(share: float) -> str:
    """Return a share as a percentage, a small one with two digits: `25%`, `4.8%`, `0.12%`."""
    return f"{share:.0%}" if share >= _TENTH else f"{100 * share:.2g}%"
