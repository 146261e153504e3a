"""JSONL files, and JSON files that hold an array of objects, as batches of rows."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRows, RowProblem
from .. import decompression
from ..cells import mixed_column, write_cell
from ..item import is_unicode
from ..tables import BATCH, STANDS_FOR
from .quotes import count_lines
from .utf8 import Utf8File, tell_bytes

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ..ingest import Source

_OTHERS = 100  # columns that are not read, but named in messages
_BLOCK = 1 << 20  # bytes that are read at a time
# Whole numbers so long that orjson makes floats of them.
_LONG = 2.0**63
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_NUMBERS = {"price", "weight", STANDS_FOR}
_PLAIN = {str, int, float, type(None)}
_NOT_JSON = object()  # what stands for Infinity


def read_jsonl(
    path: Path, source: Source, *, encoding: str | None, fields: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Yield the rows of a file with an object on each line, in batches.

    Args:
        path: The file. If it holds an array, it is read as `read_json` does.
        source: Whose `unreadable`, `names` and `how` are filled.
        encoding: What was said that it is in.
        fields: The columns that matter, with the field of an item that each becomes.
    """
    with Utf8File(path, encoding) as raw, io.BufferedReader(raw, _BLOCK) as file:
        rows = _Rows(source, fields, raw)
        source.find_lines = rows.find_lines
        if file.peek(1).lstrip()[:1] == b"[":
            yield from _read_values(file, rows, source)
        else:
            yield from _read_lines(file, rows)
        if raw.said:
            source.how.append(f"encoding {raw.said}")


