"""The journal: which files and jobs were asked for, and what the service made of each request.

It is on disk, so that nothing is bought twice. Each service and account has its own entries. An entry is
begun before the request and completed after the answer; an open entry means that nobody knows whether the
service took the request, and that the file or job must be looked for there.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .._environment import find_state_folder
from .._service.account import account_of, service_of
from .._service.flow import Pause
from .._sqlite import open_database
from ..errors import FileAccessError

if TYPE_CHECKING:
    import os
    import sqlite3
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


class Journal:
    """One SQLite file, shared by all processes of a user; `close` it, or use it in a `with` statement."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else find_state_folder() / _NAME
        self._database = open_database(self.path, [_SCHEMA])

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

    `kind` is `file` or `job`; `what` is the hash of its content and settings.
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
