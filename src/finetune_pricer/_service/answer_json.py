"""JSON as services send it, half an emoji and other slips included."""

from __future__ import annotations

import json
from typing import Any


def parse_json(content: bytes) -> Any:
    """Return what JSON says; half a surrogate pair and bytes that are no UTF-8 become `U+FFFD`.

    An answer is paid for when it comes: it is not thrown away for a letter.

    Raises:
        ValueError: It is no JSON, or nested deeper than anything that a service means.
    """
    from orjson import JSONDecodeError, loads

    try:
        return loads(content)
    except JSONDecodeError as error:
        try:
            found = json.loads(content.decode("utf-8", "replace"), parse_constant=_leave_out)
            return replace_surrogates(found)
        except RecursionError:
            raise error from None


def _leave_out(_: str) -> None:
    # NaN and infinity are no JSON, and no number that anything could be computed with.
    return None


def replace_surrogates(value: Any) -> Any:
    """Return the same value with `U+FFFD` for each half of a surrogate pair in its texts."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [replace_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {replace_surrogates(name): replace_surrogates(each) for name, each in value.items()}
    return value
