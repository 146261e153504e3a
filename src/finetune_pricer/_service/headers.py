"""What the headers of an answer say: how long to wait, and numbers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds after which a service wants to be asked again; None where it does not say.

    `retry-after-ms` goes before `retry-after`. A date is not read: clocks differ, and our own pauses will do.
    """
    milliseconds = parse_seconds(headers.get("retry-after-ms"))
    return parse_seconds(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000


def parse_seconds(text: str | None) -> float | None:
    """Return the seconds of a wait such as `20`, `1.5`, `6m0s` or `120ms`; None where none can be read."""
    if not text:
        return None
    if (plain := parse_number(text)) is not None:
        return plain
    parts = _PART.findall(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def parse_number(text: str | None) -> float | None:
    """Return a finite number of at least 0; None where there is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
