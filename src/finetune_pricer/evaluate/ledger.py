"""The ledger of a sweep's folder: what its jobs and questions have cost, over restarts and extensions."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from .._sqlite import open_database
from ..errors import FileAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = "ledger.sqlite3"
_SCHEMA = "CREATE TABLE spent (what TEXT PRIMARY KEY, trial TEXT NOT NULL, dollars REAL NOT NULL)"


class Ledger:
    """What was spent in one folder. A job is in it before it is asked for, and under its id afterwards.

    All methods raise `FileAccessError` where it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def total(self) -> float:
        """Return the dollars of all that was bought, by trials that are no longer listed too."""
        with self._open() as database:
            return float(database.execute("SELECT coalesce(sum(dollars), 0) FROM spent").fetchone()[0])

    def has_job(self, trial: str) -> bool:
        """Whether a trial's job was asked for."""
        with self._open() as database:
            query = "SELECT 1 FROM spent WHERE trial = ? AND what NOT LIKE 'questions %'"
            return database.execute(query, (trial,)).fetchone() is not None

    def begin_job(self, trial: str, dollars: float) -> None:
        """Note, before it is asked for, what a job costs."""
        self._set(_open_job(trial), trial, dollars)

    def complete_job(self, trial: str, job: str, dollars: float) -> None:
        """Note the id of the job that was asked for; one that was noted before is not counted twice."""
        self._set(f"job {job}", trial, dollars)
        self.forget_job(trial)

    def forget_job(self, trial: str) -> None:
        """Strike out a job that was refused."""
        with self._open() as database:
            database.execute("DELETE FROM spent WHERE what = ?", (_open_job(trial),))

    def note_questions(self, trial: str, job: str, dollars: float) -> None:
        """Note what all questions to a job's model have cost by now."""
        self._set(f"questions {job}", trial, dollars)

    def _set(self, what: str, trial: str, dollars: float) -> None:
        with self._open() as database:
            database.execute(
                "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (what) DO UPDATE"
                " SET dollars = max(dollars, excluded.dollars)",
                (what, trial, dollars),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(open_database(self._path, [_SCHEMA])) as database:
            try:
                yield database
            except sqlite3.Error as error:
                where = f"cannot use the ledger {str(self._path)!r}"
                raise FileAccessError(f"{where} ({error}); repair it, or use another folder") from error


def _open_job(trial: str) -> str:
    return f"asked for {trial}"
