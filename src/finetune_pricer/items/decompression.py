"""What packed files hold, up to a limit.

A small file of a stranger may unpack to more than the disk or the memory holds. So there is a limit to what a
file may unpack to, to a line, and to the bytes of a batch of rows.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import IO, TYPE_CHECKING, Any

from .._files import open_part
from ..errors import FileAccessError, InvalidRows, NotConfigured
from .tables import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

LIMIT_VARIABLE = "FINETUNE_PRICER_UNPACKED_BYTES"
"""The environment variable that says how many bytes a file may unpack to."""
LONGEST_LINE = 16 * 2**20
"""Bytes that a line may have."""
BATCH_BYTES = 16 * 2**20
"""Bytes after which a batch of rows ends."""
_RATIO = 100  # how many times its size a file may unpack to; text does so 3 to 20 times
_ALWAYS = 256 * 2**20  # bytes that any file may unpack to
_COPIED = 2**20  # bytes that are copied at a time
_WITH_LINES = {".csv", ".tsv", ".jsonl", ".ndjson"}


def find_limit(packed: int) -> int:
    """Return how many bytes something of so many packed bytes may unpack to.

    Raises:
        NotConfigured: The variable that says so holds no number.
    """
    chosen = os.environ.get(LIMIT_VARIABLE)
    if not chosen:
        return max(_ALWAYS, _RATIO * packed)
    if not chosen.isdecimal():
        raise NotConfigured(f"{LIMIT_VARIABLE} is a number of bytes, not {chosen[:40]!r}")
    return int(chosen[:20])


class UnpackedFile(io.RawIOBase):
    """A file's content, unpacked if its name ends with `.gz`, up to the limit.

    Raises:
        InvalidRows: While it is read: there is more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limit = find_limit(path.stat().st_size) if path.suffix.lower() == ".gz" else None
        self._size = 0
        self._opened = path.open("rb")
        self._file: Any = self._opened if self._limit is None else gzip.GzipFile(fileobj=self._opened)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return how many bytes."""
        count: int = self._file.readinto(buffer)
        self._size += count
        if self._limit is not None and self._size > self._limit:
            raise too_large(repr(self._path.name), self._limit)
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
            self._opened.close()  # gzip leaves open what it was handed
        super().close()


@contextmanager
def unpack_whole(path: Path, begin: bytes, kind: str) -> Iterator[Path]:
    """Unpack a gzipped file that is not read from start to end into the temporary folder, while it is needed.

    Args:
        path: The file.
        begin: The bytes with which what it holds begins.
        kind: What that is.

    Raises:
        InvalidRows: It holds something else, or more than it may.
    """
    target, unpacked = open_part(Path(tempfile.gettempdir()), path.stem)
    try:
        with target:
            with UnpackedFile(path) as raw, io.BufferedReader(raw) as file:
                if not file.peek(len(begin)).startswith(begin):
                    raise InvalidRows(f"what {path.name!r} holds is no {kind}")
                copyfileobj(file, target, _COPIED)
            target.flush()
            yield unpacked
    finally:
        unpacked.unlink(missing_ok=True)


def read_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines, and None for one that is longer than lines may be, of which no more than that is held."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)
        yield None


def read_line_blocks(file: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines in blocks of a MiB, without the last line's end, and None for a line that is too long."""
    rest, is_long = b"", False
    while piece := file.read(_COPIED):
        if is_long:
            # The rest of this line is not kept.
            end = piece.find(b"\n")
            if end < 0:
                continue
            yield None
            piece, is_long = piece[end + 1 :], False
        cut = piece.rfind(b"\n")
        if cut >= 0:
            yield rest + piece[:cut]
            rest = piece[cut + 1 :]
        else:
            rest += piece
        if len(rest) > LONGEST_LINE:
            rest, is_long = b"", True
    if rest or is_long:
        yield None if is_long else rest


def check_packed_files(folder: Path) -> None:
    """Make sure that no gzipped file below a folder unpacks to more than it may, nor has too long a line.

    Raises:
        InvalidRows: One does, or cannot be unpacked.
        FileAccessError: One cannot be read.
    """
    for path in sorted(folder.rglob("*.gz")):
        has_lines = Path(path.stem).suffix.lower() in _WITH_LINES
        try:
            with UnpackedFile(path) as raw, io.BufferedReader(raw) as file:
                for line in read_lines(file):
                    if line is None and has_lines:
                        raise InvalidRows(f"{str(path)!r} has a line of more than {LONGEST_LINE:,} bytes")
        except (EOFError, gzip.BadGzipFile, gzip.zlib.error) as error:  # type: ignore[attr-defined]
            raise InvalidRows(f"cannot unpack {str(path)!r}: {error}") from error
        except OSError as error:
            raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def limit_rows(batches: Iterable[pa.Table], limit: int | None, name: str) -> Iterator[pa.Table]:
    """Yield the same rows in batches that are neither very small nor very large, up to the limit in bytes.

    Raises:
        InvalidRows: There are more.
    """
    import pyarrow as pa

    waiting, rows, size, total = list[pa.Table](), 0, 0, 0
    for batch in batches:
        if waiting and waiting[0].schema != batch.schema:  # rows of a JSONL have columns of their own
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size, total = rows + batch.num_rows, size + batch.nbytes, total + batch.nbytes
        if limit is not None and total > limit:
            raise too_large(name, limit)
        if rows >= BATCH or size >= BATCH_BYTES:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


def too_large(name: str, limit: int) -> InvalidRows:
    """Return the error for what unpacks to more than it may."""
    return InvalidRows(
        f"{name} unpacks to more than {limit:,} bytes; if you trust it, set {LIMIT_VARIABLE} to a larger "
        "number"
    )
