"""Where the rows of a CSV end: at line ends that stand in no quotes.

Arrow cuts a file into blocks of equal size, and so loses a line feed where Windows' line end in quotes lies
across two of them, and cannot say where a quote was opened. Here blocks end where rows end, and Arrow reads
one block at a time.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

_ENDS = re.compile(rb"\r\n|\r|\n")


class Row(NamedTuple):
    """One row of a block."""

    start: int
    end: int
    """Where it ends, its line end included."""
    line: int
    """The line of the block, counted from 0, on which it begins."""
    cells: list[bytes]
    """Its cells in the form in which Arrow reads them, quotes included."""
    torn: bool
    """Whether a cell in quotes ends on another line, and not at a delimiter: nobody knows where it should."""
    is_open: bool
    """Whether a quotation mark is opened and not closed."""

    @property
    def is_blank(self) -> bool:
        """Whether nothing stands on the line, which is then no row."""
        return self.cells == [b""]


@cache
def _patterns(delimiter: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    mark = re.escape(delimiter)
    stop = rb"(?=" + mark + rb"|\r|\n|\Z)"
    plain = re.compile(rb"[^\r\n" + mark + rb"]*+")
    quoted = re.compile(rb'"(?:[^"]|"")*+"' + stop)
    escaped = re.compile(rb'"(?:[^"\\]|\\.|"")*+"' + stop, re.DOTALL)
    return plain, quoted, escaped


def is_simple(block: bytes, delimiter: bytes) -> bool:
    """Whether every quotation mark opens a cell, closes one, or is doubled in one: what Arrow reads right."""
    return b'"' not in block or _are_simple(block, _find_quotes(block), delimiter)


def _find_quotes(block: bytes) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord('"'))


def _are_simple(block: bytes, quotes: npt.NDArray[np.int64], delimiter: bytes) -> bool:
    import numpy as np

    if len(quotes) % 2:
        return False
    data = np.frombuffer(block, dtype=np.uint8)
    opening, closing = quotes[::2], quotes[1::2]
    around = np.zeros(256, dtype=bool)
    around[[ord(delimiter), 10, 13]] = True
    before = np.where(opening > 0, data[opening - 1], 10)
    behind = np.where(closing + 1 < len(data), data[np.minimum(closing + 1, len(data) - 1)], 10)
    # A doubled one closes and opens again at once.
    again = np.zeros(len(opening), dtype=bool)
    again[1:] = opening[1:] == closing[:-1] + 1
    follows = np.zeros(len(closing), dtype=bool)
    follows[:-1] = again[1:]
    return bool((around[before] | again).all() and (around[behind] | follows).all())


def find_end(block: bytes, delimiter: bytes, *, last: bool) -> tuple[int, bool]:
    """Return where the last whole row ends, 0 if there is none, and whether the block is simple so far."""
    if last:
        return len(block), is_simple(block, delimiter)
    if b'"' not in block:
        end = max(block.rfind(b"\n") + 1, block.rfind(b"\r", 0, -1) + 1 if b"\n" not in block else 0)
        return end, True
    end = _find_simple_end(block, delimiter)
    if end:
        return end, True
    for row in split_rows(block, delimiter):
        # The last one may go on in the next block, and so may a lone carriage return.
        if row.end < len(block):
            end = row.end
    return end, is_simple(block[:end], delimiter)


def _find_simple_end(block: bytes, delimiter: bytes) -> int:
    """Return the last line end with an even number of quotation marks before it, if all are simple there."""
    quotes, end = _find_quotes(block), len(block)
    for _ in range(100):
        end = block.rfind(b"\n", 0, end)
        if end < 0:
            return 0
        before = quotes[: quotes.searchsorted(end)]
        if len(before) % 2 == 0:
            return end + 1 if _are_simple(block[: end + 1], before, delimiter) else 0
    return 0


def split_rows(block: bytes, delimiter: bytes) -> Iterator[Row]:
    """Yield the rows of a block that begins with one."""
    plain, quoted, escaped = _patterns(delimiter)
    at, line = 0, 0
    while at < len(block):
        start, cells, torn, is_open = at, list[bytes](), False, False
        while True:
            if block[at : at + 1] == b'"':
                end, content, ended_well = _read_quoted(block, at, plain, quoted, escaped)
                is_open = ended_well is None
                torn = torn or not ended_well
            else:
                match = plain.match(block, at)
                end = match.end() if match else at
                content = block[at:end]
            cells.append(content)
            at = end
            if block[at : at + 1] != delimiter:
                break
            at += 1
        ending = _ENDS.match(block, at)
        at = ending.end() if ending else at
        yield Row(start, at, line, cells, torn, is_open)
        line += count_lines(block[start:at])


def _read_quoted(
    block: bytes,
    at: int,
    plain: re.Pattern[bytes],
    quoted: re.Pattern[bytes],
    escaped: re.Pattern[bytes],
) -> tuple[int, bytes, bool | None]:
    """Return where a cell ends that begins with a quotation mark, what it is, and whether it ends well.

    None stands for one that does not end at all.
    """
    if match := quoted.match(block, at):
        return match.end(), match.group(), True
    # Some programs write a backslash before a quotation mark, and do not double it.
    if match := escaped.match(block, at):
        content = re.sub(rb'\\"', b'""', match.group()[1:-1])
        return match.end(), b'"' + content + b'"', True
    closed = re.compile(rb'"(?:[^"]|"")*+"').match(block, at)
    if closed is None:
        return len(block), block[at:], None
    rest = plain.match(block, closed.end())
    end = rest.end() if rest else closed.end()
    return end, block[at:end], not count_lines(closed.group())


def count_lines(content: bytes) -> int:
    """Return how many line ends there are, of whatever kind."""
    feeds = content.count(b"\n")
    return feeds + content.count(b"\r") - content.count(b"\r\n") if b"\r" in content else feeds
