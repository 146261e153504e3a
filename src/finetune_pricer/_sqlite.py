"""SQLite as we use it: opened in WAL mode, brought up to date step by step, errors as ours."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import FileAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE = 30.0  # seconds to wait for another process that writes
_PAUSE = 0.01  # seconds between two tries


def open_database(path: str | os.PathLike[str], migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database, made with its folders where there is none, and run the migrations that it lacks.

    A new one can be read and written by its user only; one that is there keeps its rights.
    The connection commits each statement by itself; several belong together inside `transaction`. It belongs
    to this process: one that is forked from it opens its own.

    Args:
        path: The database's file.
        migrations: SQL scripts, the oldest first. The database remembers how many it has seen; a script that
            has been released is never changed, a new one is added behind it.

    Raises:
        FileAccessError: It cannot be opened or written, or a newer version of this package wrote it.
    """
    place = Path(path)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What SQLite makes beside it, such as its log, has the same rights.
        os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(place, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _prepare(database, place, migrations)
        except BaseException:
            database.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise _unusable(place, error) from error
    return database


def open_to_read(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open a database that is there, for reading only; where its folder cannot be written, as it lies there.

    Raises:
        FileAccessError: There is none, or it cannot be read.
    """
    place = Path(path)
    address = place.resolve().as_uri()
    # Reading takes a lock in a file beside it; where that cannot be made, nobody writes here either.
    error: Exception = FileNotFoundError("there is no such file")
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            database = sqlite3.connect(f"{address}?{options}", uri=True, check_same_thread=False)
            database.row_factory = sqlite3.Row
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as failure:
            error = failure
        else:
            return database
    raise _unusable(place, error) from error


def _write_ahead(database: sqlite3.Connection) -> None:
    # SQLite does not wait for another connection that makes the same change to a new file.
    deadline = time.monotonic() + _PATIENCE
    while not _is_write_ahead(database, is_last=time.monotonic() >= deadline):
        time.sleep(_PAUSE)


def _is_write_ahead(database: sqlite3.Connection, *, is_last: bool) -> bool:
    try:
        database.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if is_last or "locked" not in str(error):
            raise
        return False
    return True


def _prepare(database: sqlite3.Connection, place: Path, migrations: Sequence[str]) -> None:
    database.row_factory = sqlite3.Row
    _write_ahead(database)
    # What was recorded before a request must be there after a power cut too.
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA fullfsync = ON")  # or macOS would only ask the disk
    if int(database.execute("PRAGMA user_version").fetchone()[0]) == len(migrations):
        return  # nothing to write: another program that writes need not be waited for
    with transaction(database):
        seen = int(database.execute("PRAGMA user_version").fetchone()[0])
        if seen > len(migrations):
            raise FileAccessError(
                f"{str(place)!r} was written by a newer finetune-pricer; install that, or use another path"
            )
        for script in migrations[seen:]:
            # Not executescript, which would commit what stands before it.
            for statement in script.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(migrations)}")


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Make all changes inside happen together, or none of them; waits for another process that writes."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _unusable(place: Path, error: Exception) -> FileAccessError:
    if isinstance(error, FileAccessError):
        return error
    return FileAccessError(f"cannot use the database {str(place)!r} ({error}); choose another path")
