"""What was asked for and what came of it, on disk, so that nothing is bought twice.

Each service and account has its own names. An intention is written before the request, the answer after it;
an intention without an answer means that nobody knows whether the service took it, and that it must be looked
for there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .._service.flow import Pause
from .._sqlite import open_database, transaction
from ..errors import FileAccessError

if TYPE_CHECKING:
    import sqlite3
    from types import TracebackType

    from filelock import BaseFileLock

    from .._service.flow import Flow
    from .._service.requests import Client

_SCHEMA = """
CREATE TABLE bought (
    number INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, account TEXT NOT NULL,
    kind TEXT NOT NULL, what TEXT NOT NULL, token TEXT UNIQUE NOT NULL, id TEXT,
    noted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX bought_what ON bought (service, account, kind, what);
CREATE INDEX bought_id ON bought (service, id)
"""
_NAME = "journal.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that was asked for."""

    token: str
    """A random word that went with the request, by which it is known again."""
    id: str | None
    """The service's name for what came of it; None while no answer has been noted."""


class Journal:
    """One SQLite file, shared by all processes of a user; `close` it, or use it in a `with` statement."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else home() / _NAME
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

    def of(self, client: Client) -> Account:
        """Give the part that belongs to a client's service and account."""
        return Account(self._database, self.path, _service_of(client), _account_of(client))


class Account:
    """What was asked for at one service with one account.

    `kind` is `file` or `job`; `what` is the hash of what it is made of.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, service: str, account: str) -> None:
        self._database = database
        self._path = path
        self._key = (service, account)

    def find(self, kind: str, what: str) -> Entry | None:
        """Give what was last noted of a thing."""
        row = self._database.execute(
            "SELECT token, id FROM bought WHERE service = ? AND account = ? AND kind = ? AND what = ?"
            " ORDER BY number DESC LIMIT 1",
            (*self._key, kind, what),
        ).fetchone()
        return None if row is None else Entry(token=row["token"], id=row["id"])

    def intend(self, kind: str, what: str) -> Entry:
        """Note, before the request, that something is asked for."""
        return self._insert(kind, what, secrets.token_hex(8), None)

    def answered(self, entry: Entry, id_: str) -> None:
        """Note what the service made of it."""
        with transaction(self._database):
            self._database.execute("UPDATE bought SET id = ? WHERE token = ?", (id_, entry.token))

    def found(self, kind: str, what: str, id_: str) -> None:
        """Note something that is at the service and was not noted here, such as from another machine."""
        self._insert(kind, what, secrets.token_hex(8), id_)

    def forget(self, entry: Entry) -> None:
        """Strike out something that the service refused, or no longer has."""
        with transaction(self._database):
            self._database.execute("DELETE FROM bought WHERE token = ?", (entry.token,))

    def _insert(self, kind: str, what: str, token: str, id_: str | None) -> Entry:
        with transaction(self._database):
            self._database.execute(
                "INSERT INTO bought (service, account, kind, what, token, id) VALUES (?, ?, ?, ?, ?, ?)",
                (*self._key, kind, what, token, id_),
            )
        return Entry(token=token, id=id_)

    def forget_id(self, id_: str) -> None:
        """Strike out what has this name at the service."""
        with transaction(self._database):
            self._database.execute("DELETE FROM bought WHERE service = ? AND id = ?", (self._key[0], id_))

    def knows(self, id_: str) -> bool:
        """Whether something of this name was noted, for whatever it was made of."""
        query = "SELECT 1 FROM bought WHERE service = ? AND id = ?"
        return self._database.execute(query, (self._key[0], id_)).fetchone() is not None

    def lock(self, kind: str, what: str) -> Flow[Held]:
        """Wait until no other process or thread is asking for the same thing, then keep them out.

        The lock is the operating system's, so that it goes with a process that is killed.
        """
        from filelock import FileLock, Timeout

        name = hashlib.sha256("\n".join((*self._key, kind, what)).encode()).hexdigest()[:32]
        folder = self._path.with_name(f"{self._path.name}.locks")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{name}.lock", timeout=0, thread_local=False)
            while True:
                try:
                    lock.acquire()
                except Timeout:
                    yield Pause(0.1)
                else:
                    return Held(lock)
        except OSError as error:
            raise FileAccessError(f"cannot lock {str(folder)!r} ({error}); choose another path") from error


class Held:
    """A lock that is held, until the end of a `with` statement."""

    def __init__(self, lock: BaseFileLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def home() -> Path:
    """Give the folder for what must outlive a process: `FINETUNE_PRICER_HOME`, or the user's."""
    from .._environment import settings

    if said := settings().get("FINETUNE_PRICER_HOME"):
        return Path(said).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "finetune-pricer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "finetune-pricer"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "finetune-pricer"


def _service_of(client: Client) -> str:
    # Without a name and password that may stand in the address of a proxy.
    return str(client.base_url.copy_with(userinfo=b"")).rstrip("/")


def _account_of(client: Client) -> str:
    if client.project:
        return f"project {client.project}"
    # The hash of a random key tells nobody the key; a key that a function gives anew each time has none.
    key = hashlib.sha256(f"{client.base_url}\n{client.api_key}".encode()).hexdigest()[:16]
    return f"organization {client.organization}, key {key}" if client.organization else f"key {key}"
