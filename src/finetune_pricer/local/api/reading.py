"""What several routes read from a request: its JSON body, and which page of a list is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .refusals import cursor_not_found, invalid_value, too_large
from .responses import page

if TYPE_CHECKING:
    from starlette.requests import Request

JSON_LIMIT = 4 * 2**20
"""Bytes that a JSON body may have."""
READ_ON = 2**26
"""Bytes of a body that is refused which are read all the same."""


async def json_body(request: Request) -> bytes:
    """Return a request's body; raise an `ApiError` where it is longer than JSON may be."""
    declared = request.headers.get("content-length", "")
    content, size, told = bytearray(), 0, int(declared) if declared.isdigit() else 0
    async for chunk in request.stream():
        size += len(chunk)
        if max(size, told) <= JSON_LIMIT:
            content += chunk
        else:  # read on, and keep nothing: a client that is cut off while it sends never sees the answer
            content.clear()
            if size > READ_ON:
                break
    if max(size, told) > JSON_LIMIT:
        raise too_large(JSON_LIMIT)
    return bytes(content)


def limit_of(request: Request, *, most: int, usual: int) -> int:
    """Return how many rows a request wants."""
    given = request.query_params.get("limit")
    if given is None:
        return usual
    if not given.isascii() or not given.isdigit() or len(given) > 9 or not 1 <= int(given) <= most:
        raise invalid_value(f"'limit' must be a number from 1 to {most}.", "limit")
    return int(given)


def is_ascending(request: Request) -> bool:
    """Return whether a request wants the oldest rows first."""
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid_value("'order' must be 'asc' or 'desc'.", "order")
    return order == "asc"


def page_of(request: Request, rows: list[dict[str, Any]], *, most: int, usual: int) -> dict[str, Any]:
    """Return the page of `rows` that a request's cursor and limit mean."""
    limit, after = limit_of(request, most=most, usual=usual), request.query_params.get("after")
    start = 0
    if after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise cursor_not_found(after)
        start = places[0] + 1
    return page(rows[start : start + limit], has_more=len(rows) > start + limit)
