"""A place for rows while they are read: in memory while they are few, else in a mapped temporary file."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._files import open_part
from ..errors import FileAccessError

if TYPE_CHECKING:
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
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._part is not None:
            self._part.close()
        if self._path is not None:
            _delete(self._path)

    def write(self, table: pa.Table) -> None:
        """Add rows.

        Raises:
            FileAccessError: The temporary folder is full or cannot be written.
        """
        import pyarrow as pa

        self._bytes += table.nbytes
        self._kept.append(table)
        if self._bytes <= self._limit:
            return
        try:
            if self._writer is None:
                self._part, self._path = open_part(Path(tempfile.gettempdir()), "rows")
                self._writer = pa.ipc.new_file(str(self._path), self._schema)
            for kept in self._kept:
                self._writer.write_table(kept)
        except OSError as error:
            raise _disk_error(error) from error
        self._kept = []

    def table(self) -> pa.Table:
        """Return all rows; nothing can be added afterwards.

        Raises:
            FileAccessError: The temporary folder is full.
        """
        import pyarrow as pa

        if self._writer is None or self._path is None:
            return pa.concat_tables([self._schema.empty_table(), *self._kept])
        try:
            self._writer.close()
        except OSError as error:
            raise _disk_error(error) from error
        self._writer = None
        return pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()


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
