"""The server's folder: which one is refused, how its database is opened, and how it is closed.

A folder that is not whole is refused and left as it is. Nothing in it is ever removed because the database
does not know it: a database that was lost, or restored from an older copy, knows too little.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Literal

from ..errors import FileAccessError
from .shortage import describe_shortage

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = 3
"""The version of the tables and of what stands in them. A folder of another version is refused."""
_NAME = "server.sqlite3"
_CONTENTS = ("blobs", "training")
_FIRST_TABLES = {"files", "jobs", "events", "models", "model_files", "checkpoints", "batches"}
"""Tables that every folder of this format has; the others came later."""
_TABLES = """
BEGIN;
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, filename TEXT NOT NULL,
    purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, sha256 TEXT NOT NULL,
    expires_at INTEGER);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, status TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, level TEXT NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS models (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, base TEXT NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS model_files (
    model TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (model, name));
CREATE TABLE IF NOT EXISTS checkpoints (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, step INTEGER NOT NULL, model TEXT NOT NULL, metrics BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body BLOB NOT NULL);
-- Names in `blobs` that may be removed once nothing uses them: halves of uploads, and what was deleted.
CREATE TABLE IF NOT EXISTS leftovers (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_job ON events (job, number);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status);
CREATE INDEX IF NOT EXISTS files_by_content ON files (sha256);
CREATE INDEX IF NOT EXISTS model_files_by_content ON model_files (sha256);
CREATE INDEX IF NOT EXISTS batches_by_status ON batches (json_extract(CAST(body AS TEXT), '$.status'));
INSERT OR REPLACE INTO state VALUES ('closed', 0);
PRAGMA user_version = %d;
COMMIT;
"""


def open_folder(folder: Path) -> sqlite3.Connection:
    """Return the database of a folder, with empty tables where it is new; a folder that is missing is made.

    Raises:
        FileAccessError: The folder cannot be used, is not whole, is another's, or another server has it.
    """
    place = folder / _NAME
    try:
        _refuse_without_database(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _CONTENTS:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            _make_private(folder / name, 0o700)
        had_log = _log_of(place).exists()
        os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
        for path in (place, _log_of(place)):
            _make_private(path, 0o600)
    except FileAccessError:
        raise
    except OSError as error:
        raise FileAccessError(
            f"cannot use the folder {str(folder)!r} ({error.strerror}); take one that you may write to"
        ) from error
    return _open_connection(folder, had_log=had_log)


def close_folder(connection: sqlite3.Connection, folder: Path) -> None:
    """Close a folder's database, so that the next start knows that nothing is missing."""
    marked = False
    with contextlib.suppress(sqlite3.Error):
        connection.execute("UPDATE state SET value = 1 WHERE name = 'closed'")
        marked = True
    connection.close()
    if not marked:
        # Closing has written the log's content into the database, but not that it did.
        with contextlib.suppress(OSError):
            _log_of(folder / _NAME).touch(0o600)


def count_unknown(connection: sqlite3.Connection, names: set[str]) -> tuple[int, int]:
    """Return how many of these names of blobs the database does not know, and how many it misses."""
    query = "SELECT sha256 FROM files UNION SELECT sha256 FROM model_files"
    used = {row[0] for row in connection.execute(query)}
    leftover = {row[0] for row in connection.execute("SELECT name FROM leftovers")}
    return len(names - used - leftover), len(used - names)


def _log_of(place: Path) -> Path:
    """Return where SQLite keeps what it has not yet written into a database: its write-ahead log."""
    return place.with_name(f"{place.name}-wal")


def _make_private(path: Path, mode: Literal[0o600, 0o700]) -> None:
    """Let nobody but the owner read a file of ours, or do nothing where it is another user's or not there."""
    if os.name == "posix":
        with contextlib.suppress(PermissionError, FileNotFoundError):
            path.chmod(mode)


def _refuse_without_database(folder: Path) -> None:
    """Raise `FileAccessError` where there are things in a folder, and no database or an empty one."""
    place = folder / _NAME
    if place.exists() and (not place.is_file() or place.stat().st_size):
        return
    log = _log_of(place)
    if log.exists() and log.stat().st_size:
        raise FileAccessError(
            f"the folder {str(folder)!r} has a {log.name!r} and no {_NAME!r} to go with it, and was left as "
            "it is; put the database back, or take an empty folder"
        )
    _refuse_contents(folder, is_empty=place.exists())


def _refuse_contents(folder: Path, *, is_empty: bool) -> None:
    for name in _CONTENTS:
        place = folder / name
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            if is_empty:
                raise FileAccessError(
                    f"the database {str(folder / _NAME)!r} is empty though there are things in {name!r}; the "
                    f"folder was left as it is: put back the whole database, with its {_NAME}-wal, or take "
                    "an empty folder"
                )
            raise FileAccessError(
                f"the folder {str(folder)!r} has a {name!r} in it that is not this server's; "
                "take an empty folder"
            )


def _open_connection(folder: Path, *, had_log: bool) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            folder / _NAME, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        # Held until closed: two servers on one folder would both run its jobs.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _refuse_other_formats(connection, folder)
        _refuse_without_log(connection, folder, had_log=had_log)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TABLES % _FORMAT)
        # So that a database which is copied without its log says itself that one is missing.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise FileAccessError(
                f"cannot open the database {str(folder / _NAME)!r} ({error}); {_advice(error)}"
            ) from error
        raise
    return connection


def _refuse_other_formats(connection: sqlite3.Connection, folder: Path) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not (found or tables):
        _refuse_contents(folder, is_empty=True)
    elif found != _FORMAT:
        raise FileAccessError(
            f"the folder {str(folder)!r} was kept by another version of this server (its format is {found}, "
            f"not {_FORMAT}), and was left as it is; take another folder, or the version that made it"
        )
    elif missing := sorted(_FIRST_TABLES - tables):
        raise FileAccessError(
            f"the database {str(folder / _NAME)!r} has lost its table {missing[0]!r}; the folder was left as "
            "it is: put back a whole copy of it, or take an empty folder"
        )


def _refuse_without_log(connection: sqlite3.Connection, folder: Path, *, had_log: bool) -> None:
    """Raise `FileAccessError` where a database was not closed, and the log of its last changes is missing."""
    query = "SELECT name FROM sqlite_master WHERE name = 'state'"
    if had_log or connection.execute(query).fetchone() is None:
        return
    closed = connection.execute("SELECT value FROM state WHERE name = 'closed'").fetchone()
    if closed is not None and not closed[0]:
        log = _log_of(folder / _NAME)
        raise FileAccessError(
            f"the folder {str(folder)!r} was copied or moved without {log.name!r}, which holds what was "
            "written last, and was left as it is; put that file back, or, where it is lost for good, make an "
            "empty one of that name to go on with what the database holds"
        )


def _advice(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "another server is using the folder: stop that server, or take another folder"
    if describe_shortage(error):
        return "make room on its disk"
    return "take another folder, or one that you may write to"
