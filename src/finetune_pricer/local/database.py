"""The database's tables, and opening it: for one server at a time, and only where it is of this version."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ..errors import FileAccessError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 2
"""Of the tables and of what stands in them; another version's folder is refused, not guessed at."""
NAME = "server.sqlite3"

_SCHEMA = f"""
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
CREATE INDEX IF NOT EXISTS events_of_job ON events (job, number);
CREATE TABLE IF NOT EXISTS models (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, base TEXT NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, arrays TEXT NOT NULL, rest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoints (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL,
    created_at INTEGER NOT NULL, step INTEGER NOT NULL, model TEXT NOT NULL, metrics BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body BLOB NOT NULL);
PRAGMA user_version = {VERSION};
"""


def open_database(folder: Path) -> sqlite3.Connection:
    """Open a folder's database, with empty tables where it is new.

    Raises:
        FileAccessError: It cannot be opened, another server has it, or another version made it.
    """
    database: sqlite3.Connection | None = None
    try:
        database = sqlite3.connect(folder / NAME, timeout=0.5, isolation_level=None, check_same_thread=False)
        database.row_factory = sqlite3.Row
        # Held until closed: two servers on one folder would both run its jobs.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        _refuse_other_versions(database, folder)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except BaseException as error:
        if database is not None:
            database.close()
        if isinstance(error, sqlite3.Error):
            raise FileAccessError(
                f"Cannot open the database {str(folder / NAME)!r} ({error}). {_advice(error)}"
            ) from error
        raise
    return database


def _refuse_other_versions(database: sqlite3.Connection, folder: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == VERSION or not (version or tables):
        return
    raise FileAccessError(
        f"The folder {str(folder)!r} was kept by another version of this server (its format is {version}, "
        f"not {VERSION}), and was left as it is. Take another folder, or the version that made it."
    )


def _advice(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "Another server is using the folder: stop it, or take another folder."
    return "Take another folder, or one that you may write to."
