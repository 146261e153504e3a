"""Numbers of any library as Python's own: numpy's, `Decimal`, `Fraction`; truth values and texts are none."""

from __future__ import annotations

import math
import operator
from typing import Any


def read_whole(value: Any) -> int | None:
    """Return a whole number that may count something, as an int; None where the value is none.

    A float is none, even 3.0: where it comes from, 2.9999999 may come next.
    """
    if is_truth_value(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def read_number(value: Any) -> float | None:
    """Return a number as a float, infinite where it is too large for one; None where the value is none."""
    # A text has no `__float__`, so that "0.5" is none, though Python could read it.
    if is_truth_value(value) or not hasattr(type(value), "__float__"):
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf
    except (TypeError, ValueError):
        return None


def to_plain(value: Any) -> Any:
    """Return a number as Python's own, such as JSON takes; whatever else as it is."""
    if type(value) in {int, float}:
        return value
    whole = read_whole(value)
    number = read_number(value) if whole is None else whole
    return value if number is None else number


def is_truth_value(value: Any) -> bool:
    """Whether a value is True or False."""
    return type(value).__name__ in {"bool", "bool_"}  # Python's and numpy's
