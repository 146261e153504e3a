"""What a machine can run out of, told from other errors: room on the disk, open files, processes."""

from __future__ import annotations

import errno
import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DISK = "no space left on the server's disk"
_FILES = "the server has too many open files"
_PROCESSES = "the machine has no room for another process"
_WORDS = {
    errno.ENOSPC: _DISK,
    getattr(errno, "EDQUOT", errno.ENOSPC): _DISK,
    errno.EFBIG: _DISK,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: _PROCESSES,
    errno.ENOMEM: _PROCESSES,
}
# SQLite names the primary kind in the lower byte of its codes.
_DATABASE_WORDS = {
    sqlite3.SQLITE_FULL: _DISK,
    sqlite3.SQLITE_IOERR: "the server's disk cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "the server's database cannot be opened",
}
_PATIENCE = 600.0  # seconds


class Shortage(Exception):
    """Something ran out in another process; the text says what."""


def describe_shortage(error: BaseException) -> str | None:
    """Return what the machine had too little of, or None where an error has another cause.

    What fails for want of something may be tried again: the fault is not in the work.
    """
    if isinstance(error, Shortage):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return _DATABASE_WORDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if isinstance(error, OSError) and error.errno is not None:
        return _WORDS.get(error.errno)
    return None


class Patience:
    """How long each piece of work has been waiting for what the machine is short of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def allows(self, work: str) -> bool:
        """Return whether a piece of work that met a shortage just now may be tried again."""
        return self._clock() - self._since.setdefault(work, self._clock()) < _PATIENCE

    def end(self, work: str) -> None:
        """Count anew at the next shortage: the work went on, or it has ended."""
        self._since.pop(work, None)
