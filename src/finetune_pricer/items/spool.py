"""A place for rows while they are read: in memory while they are few, else in a mapped temporary file."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._files import open_part
from ..errors import FileAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import pyarrow as pa

IN_MEMORY = 16 * 2**20
"""Bytes of rows that stay in memory; beyond that, all rows go to a file of the system's temporary folder."""


class Spool:
    """Collects tables of one schema into one table, whose memory does not grow with the number of rows.

    Once the table is made, the temporary file has lost its name (where the system allows that), so nothing
    is left behind. What a process left that was killed before is swept by the next spool.
    """

    def __init__(self, schema: pa.Schema, *, in_memory: int = IN_MEMORY) -> None:
        self._schema = schema
        self._limit = in_memory
        self._kept: list[pa.Table] = []
        self._bytes = 0
        self._path: Path | None = None
        self._part: IO[bytes] | None = None  # open as long as the file has a name, which marks it as in use
        self._file: pa.NativeFile | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._written: list[str] = []  # the columns that the writer writes

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = self._writer = None
        if self._part is not None:
            self._part.close()
        if self._path is not None:
            _delete(self._path)

    def write(self, table: pa.Table) -> None:
        """Add rows.

        Raises:
            FileAccessError: The temporary folder is full or cannot be written.
        """
        self._bytes += table.nbytes
        self._kept.append(table)
        if self._bytes <= self._limit:
            return
        try:
            if self._file is None:
                self._open_file()
            self._open_stream()
            for kept in self._kept:
                self._writer.write_table(kept.select(self._written))  # type: ignore[union-attr]
        except OSError as error:
            raise _disk_error(error) from error
        self._kept = []

    def table(self) -> pa.Table:
        """Return all rows; nothing can be added afterwards.

        Raises:
            FileAccessError: The temporary folder is full.
        """
        import pyarrow as pa

        if self._writer is None or self._file is None:
            return pa.concat_tables([self._schema.empty_table(), *self._kept])
        try:
            self._writer.close()
            self._file.close()
        except OSError as error:
            raise _disk_error(error) from error
        self._file = self._writer = None
        return pa.concat_tables(self._read_streams())

    def _open_file(self) -> None:
        import pyarrow as pa

        self._part, self._path = open_part(Path(tempfile.gettempdir()), "rows")
        self._file = pa.OSFile(str(self._path), "wb")

    def _open_stream(self) -> None:
        """Begin another stream of rows in the file, if a column has its first value now.

        Most tables have columns without any, which need not be written.
        """
        import pyarrow as pa

        filled = [
            name
            for name in self._schema.names
            if name in self._written or any(_has_values(kept[name]) for kept in self._kept)
        ]
        if self._writer is not None:
            if filled == self._written:
                return
            self._writer.close()
        self._written = filled or self._schema.names
        schema = pa.schema([self._schema.field(name) for name in self._written])
        self._writer = pa.ipc.new_stream(self._file, schema)

    def _read_streams(self) -> Iterator[pa.Table]:
        import pyarrow as pa

        with pa.memory_map(str(self._path)) as file:
            while file.tell() < file.size():
                part = pa.ipc.open_stream(file).read_all()
                lengths = [len(chunk) for chunk in part.column(0).chunks]
                yield pa.table(
                    [
                        part[field.name]
                        if field.name in part.column_names
                        else _empty_column(field.type, lengths)
                        for field in self._schema
                    ],
                    schema=self._schema,
                )


def _has_values(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count < len(column))


def _empty_column(kind: pa.DataType, lengths: Sequence[int]) -> pa.ChunkedArray:
    """Return a column without values, whose chunks share their memory."""
    import pyarrow as pa

    longest = pa.nulls(max(lengths, default=0), kind)
    return pa.chunked_array([longest.slice(0, length) for length in lengths], kind)


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Windows does not delete a file that is mapped; when the process ends, it no longer is.
        atexit.register(lambda: path.unlink(missing_ok=True))


def _disk_error(error: OSError) -> FileAccessError:
    return FileAccessError(
        f"cannot write rows to the temporary folder {tempfile.gettempdir()!r}: {error.strerror or error}; "
        "make room there, or set TMPDIR to another folder"
    )
