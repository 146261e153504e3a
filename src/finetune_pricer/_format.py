"""Amounts of money as people read them; the one place where a number of dollars is written."""

from __future__ import annotations

_CENT = 0.01
_TENTH = 0.0995


def format_dollars(amount: float | None, decimals: int | None = None) -> str:
    """Return dollars as text: `$1,234.50`, `-$3.00`, and `unknown` for None.

    Args:
        amount: Dollars; None where nobody knows.
        decimals: How many decimal places; by default two, and four for less than a cent.
    """
    if amount is None:
        return "unknown"
    if decimals is None:
        decimals = 4 if 0 < abs(amount) < _CENT else 2
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.{decimals}f}"


def format_share(share: float) -> str:
    """Return a share as a percentage, a small one with two digits: `25%`, `4.8%`, `0.12%`."""
    return f"{share:.0%}" if share >= _TENTH else f"{100 * share:.2g}%"
