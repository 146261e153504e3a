"""What the headers of an answer say: how long to wait, and numbers. Read in linear time, and bounded."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_TEXT = 32  # characters; no number that means anything is longer
_LONGEST_WAIT = 30 * 86_400.0  # seconds; who waits has a shorter limit, and clocks overflow far above
_LARGEST = 1e15


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which a service wants to be asked again; None where it does not say.

    `retry-after-ms` goes before `retry-after`. A date is not read: clocks differ, and our own pauses will do.
    """
    milliseconds = parse_number(headers.get("retry-after-ms"))
    if milliseconds is None:
        return parse_seconds(headers.get("retry-after"))
    return min(milliseconds / 1000, _LONGEST_WAIT)


def parse_seconds(text: str | None) -> float | None:
    """Return the seconds of a wait such as `20`, `1.5`, `6m0s` or `120ms`; None where none can be read.

    What is more than a month is a month.
    """
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if (seconds := parse_number(text)) is None:
        parts = _PART.findall(text)
        if not parts:
            return None
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return min(seconds, _LONGEST_WAIT)


def parse_number(text: str | None) -> float | None:
    """Return a number of at least 0; None where there is none. What is beyond all use is 1e15."""
    if not text or len(text) > _LONGEST_TEXT:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return min(value, _LARGEST) if math.isfinite(value) and value >= 0 else None
