"""Amounts of money as people read them; the one place where an amount is written with its mark."""

from __future__ import annotations

import re

from .errors import DataError

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


def require_currency(currency: object) -> str:
    """Return the ISO code of a currency.

    Raises:
        DataError: It is none.
    """
    if isinstance(currency, str) and re.fullmatch("[A-Z]{3}", currency):
        return currency
    raise DataError(f"currency is an ISO code of three capitals such as 'EUR', not {currency!r}")


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