def read_json(
    path: Path, source: Source, *, encoding: str | None, fields: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Yield the rows of a file with an array of objects, or with one object behind the other, in batches."""
    with Utf8File(path, encoding) as raw, io.BufferedReader(raw, _BLOCK) as file:
        rows = _Rows(source, fields, raw)
        source.find_lines = rows.find_lines
        yield from _read_values(file, rows, source)
        if raw.said:
            source.how.append(f"encoding {raw.said}")


class _Rows:
    """Gathers objects in columns, and tells which cannot be rows."""

    def __init__(self, source: Source, fields: Mapping[str, str], file: Utf8File) -> None:
        self._source = source
        self._fields = fields
        self._file = file
        self._columns: dict[str, list[Any]] = {name: [] for name in fields}
        self._lines: list[int] = []
        self._parts: list[
            tuple[pa.Table, Sequence[int]]
        ] = []  # rows that stand before those, and their lines
        self._count, self._size = 0, 0
        self._batch: list[int] = []  # the lines of the latest batch
        self.number = 0
        """How many rows were seen."""
        source.names = {}

    def find_lines(self, rows: list[int]) -> list[int]:
        """Return the lines on which rows of the latest batch begin; rows and lines are counted from 1."""
        return [self._batch[row - 1] for row in rows]

    def refuse(self, line: int, reason: str, content: bytes = b"") -> None:
        """Count a row that is no object."""
        self.number += 1
        shown = repr(content[:200].decode(errors="replace").strip())[:60]
        self._tell("line", shown, reason, line)

    def add(self, row: Any, line: int, size: int, content: bytes = b"") -> None:
        """Count a row, and keep what matters of it."""
        if not isinstance(row, dict):
            self.refuse(line, "is not an object", content)
            return
        self.number += 1
        self._note_names(row)
        kept = dict.fromkeys(self._fields)
        # In the order of the fields: of several bad cells the same one is told each time.
        for name in filter(row.__contains__, self._fields):
            try:
                kept[name] = self._read(name, row[name])
            except ValueError as error:
                self._tell(name, _show(row[name]), str(error), line)
                return
        for name, column in self._columns.items():
            column.append(kept[name])
        self._lines.append(line)
        self._count += 1
        self._size += size

    def add_many(self, rows: list[Any], lines: Sequence[int], size: int) -> bool:
        """Count rows all at once; False where one must be looked at by itself, and none was counted."""
        import pyarrow as pa

        if set(map(type, rows)) != {dict}:
            return False
        names, columns = _split_columns(rows, self._fields)
        arrays = {}
        for name, field in self._fields.items():
            is_number = field in _NUMBERS
            if name not in columns:
                arrays[name] = pa.nulls(len(rows), pa.float64() if is_number else pa.string())
                continue
            arrays[name] = (_read_numbers if is_number else _read_texts)(columns[name])
            if arrays[name] is None:
                return False
        self._end_part()
        self._add_part(arrays, lines)
        self._note_names(names)
        self.number += len(rows)
        self._count += len(rows)
        self._size += size
        return True

    def _read(self, name: str, value: Any) -> Any:
        if value is _NOT_JSON:
            raise ValueError("is not a finite number")
        if isinstance(value, str) and not is_unicode(value):
            raise ValueError(_tell_half(value, self._file))
        is_plain = self._fields[name] in _NUMBERS and not isinstance(value, list | dict)
        return value if is_plain else write_cell(value)

    def _tell(self, field: str, shown: str, reason: str, line: int) -> None:
        self._source.unreadable.append(
            RowProblem(row=self.number, field=field, value=shown, reason=reason, line=line)
        )

    def _note_names(self, row: Iterable[str]) -> None:
        # A stranger's rows may have a name of their own each.
        names = self._source.names
        if names is None:
            return
        for name in row:
            if name in self._fields or len(names) < _OTHERS:
                names.setdefault(name)

    @property
    def is_full(self) -> bool:
        """Whether there are as many as a batch has."""
        return self._count >= BATCH or self._size >= decompression.BATCH_BYTES

    def take(self) -> Iterator[pa.Table]:
        """Yield what was gathered in one batch, or in several where prices of one kind follow another kind.

        The columns that matter are all there.
        """
        import pyarrow as pa

        if self._lines or not self._parts:
            self._end_part()
        parts, self._parts, self._count, self._size = self._parts, [], 0, 0
        for _, same in groupby(parts, key=lambda part: part[0].schema):
            tables, lines = zip(*same, strict=True)
            self._batch = list(chain.from_iterable(lines))
            yield pa.concat_tables(tables)

    def _end_part(self) -> None:
        arrays = {
            name: mixed_column(values) if self._fields[name] in _NUMBERS else _text_column(values)
            for name, values in self._columns.items()
        }
        self._add_part(arrays, self._lines)
        self._lines = []
        self._columns = {name: [] for name in self._fields}

    def _add_part(self, arrays: Mapping[str, pa.Array], lines: Sequence[int]) -> None:
        import pyarrow as pa

        self._parts.append((pa.table(arrays), lines))


def _split_columns(
    rows: list[dict[str, Any]], wanted: Container[str]
) -> tuple[Iterable[str], dict[str, list[Any]]]:
    """Return the names that rows have, and the columns that are wanted."""
    first = rows[0]
    if set(map(len, rows)) == {len(first)} and all(name in wanted for name in first):
        with suppress(KeyError):  # rows of as many names may have others
            return first, {name: [row[name] for row in rows] for name in first}
    names = dict.fromkeys(chain.from_iterable(rows))
    return names, {name: [row.get(name) for row in rows] for name in names if name in wanted}


def _read_numbers(values: list[Any]) -> pa.Array | None:
    """Return a column of a price or a number; None where a cell must be looked at by itself."""
    return mixed_column(values) if set(map(type, values)) <= _PLAIN else None


def _read_texts(values: list[Any]) -> pa.Array | None:
    """Return a column of texts; None where a cell must be looked at by itself."""
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    # A whole number of more than 64 bits has become a float.
    if not set(map(type, values)) <= _PLAIN or any(map(_is_long, values)):
        return None
    return _text_column(values)


def _is_long(value: Any) -> bool:
    return isinstance(value, float) and abs(value) >= _LONG


def _text_column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([write_cell(value) for value in values], pa.string())


def _show(value: Any) -> str:
    if value is _NOT_JSON:
        return "Infinity"
    shown = repr(value)
    return shown[:60].encode(errors="replace").decode()


def _tell_half(value: str, file: Utf8File) -> str:
    try:
        content = value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    return tell_bytes(content, file)[1]


def _read_lines(file: io.BufferedReader[Any], rows: _Rows) -> Iterator[pa.Table]:
    line = 1
    for block in decompression.read_line_blocks(file):
        if block is None:
            rows.refuse(line, f"is longer than {decompression.LONGEST_LINE:,} bytes")
            line += 1
            continue
        _add_block(block, line, rows)
        line += block.count(b"\n") + 1
        if rows.is_full:
            yield from rows.take()
    yield from rows.take()


def _add_block(block: bytes, first: int, rows: _Rows) -> None:
    """Add lines of a file, of which the first has this number."""
    import orjson

    count = block.count(b"\n") + 1
    # Together they are parsed in half the time. A text cannot go over a line's end, so where a brace ends and
    # one begins at each of them, and as many objects are there as lines, each line is an object.
    if _has_braces_at_ends(block):
        try:
            found = orjson.loads(b"[" + block.replace(b"\n", b",") + b"]")
        except orjson.JSONDecodeError:
            found = []
        lines = range(first, first + count)
        if len(found) == count <= len(block) <= decompression.LONGEST_LINE and rows.add_many(
            found, lines, len(block)
        ):
            return
    for number, line in enumerate(block.split(b"\n"), start=first):
        if len(line) > decompression.LONGEST_LINE:
            rows.refuse(number, f"is longer than {decompression.LONGEST_LINE:,} bytes")
        elif content := line.strip():
            _add_line(content, number, rows)


def _has_braces_at_ends(block: bytes) -> bool:
    """Whether each line begins and ends with a brace, as an object does."""
    import numpy as np

    if not (block[:1] == b"{" and block[-1:] == b"}"):
        return False
    data = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    return bool((data[ends - 1] == ord("}")).all() and (data[ends + 1] == ord("{")).all())


def _add_line(content: bytes, number: int, rows: _Rows) -> None:
    import orjson

    row = None
    if not _LONG_NUMBER.search(content):
        try:
            row = orjson.loads(content)
        except orjson.JSONDecodeError:
            row = None
    if row is None:
        try:
            # Bytes that are not UTF-8 may stand where they do not matter; digits are kept, however many.
            row = _DECODER.decode(content.decode(errors="surrogateescape"))
        except (ValueError, RecursionError) as error:
            rows.refuse(number, f"is not JSON ({_reason_of(error)})", content)
            return
    rows.add(row, number, len(content), content)


def _reason_of(error: Exception) -> str:
    return getattr(error, "msg", None) or str(error).partition(";")[0]


# Python writes NaN where there is no number.
_DECODER = json.JSONDecoder(parse_constant=lambda word: None if word == "NaN" else _NOT_JSON)
_SPACE = re.compile(r"[ \t\r\n]*")


def _read_values(file: io.BufferedReader[Any], rows: _Rows, source: Source) -> Iterator[pa.Table]:
    """Yield the objects of an array, or objects that stand one behind the other."""
    text = _Text(file, source.name)
    in_array = text.skip("[")
    while True:
        if in_array and text.skip("]"):
            if text.peek():
                raise text.error("something stands behind the array's end")
            break
        if not text.peek():
            if in_array:
                raise text.error("the array is not closed: the file may be cut off")
            break
        line, before = text.line, text.read
        value = text.read_value()
        rows.add(value, line, text.read - before)
        if not text.skip(",") and in_array and text.peek() not in {"]", ""}:
            raise text.error("a comma or ']' is missing between two objects")
        if rows.is_full:
            yield from rows.take()
    if not rows.number and not in_array:
        raise InvalidRows(f"{source.name} is empty")
    yield from rows.take()


class _Text:
    """A JSON text that is read piece by piece."""

    def __init__(self, file: io.BufferedReader[Any], name: str) -> None:
        self._file = file
        self._name = name
        self._text = ""
        self._at = 0
        self._ended = False
        self._rest = b""
        self.line = 1
        """The line of what comes next."""
        self.read = 0
        """How many characters were read."""

    def peek(self) -> str:
        """Return the next character that is no space; nothing at the end."""
        while True:
            self._move(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._load():
                return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> bool:
        """Go behind a character, if it comes next."""
        if self.peek() != character:
            return False
        self._move(self._at + 1)
        return True

    def read_value(self) -> Any:
        """Return the next value."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._is_cut(error) or not self._load():
                    self._move(getattr(error, "pos", self._at))
                    raise self.error(f"it is not JSON ({_reason_of(error)})") from None
                continue
            if end == len(self._text) and self._load():
                continue  # a number may go on
            self._move(end)
            return value

    def error(self, reason: str) -> InvalidRows:
        """Return the error for what comes next."""
        return InvalidRows(f"cannot read {self._name}: on line {self.line:,} {reason}")

    def _is_cut(self, error: Exception) -> bool:
        """Whether more of the text may mend it: the error is at its end, or in a string up to there."""
        position = getattr(error, "pos", None)
        if position is None:
            return False
        return position >= len(self._text) - 10 or getattr(error, "msg", "").startswith("Unterminated string")

    def _move(self, to: int) -> None:
        self.line += count_lines(self._text[self._at : to].encode(errors="replace"))
        self.read += to - self._at
        self._at = to

    def _load(self) -> bool:
        """Read as much again as there is; False at the end."""
        left = len(self._text) - self._at
        if self._ended:
            return False
        if left > decompression.LONGEST_LINE:
            raise self.error(f"an object is longer than {decompression.LONGEST_LINE:,} bytes")
        piece = self._file.read(max(_BLOCK, left))
        self._ended = not piece
        whole = self._rest + piece
        cut = 0 if self._ended else _count_cut(whole)
        self._rest = whole[len(whole) - cut :]
        self._text = self._text[self._at :] + whole[: len(whole) - cut].decode(errors="surrogateescape")
        self._at = 0
        return bool(piece)


def _count_cut(content: bytes) -> int:
    """Return how many bytes at the end are the beginning of a character that goes on."""
    for back in range(1, min(4, len(content)) + 1):
        byte = content[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < needed else 0
        if byte < 0x80:
            return 0
    return 0
