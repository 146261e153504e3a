"""Which character stands between the cells of a CSV, found out and checked against the head."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ...errors import DataError, InvalidRows
from ..item import TEXT_FIELDS
from .quotes import count_lines, split_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DELIMITERS = (",", ";", "\t", "|")
_ROWS = 200  # that are looked at where the head does not decide
_EXCEL = re.compile(rb'"?sep=([^\r\n])"?(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


class Head(NamedTuple):
    """How a file begins."""

    delimiter: str
    names: list[str]
    end: int
    """Bytes of the file before its first row."""
    lines: int
    """Lines of the file before its first row."""


def check_delimiter(delimiter: object) -> None:
    """Make sure that a delimiter can be one.

    Raises:
        DataError: It cannot.
    """
    if (
        not isinstance(delimiter, str)
        or len(delimiter) != 1
        or not delimiter.isascii()
        or delimiter in '"\r\n\0'
    ):
        raise DataError(f"delimiter is one character, such as ';' or '\\t', not {delimiter!r}"[:200])


def read_head(
    content: bytes,
    *,
    name: str,
    delimiter: str | None,
    usual: str,
    columns: Mapping[str, str],
    priced: bool,
) -> Head:
    """Return how a file begins, by its first block.

    Args:
        content: The first block, in UTF-8.
        name: What messages call the file.
        delimiter: The one that was given, if any.
        usual: The one that the file's ending stands for.
        columns: Foreign names and ours: a delimiter by which they are not found is not the right one.
        priced: Whether there must be a price.

    Raises:
        InvalidRows: There is no head, or two delimiters are as good.
    """
    start, line = 0, 0
    if match := _EXCEL.match(content):
        # Excel writes this line, and hides it.
        delimiter = delimiter or match[1].decode(errors="replace")
        start, line = match.end(), 1
    heads = {}
    for each in [delimiter] if delimiter else dict.fromkeys((usual, *DELIMITERS)):
        head = _split_head(content, each, start, line)
        if head is None:
            raise InvalidRows(f"{name} is empty")
        heads[each] = head
    if delimiter:
        return heads[delimiter]
    good = {each: head for each, head in heads.items() if has_columns(head.names, columns, priced=priced)}
    if len(good) == 1:
        return next(iter(good.values()))
    if len({tuple(head.names) for head in good.values()}) == 1:
        # The head has one column, and any of these characters may stand in its cells.
        return _fit_rows(content, good, usual)
    return _choose(content, good or heads, name, usual, found=bool(good))


def _split_head(content: bytes, delimiter: str, start: int, line: int) -> Head | None:
    for row in split_rows(content[start:], delimiter.encode()):
        if any(cell.strip() for cell in row.cells):
            names = [_unquote(cell) for cell in row.cells]
            end = start + row.end
            return Head(delimiter, names, end, line + count_lines(content[start:end]))
    return None


def has_columns(names: Sequence[str], columns: Mapping[str, str], *, priced: bool) -> bool:
    """Whether a head has the columns that items need, and those that are mapped."""
    if any(name not in names for name in columns):
        return False
    fields = {*(name for name in names if name not in columns), *columns.values()}
    return (not priced or "price" in fields) and any(field in fields for field in TEXT_FIELDS)


def _fit_rows(content: bytes, heads: Mapping[str, Head], usual: str) -> Head:
    misfits = {each: _count_misfits(content, head) for each, head in heads.items()}
    return heads[min(heads, key=lambda each: (misfits[each], each != usual))]


def _choose(content: bytes, heads: Mapping[str, Head], name: str, usual: str, *, found: bool) -> Head:
    """Return the reading in which the rows have as many cells as the head, and the head the most."""
    ranks = {each: (len(head.names) == 1, _count_misfits(content, head)) for each, head in heads.items()}
    best = min(ranks.values())
    equal = [each for each in heads if ranks[each] == best]
    if len(equal) > 1 and (found or not best[0]):
        shown = "; with ".join(f"{_WORDS[each]} it has {_quote(heads[each].names)}" for each in equal[:2])
        raise InvalidRows(f"what stands between the cells of {name}? With {shown}: say delimiter=")
    return heads[usual if usual in equal else equal[0]]


def _quote(names: Sequence[str]) -> str:
    return "the columns " + ", ".join(map(repr, names[:6])) + (", ..." if len(names) > 6 else "")


def _count_misfits(content: bytes, head: Head) -> int:
    """Return how many of the first rows have not as many cells as the head."""
    rows = islice(split_rows(content[head.end :], head.delimiter.encode()), _ROWS)
    return sum(len(row.cells) != len(head.names) for row in rows if not row.is_blank)


def _unquote(cell: bytes) -> str:
    text = cell.decode(errors="backslashreplace")
    is_quoted = len(text) > 1 and text.startswith('"') and text.endswith('"')
    return text[1:-1].replace('""', '"') if is_quoted else text
