"""Spans of time as people write them: `4h`, `90m`, `1.5h`."""

from __future__ import annotations

import math
import re

from ._numbers import read_number
from .errors import DataError, WrongArgument

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WORDS = {86_400: "d", 3_600: "h", 60: "min", 1: "s"}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parse_duration(name: str, value: object) -> float:
    """Return seconds.

    Args:
        name: What messages call it.
        value: Seconds as a number, or a text with a unit: `"90s"`, `"30m"`, `"4h"`, `"1.5h"`, `"2d"`.

    Raises:
        DataError: It is no span of time above zero, or a text that says no unit.
    """
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value.strip().lower())
        seconds = float(written[1]) * _SECONDS[written[2]] if written else None
    else:
        seconds = read_number(value)
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        kind = DataError if isinstance(value, str) else WrongArgument
        raise kind(
            f"{name} must be a time such as '30m', '4h' or '2d', or seconds as a number, not {value!r}"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Return seconds as text, in the largest unit that they fill: `4 h`, `1.5 h`, `30 min`."""
    size = next(size for size in _WORDS if seconds >= size or size == 1)
    return f"{seconds / size:g} {_WORDS[size]}"
