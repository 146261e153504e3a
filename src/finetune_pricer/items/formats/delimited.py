"""CSV and TSV files as batches of rows: a block of whole rows at a time, of the columns that matter."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRows, RowProblem
from .dialect import Head, has_columns, read_head
from .quotes import Row, count_lines, find_end, split_rows
from .utf8 import Utf8File, is_utf8, tell_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from ..ingest import Source

BLOCK = 1 << 20
"""Bytes of a CSV that are parsed together, and that a row may have."""


def read_delimited(
    path: Path,
    source: Source,
    *,
    usual: str,
    delimiter: str | None,
    encoding: str | None,
    columns: Mapping[str, str],
    wanted: set[str],
    priced: bool,
) -> Iterator[pa.Table]:
    """Yield the rows in batches of about a MiB, the first one empty, with the names of all columns."""
    import pyarrow as pa

    with Utf8File(path, encoding) as raw, io.BufferedReader(raw, BLOCK) as file:
        blocks = _Blocks(file, repr(path.name))
        first = blocks.read_first()
        head = read_head(
            first, name=source.name, delimiter=delimiter, usual=usual, columns=columns, priced=priced
        )
        if not is_utf8(first[: head.end]) and not has_columns(head.names, columns, priced=priced):
            raise InvalidRows(f"the head of {source.name} {tell_bytes(first[: head.end], raw)[1]}")
        if head.delimiter != usual:
            source.how.append(f"delimiter {head.delimiter!r}")
        yield pa.table([pa.nulls(0, pa.string())] * len(head.names), names=head.names)
        rows = _Rows(source, head, wanted, raw)
        source.find_lines = rows.find_lines
        for block in blocks.split(head):
            yield rows.parse(block, blocks.line, is_simple=blocks.is_simple)
        if raw.said:
            source.how.append(f"encoding {raw.said}")


class _Blocks:
    """A file in blocks that end where rows end."""

    def __init__(self, file: io.BufferedReader[Any], name: str) -> None:
        self._file = file
        self._name = name
        self._rest = b""
        self.line = 0
        """Lines of the file before the latest block."""
        self.is_simple = False
        """Whether Arrow reads the latest block right as it is."""

    def read_first(self) -> bytes:
        """Return the first block, which is not used up by that."""
        self._rest = self._file.read(BLOCK)
        return self._rest

    def split(self, head: Head) -> Iterator[bytes]:
        """Yield what stands behind the head."""
        mark = head.delimiter.encode()
        self._rest = self._rest[head.end :]
        self.line = head.lines
        last = False
        while self._rest or not last:
            end, self.is_simple = find_end(self._rest, mark, last=last)
            if end:
                block, self._rest = self._rest[:end], self._rest[end:]
                yield block
                self.line += count_lines(block)
            elif len(self._rest) >= BLOCK:
                self._refuse_long_row(mark)
            if not last:
                more = self._file.read(BLOCK)
                last = not more
                self._rest += more

    def _refuse_long_row(self, mark: bytes) -> None:
        row = next(split_rows(self._rest, mark))
        line = self.line + 1
        raise InvalidRows(
            f"cannot read {self._name}: the row on line {line:,} is longer than {BLOCK:,} bytes"
            + (", or a quote is opened and not closed there" if row.torn else "")
        )


class _Rows:
    """Parses blocks, and tells which rows cannot be read."""

    def __init__(self, source: Source, head: Head, wanted: set[str], file: Utf8File) -> None:
        self._source = source
        self._head = head
        self._mark = head.delimiter.encode()
        self._kept = [at for at, name in enumerate(head.names) if name in wanted]
        self._file = file
        self._seen = 0
        self._block, self._line = b"", 0
        self._told: dict[int, RowProblem] = {}  # by row of the latest block, counted from 0

    def parse(self, block: bytes, line: int, *, is_simple: bool) -> pa.Table:
        """Return the rows of a block, which begins behind so many lines of the file."""
        self._block, self._line, self._told = block, line, {}
        # Arrow's words on a row of too many cells are text: it cannot tell of one that is not UTF-8.
        content = block if is_simple and is_utf8(block) else self._mend(block)
        table = self._decode(self._split(content))
        if self._told:
            lines = self._lines_of(self._told)
            for number, problem in sorted(self._told.items()):
                self._source.unreadable.append(replace(problem, line=lines[number]))
        self._seen += table.num_rows + len(self._told)
        return table

    def find_lines(self, rows: list[int]) -> list[int]:
        """Return the lines on which rows of the latest batch begin; rows and lines are counted from 1."""
        places = self._places(max(rows))
        lines = self._lines_of({places[row - 1] for row in rows})
        return [lines[places[row - 1]] for row in rows]

    def _places(self, rows: int) -> list[int]:
        """Return where in the block the first rows stand that were not told of."""
        return [place for place in range(rows + len(self._told)) if place not in self._told]

    def _lines_of(self, places: Collection[int]) -> dict[int, int]:
        rows = islice(enumerate(self._rows_of(self._block)), max(places) + 1)  # to split rows takes long
        return {place: self._line + row.line + 1 for place, row in rows if place in places}

    def _rows_of(self, block: bytes) -> Iterator[Row]:
        return (row for row in split_rows(block, self._mark) if not row.is_blank)

    def _mend(self, block: bytes) -> bytes:
        """Return a block as Arrow reads it right; rows whose end nobody knows are told, and made empty."""
        contents = []
        for place, row in enumerate(self._rows_of(block)):
            content = self._mark.join(row.cells)
            is_ragged = len(row.cells) != len(self._head.names) and not is_utf8(content)
            if row.torn:
                self._tell_torn(place, row)
            elif is_ragged:
                self._tell_ragged(place, content.decode(errors="replace"), len(row.cells))
            contents.append(self._empty_row() if row.torn or is_ragged else content)
        return b"\n".join(contents) + b"\n"

    def _tell_torn(self, place: int, row: Row) -> None:
        content = self._mark.join(row.cells).strip()
        lines = count_lines(content) + 1
        reason = "a quote is opened and not closed"
        if row.is_open and lines > 1:
            raise InvalidRows(
                f"in {self._source.name} {reason}: one cell holds {lines:,} lines to the file's end, from "
                f"line {self._line + row.line + 1:,} on"
            )
        over = f", over {lines:,} lines" if lines > 1 else ""
        self._tell(place, "row", content.decode(errors="replace"), reason + over)

    def _tell_ragged(self, place: int, text: str, cells: int) -> None:
        lines = text.strip().count("\n") + 1
        over = f", over {lines:,} lines" if lines > 1 else ""
        expected = len(self._head.names)
        self._tell(place, "row", text, f"has {cells} cells where the head has {expected}{over}")

    def _empty_row(self) -> bytes:
        return self._mark * (len(self._head.names) - 1) or b'""'

    def _split(self, content: bytes) -> pa.Table:
        import pyarrow as pa

        torn = set(self._told)
        table = self._call_arrow(content)
        if torn:
            others = self._told.keys() - torn
            places = (place for place in range(table.num_rows + len(others)) if place not in others)
            table = table.filter(pa.array([place not in torn for place in places], pa.bool_()))
        return table.rename_columns([self._head.names[at] for at in self._kept])

    def _call_arrow(self, content: bytes) -> pa.Table:
        import pyarrow as pa
        import pyarrow.csv

        def on_bad_row(row: Any) -> str:
            self._tell_ragged(row.number - 1, row.text, row.actual_columns)
            return "skip"

        names = [str(at) for at in range(len(self._head.names))]
        kept = [names[at] for at in self._kept]
        return pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # Without threads, as only then an unreadable row knows its number.
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(content) + 1, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._head.delimiter, newlines_in_values=True, invalid_row_handler=on_bad_row
            ),
            # Cells are text: a column of prices such as "$12" and "12" must not change its type halfway. They
            # come as bytes, for one that is not UTF-8 must not refuse the others.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(kept, pa.binary()),
                include_columns=kept,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )

    def _decode(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        texts = pa.schema([(name, pa.string()) for name in table.column_names])
        try:
            return table.cast(texts)
        except pa.ArrowInvalid:
            pass
        places = self._places(table.num_rows)
        bad = set[int]()
        for name, column in zip(table.column_names, table.columns, strict=True):
            for at, cell in enumerate(column.to_pylist()):
                if cell is not None and at not in bad and not is_utf8(cell):
                    bad.add(at)
                    self._tell(places[at], name, *tell_bytes(cell, self._file))
        return table.filter(pa.array([at not in bad for at in range(table.num_rows)], pa.bool_())).cast(texts)

    def _tell(self, place: int, field: str, text: str, reason: str) -> None:
        """Note a row of the latest block that cannot be read; its line is found once for all of a block."""
        self._told[place] = RowProblem(
            row=self._seen + place + 1, field=field, value=repr(text)[:60], reason=reason
        )
