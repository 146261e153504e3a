"""The journal: which files, jobs and batches were asked for, and what the service made of each request.

It is on disk, so that nothing is bought twice. Each service and account has its own entries. An entry is
begun before the request and completed after the answer; an open entry means that nobody knows whether the
service took the request, and that the file, job or batch must be looked for there. A batch is known by its
questions, each by a hash.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from .._environment import find_state_folder
from .._service.error_mapping import address_of
from .._service.flow import Pause
from .._sqlite import open_database, transaction
from ..errors import FileAccessError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator
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


class Journal:
    """One SQLite file, shared by all processes of a user; `close` it, or use it in a `with` statement."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else find_state_folder() / _NAME
        self._database = open_database(self.path, [_SCHEMA, _QUESTIONS])

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
        return Account(self._database, self.path, address_of(client).rstrip("/"), _account_of(client))


class Account:
    """The entries of one service and one account.

    `kind` is `file`, `job` or `batch`; `what` is the hash of its content and settings, and of a batch the
    service's name for the file of its questions.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, service: str, account: str) -> None:
        self._database = database
        self._path = path
        self._key = (service, account)

    def find(self, kind: str, what: str) -> Entry | None:
        """Return what was last noted of a file or job; None where there is nothing."""
        row = self._database.execute(
            "SELECT token, id FROM bought WHERE service = ? AND account = ? AND kind = ? AND what = ?"
            " ORDER BY number DESC LIMIT 1",
            (*self._key, kind, what),
        ).fetchone()
        return None if row is None else Entry(kind=kind, what=what, token=row["token"], id=row["id"])

    def begin(self, kind: str, what: str) -> Entry:
        """Note, before the request, that a file or job is asked for."""
        return self._insert(kind, what, None)

    def complete(self, entry: Entry, id_: str) -> Entry:
        """Note, after the answer, what the service made."""
        self._database.execute("UPDATE bought SET id = ? WHERE token = ?", (id_, entry.token))
        return replace(entry, id=id_)

    def add(self, kind: str, what: str, id_: str) -> None:
        """Note a file or job that is at the service and not in here, such as one from another machine."""
        self._insert(kind, what, id_)

    def _insert(self, kind: str, what: str, id_: str | None) -> Entry:
        entry = Entry(kind=kind, what=what, token=secrets.token_hex(8), id=id_)
        self._database.execute(
            "INSERT INTO bought (service, account, kind, what, token, id) VALUES (?, ?, ?, ?, ?, ?)",
            (*self._key, entry.kind, entry.what, entry.token, entry.id),
        )
        return entry

    def forget(self, entry: Entry) -> None:
        """Strike out a request that the service refused, or whose outcome it does not have."""
        self._database.execute("DELETE FROM bought WHERE token = ?", (entry.token,))

    def forget_id(self, id_: str) -> None:
        """Strike out the file or job that has this name at the service."""
        self._database.execute("DELETE FROM bought WHERE service = ? AND id = ?", (self._key[0], id_))

    def has_id(self, id_: str) -> bool:
        """Whether a file or job of this name was noted, whatever it was made of."""
        query = "SELECT 1 FROM bought WHERE service = ? AND id = ?"
        return self._database.execute(query, (self._key[0], id_)).fetchone() is not None

    # Batches.

    def begin_batch(self, file_id: str, keys: Iterable[str]) -> NotedBatch:
        """Note, before the request, that a batch of these questions is asked for."""
        with self._usable(), transaction(self._database):
            return self._insert_batch(file_id, None, keys)

    def complete_batch(self, token: str, id_: str) -> None:
        """Note, after the answer, the name of the batch that a request made."""
        with self._usable():
            self._database.execute("UPDATE bought SET id = ? WHERE token = ?", (id_, token))

    def add_batch(self, file_id: str, id_: str, keys: Iterable[str]) -> None:
        """Note a batch that is at the service and not in here, or here without its name."""
        with self._usable(), transaction(self._database):
            found = self._database.execute(
                "UPDATE bought SET id = ? WHERE service = ? AND account = ? AND kind = ? AND what = ?"
                " AND id IS NULL",
                (id_, *self._key, BATCH, file_id),
            )
            if not found.rowcount:
                self._insert_batch(file_id, id_, keys)

    def _insert_batch(self, file_id: str, id_: str | None, keys: Iterable[str]) -> NotedBatch:
        entry, noted = self._insert(BATCH, file_id, id_), frozenset(keys)
        rows = ((entry.token, key) for key in noted)
        self._database.executemany("INSERT INTO questions (token, key) VALUES (?, ?)", rows)
        query = "SELECT noted_at FROM bought WHERE token = ?"
        row = self._database.execute(query, (entry.token,)).fetchone()
        return NotedBatch(entry.token, file_id, id_, row["noted_at"], noted)

    def find_batches(self, keys: Collection[str]) -> list[NotedBatch]:
        """Return what was noted of batches that hold any of these questions, the newest first."""
        wanted, tokens = list(keys), set[str]()
        with self._usable():
            for start in range(0, len(wanted), _MOST_ASKED):
                part = wanted[start : start + _MOST_ASKED]
                marks = ", ".join("?" * len(part))
                query = f"SELECT token FROM questions WHERE key IN ({marks})"  # noqa: S608
                tokens.update(row["token"] for row in self._database.execute(query, part))
            rows = self._database.execute(
                "SELECT token, what, id, noted_at FROM bought WHERE service = ? AND account = ? AND kind = ?"
                " ORDER BY number DESC",
                (*self._key, BATCH),
            ).fetchall()
            return [
                NotedBatch(token, file_id, id_, noted_at, self._find_questions(token))
                for token, file_id, id_, noted_at in rows
                if token in tokens
            ]

    def _find_questions(self, token: str) -> frozenset[str]:
        rows = self._database.execute("SELECT key FROM questions WHERE token = ?", (token,))
        return frozenset(row["key"] for row in rows)

    def has_batch(self, id_: str) -> bool:
        """Whether a batch of this name was noted for this account."""
        query = "SELECT 1 FROM bought WHERE service = ? AND account = ? AND kind = ? AND id = ?"
        with self._usable():
            return self._database.execute(query, (*self._key, BATCH, id_)).fetchone() is not None

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

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FileAccessError(
                f"cannot use the journal {str(self._path)!r} ({error}); what it holds stays. Make room, or "
                "wait for who holds it, and call again; another journal would not know what was bought"
            ) from error

    # Locks.

    def lock(self, kind: str, what: str) -> Flow[AcquireReturnProxy[FileLock]]:
        """Wait until no other process or thread asks for the same thing; return what lets go, for `with`.

        The lock is the operating system's, so that it goes with a process that is killed.

        Raises:
            FileAccessError: The folder of the locks cannot be made or written.
        """
        from filelock import FileLock, Timeout  # brings asyncio

        name = hashlib.sha256("\n".join((*self._key, kind, what)).encode()).hexdigest()[:32]
        folder = self._path.with_name(f"{self._path.name}.locks")
        try:
            lock = FileLock(folder / f"{name}.lock", timeout=0, thread_local=False)
            while True:
                try:
                    return lock.acquire()
                except Timeout:
                    yield Pause(_LOCK_PAUSE)
        except OSError as error:
            raise FileAccessError(f"cannot lock {str(folder)!r} ({error}); choose another path") from error


def _account_of(client: Client) -> str:
    if client.project:
        return f"project {client.project}"
    # The hash of a random key tells nobody the key; a key that a function gives anew each time has none.
    key = hashlib.sha256(f"{client.base_url}\n{client.api_key}".encode()).hexdigest()[:16]
    return f"organization {client.organization}, key {key}" if client.organization else f"key {key}"
