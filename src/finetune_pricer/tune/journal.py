"""The journal: which files, jobs and batches were asked for, and what the service made of each request.

It is on disk, so that nothing is bought twice. Each service and account has its own entries. An entry is
begun before the request and completed after the answer; an open entry means that nobody knows whether the
service took the request, and that the file, job or batch must be looked for there. A batch is known by its
questions, each by a hash.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from .._arguments import require_path
from .._environment import find_state_folder
from .._service.account import account_of, service_of
from .._service.flow import Pause
from .._sqlite import open_database, transaction
from ..errors import FileAccessError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from types import TracebackType

    from filelock import AcquireReturnProxy, FileLock

    from .._service.error_mapping import Client
    from .._service.flow import Flow

_SCHEMA = """
CREATE TABLE bought (
    number INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, account TEXT NOT NULL,
    kind TEXT NOT NULL, what TEXT NOT NULL, token TEXT UNIQUE NOT NULL, id TEXT,
    noted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX bought_what ON bought (service, account, kind, what);
CREATE INDEX bought_id ON bought (service, id)
"""
_QUESTIONS = """
CREATE TABLE questions (token TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (token, key)) WITHOUT ROWID;
CREATE INDEX questions_key ON questions (key)
"""
BATCH = "batch"
"""The kind of an entry that asks for a batch."""
_MOST_ASKED = 500  # questions in one query
_NAME = "journal.sqlite3"
_log = logging.getLogger("finetune_pricer")
_LOCK_PAUSE = 0.1  # seconds between two tries to get a lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request that was sent, or is about to be."""

    kind: str
    what: str
    token: str
    """A random word that goes with the request, by which its outcome is known again."""
    id: str | None
    """The service's name for what was made; None while no answer has been noted."""
    noted_at: str
    """When it was about to be sent, as `YYYY-MM-DD HH:MM:SS` in UTC."""
    is_of_this_key: bool = True
    """Whether it was asked for with the client's own key; after a rotation, the older one is another."""

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet if the service took the request."""
        return self.id is None


class NotedBatch(NamedTuple):
    """One request for a batch that was sent, or is about to be."""

    token: str
    """A random word that goes with the request, by which its outcome is known again."""
    file_id: str
    """The service's name for the file of its questions."""
    id: str | None
    """The service's name for the batch; None while no answer has been noted."""
    noted_at: str
    """When it was noted, as `YYYY-MM-DD HH:MM:SS` in UTC."""
    keys: frozenset[str]
    """The hashes of all its questions."""
    is_of_this_key: bool = True
    """Whether it was asked for with the client's own key; after a rotation, the older one is another."""


class Journal:
    """One SQLite file, shared by all processes of a user; `close` it, or use it in a `with` statement."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        require_path("journal", path, or_none=True)
        self.path: Path = Path(path) if path is not None else find_state_folder() / _NAME
        was_there = self.path.exists()
        try:
            self._database = open_database(self.path, [_SCHEMA, _QUESTIONS])
        except FileAccessError as error:
            raise (_explain(self.path, error.__cause__ or error) if was_there else error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def for_client(self, client: Client) -> Account:
        """Return the part that belongs to a client's service and account."""
        return Account(self._database, self.path, service_of(client), account_of(client))


class Account:
    """The entries of one service and one account.

    `kind` is `file`, `job`, `batch` or `deployment`; `what` is the hash of its content and settings, of a
    batch the service's name for the file of its questions, and of a deployment that of what is deployed. An
    account is a project or an
    organization where the client names one. Where it names none, entries of other keys are found too, after
    those of its own: keys are rotated, and whether a job is this account's the service says when it is asked.

    All methods raise `FileAccessError` where the journal cannot be read or written.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, service: str, account: str) -> None:
        self._database = database
        self._path = path
        self._service = service
        self._account = account

    def find_all(self, kind: str, what: str) -> list[Entry]:
        """Return all that was noted of a file or job: of this key first, and the newest first."""
        rows = self._execute(
            "SELECT token, id, noted_at, account, account = ? AS own FROM bought"
            " WHERE service = ? AND kind = ? AND what = ? ORDER BY own DESC, number DESC",
            (self._account, self._service, kind, what),
        )
        owner = _without_key(self._account)
        return [
            Entry(
                kind=kind,
                what=what,
                token=row["token"],
                id=row["id"],
                noted_at=row["noted_at"],
                is_of_this_key=bool(row["own"]),
            )
            for row in rows
            if _without_key(row["account"]) == owner
        ]

    def begin(self, kind: str, what: str) -> Entry:
        """Note, before the request, that a file or job is asked for."""
        return self._insert(kind, what, None)

    def complete(self, entry: Entry, id_: str) -> Entry:
        """Note, after the answer, what the service made."""
        self._execute("UPDATE bought SET id = ? WHERE token = ?", (id_, entry.token))
        return replace(entry, id=id_)

    def add(self, kind: str, what: str, id_: str) -> None:
        """Note a file or job that is at the service and not in here, such as one from another machine."""
        self._insert(kind, what, id_)

    def _insert(self, kind: str, what: str, id_: str | None) -> Entry:
        token, noted_at = secrets.token_hex(8), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        self._execute(
            "INSERT INTO bought (service, account, kind, what, token, id, noted_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._service, self._account, kind, what, token, id_, noted_at),
        )
        return Entry(kind=kind, what=what, token=token, id=id_, noted_at=noted_at)

    def forget(self, entry: Entry) -> None:
        """Strike out a request that the service refused, or that is asked for anew."""
        self._execute("DELETE FROM bought WHERE token = ?", (entry.token,))

    def forget_id(self, id_: str) -> None:
        """Strike out the file or job that has this name at the service."""
        self._execute("DELETE FROM bought WHERE service = ? AND id = ?", (self._service, id_))

    def what_is(self, id_: str) -> str | None:
        """Return what the file or job of this name was made of; None where it was never noted."""
        query = "SELECT what FROM bought WHERE service = ? AND id = ? ORDER BY number DESC LIMIT 1"
        rows = self._execute(query, (self._service, id_))
        return rows[0]["what"] if rows else None

    def _execute(self, statement: str, values: Sequence[str | None]) -> list[sqlite3.Row]:
        with self._usable():
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(self._path, error) from error

    # Batches.

    def begin_batch(self, file_id: str, keys: Iterable[str]) -> NotedBatch:
        """Note, before the request, that a batch of these questions is asked for."""
        noted = frozenset(keys)
        with self._usable(), transaction(self._database):
            entry = self._insert_batch(file_id, None, noted)
        return NotedBatch(entry.token, file_id, None, entry.noted_at, noted)

    def complete_batch(self, token: str, id_: str) -> None:
        """Note, after the answer, the name of the batch that a request made."""
        self._execute("UPDATE bought SET id = ? WHERE token = ?", (id_, token))

    def add_batch(self, file_id: str, id_: str, keys: Iterable[str]) -> None:
        """Note a batch that is at the service and not in here, or here without its name."""
        with self._usable(), transaction(self._database):
            found = self._database.execute(
                "UPDATE bought SET id = ? WHERE service = ? AND kind = ? AND what = ? AND id IS NULL",
                (id_, self._service, BATCH, file_id),
            )
            if not found.rowcount:
                self._insert_batch(file_id, id_, frozenset(keys))

    def _insert_batch(self, file_id: str, id_: str | None, keys: frozenset[str]) -> Entry:
        entry = self._insert(BATCH, file_id, id_)
        rows = ((entry.token, key) for key in keys)
        self._database.executemany("INSERT INTO questions (token, key) VALUES (?, ?)", rows)
        return entry

    def find_batches(self, keys: Collection[str]) -> list[NotedBatch]:
        """Return what was noted of batches that hold any of these questions, the newest first."""
        wanted, tokens, owner = list(keys), set[str](), _without_key(self._account)
        for start in range(0, len(wanted), _MOST_ASKED):
            part = wanted[start : start + _MOST_ASKED]
            marks = ", ".join("?" * len(part))
            query = f"SELECT token FROM questions WHERE key IN ({marks})"  # noqa: S608
            tokens.update(row["token"] for row in self._execute(query, part))
        rows = self._execute(
            "SELECT token, what, id, noted_at, account FROM bought WHERE service = ? ORDER BY number DESC",
            (self._service,),
        )
        return [
            NotedBatch(token, file_id, id_, noted_at, self._find_questions(token), account == self._account)
            for token, file_id, id_, noted_at, account in rows
            if token in tokens and _without_key(account) == owner
        ]

    def _find_questions(self, token: str) -> frozenset[str]:
        return frozenset(
            row["key"] for row in self._execute("SELECT key FROM questions WHERE token = ?", (token,))
        )

    def has_batch(self, id_: str) -> bool:
        """Whether a batch of this name was noted."""
        query = "SELECT 1 FROM bought WHERE service = ? AND kind = ? AND id = ?"
        return bool(self._execute(query, (self._service, BATCH, id_)))

    def forget_batch(self, token: str) -> None:
        """Strike out a request for a batch that the service did not take."""
        with self._usable(), transaction(self._database):
            self._database.execute("DELETE FROM bought WHERE token = ?", (token,))
            self._database.execute("DELETE FROM questions WHERE token = ?", (token,))

    def forget_questions(self, token: str, keys: Iterable[str]) -> None:
        """Strike out questions of a request that were asked for anew, and a request that has none left."""
        with self._usable(), transaction(self._database):
            rows = ((token, key) for key in keys)
            self._database.executemany("DELETE FROM questions WHERE token = ? AND key = ?", rows)
            if not self._find_questions(token):
                self._database.execute("DELETE FROM bought WHERE token = ?", (token,))

    # Locks.

    def lock(self, kind: str, what: str) -> Flow[AcquireReturnProxy[FileLock]]:
        """Wait until no other process or thread asks for the same thing; return what lets go, for `with`.

        The lock is the operating system's, so that it goes with a process that is killed.

        Raises:
            FileAccessError: The folder of the locks cannot be made or written.
        """
        from filelock import FileLock, Timeout  # brings asyncio

        parts = (self._service, _without_key(self._account), kind, what)
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        folder = self._path.with_name(f"{self._path.name}.locks")
        is_first_try = True
        try:
            lock = FileLock(folder / f"{name}.lock", timeout=0, thread_local=False)
            while True:
                try:
                    return lock.acquire()
                except Timeout:
                    if is_first_try:
                        _log.info("another process asks for the same %s; waiting until it has ended", kind)
                    is_first_try = False
                    yield Pause(_LOCK_PAUSE)
        except OSError as error:
            raise FileAccessError(f"cannot lock {str(folder)!r} ({error}); choose another path") from error


def _explain(path: Path, error: BaseException) -> FileAccessError:
    if isinstance(error, FileAccessError):
        return error
    return FileAccessError(
        f"cannot use the journal {str(path)!r} ({error}); what it notes may have been bought: close the "
        "program that holds it or repair the disk, and look with FineTuneJob.list(client) before you use "
        "another journal"
    )


def _without_key(account: str) -> str:
    return account if account.startswith("project ") else account.rpartition("key ")[0]
