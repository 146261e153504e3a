"""Answers on disk: each is there when it is received, so that a run that was killed goes on where it was."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import warnings
import weakref
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import require_path
from .._sqlite import open_database, open_to_read
from ..errors import FileAccessError
from .completion import read_first_text, read_usage
from .leases import find_leases
from .prediction import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from .._service.requests import Answer

_log = logging.getLogger("finetune_pricer")

_MIGRATIONS = [
    """
    CREATE TABLE answers (
        key TEXT PRIMARY KEY,           -- a hash of model, messages and parameters
        model TEXT NOT NULL,
        item_id TEXT NOT NULL,
        reply TEXT,                     -- as it came (of several samples, the first)
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        latency REAL NOT NULL,          -- seconds from question to answer
        received_at REAL NOT NULL,      -- seconds since 1970
        answer BLOB NOT NULL            -- choices and usage, as zlib of JSON
    ) WITHOUT ROWID
    """,
    # From here on the key is a hash of service and account too. Rows before it have no service and are not
    # found: nobody can tell whose they are.
    "ALTER TABLE answers ADD COLUMN service TEXT",
]
_COLUMNS = "item_id, model, reply, prompt_tokens, completion_tokens, latency, received_at"
_KEPT = ("model", "choices", "usage")  # of an answer
_LARGEST = 2**26  # bytes of a kept answer, unpacked

_BUSY = 0.25  # seconds that writing waits for another program that writes
_READING = 5.0  # seconds that reading waits for a program that locks the whole file
_AGAIN = 0.5  # seconds from a failure to the next try
_AT_THE_END = 3.0  # seconds that a run tries, at its end, to write what is held
MOST_HELD = 2**26
"""Bytes of answers that are held in memory while they cannot be written."""


class StoredAnswer(NamedTuple):
    """An answer, and how long it took."""

    answer: Answer
    latency: float
    """Seconds from question to answer."""


class _Row(NamedTuple):
    """A row of the table, and the answer that it holds."""

    values: tuple[Any, ...]
    stored: StoredAnswer


class _Connection:
    """The file as one process has it open, and the answers that are still to be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.held: dict[str, _Row] = {}
        self.held_bytes = 0
        self.problem: str | None = None  # why the last try to write failed
        self.retry_at = 0.0
        self.patience = -1.0
        self.can_read = True
        self.is_read_only = Path(path).exists() and not os.access(path, os.W_OK)
        if self.is_read_only:
            self.database = open_to_read(path)
            return
        self.database = open_database(path, _MIGRATIONS)
        try:
            # Outlives a killed process. A power cut may cost the last answers; a sync for each costs more.
            self.database.execute("PRAGMA synchronous = NORMAL")
            self.leases = find_leases(f"{os.fspath(path)}.leases")
        except (sqlite3.Error, OSError) as error:
            raise _cannot_keep(path, error) from error

    def wait_at_most(self, seconds: float) -> None:
        if seconds != self.patience:
            self.database.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
            self.patience = seconds

    def write(self) -> None:
        """Write what is held, all or nothing."""
        self.wait_at_most(0.0 if self.problem else _BUSY)
        self.database.execute("BEGIN IMMEDIATE")
        try:
            self.database.executemany(
                f"INSERT OR REPLACE INTO answers ({_COLUMNS}, key, answer, service)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [row.values for row in self.held.values()],
            )
            self.database.execute("COMMIT")
        except BaseException:
            # A full disk has rolled it back already.
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def let_go(self) -> None:
        """Give back the leases of all that is held, written or not."""
        for key in self.held:
            self.leases.give_back(key)


class AnswerStore:
    """Answers kept in an SQLite file, by service, account, model, messages and parameters; no failures.

    Several threads and processes may use one file. What one of them asks, no other does: it gets the answer.
    The table `answers` can be read with any SQLite tool. While the file cannot be written (a full disk, or a
    program that has locked it) answers are held in memory, which is said once, and written when it can be.

    Args:
        path: The file; made where there is none. Of one that is read-only, answers can be read.

    Raises:
        FileAccessError: It cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        require_path("path", path)
        self._path = path
        # In a list, for the finalizer, which must not hold the store itself.
        self._connections = [_Connection(path)]
        weakref.finalize(self, _finish, self._connections, os.fspath(path))

    @property
    def is_read_only(self) -> bool:
        """Whether answers can be read and none be kept."""
        return self._connection.is_read_only

    @property
    def unwritten(self) -> int:
        """How many answers are held in memory, because the file could not be written."""
        return len(self._connection.held)

    @property
    def is_full(self) -> bool:
        """Whether so much is held in memory that nothing more may be asked for."""
        return self._connection.held_bytes > MOST_HELD

    @property
    def is_failing(self) -> bool:
        """Whether the last try to write failed."""
        return self._connection.problem is not None

    def find(self, key: str) -> StoredAnswer | None:
        """Return the answer to a question; None if it was never received or cannot be read.

        Raises:
            FileAccessError: The file cannot be read.
        """
        connection = self._connection
        with connection.lock:
            if (held := connection.held.get(key)) is not None:
                return held.stored
            with self._usable(connection):
                connection.wait_at_most(_READING if connection.can_read else 0.0)
                connection.can_read = False
                row = connection.database.execute(
                    "SELECT answer, latency FROM answers WHERE key = ?", (key,)
                ).fetchone()
                connection.can_read = True
        return None if row is None else _read_row(row["answer"], row["latency"])

    def take(self, key: str) -> bool:
        """Take the lease of a question before it is asked; return False while somebody else asks it.

        It is given back when the answer is on disk, or by `give_back`, and goes with a process that ends.

        Raises:
            FileAccessError: The file is read-only.
        """
        if self.is_read_only:
            raise _cannot_keep(self._path, PermissionError("it is read-only"))
        return self._connection.leases.take(key)

    def give_back(self, key: str) -> None:
        """Let others ask a question that came to nothing."""
        connection = self._connection
        if key not in connection.held:
            connection.leases.give_back(key)

    def keep(
        self,
        key: str,
        model: str,
        item_id: str,
        answer: Answer,
        latency: float,
        *,
        service: str | None = None,
    ) -> None:
        """Take note of an answer; it is on disk after `commit`, where it can be written.

        Raises:
            FileAccessError: The file is read-only.
        """
        if self.is_read_only:
            raise _cannot_keep(self._path, PermissionError("it is read-only"))
        used = read_usage(answer)
        lasting = {name: answer[name] for name in _KEPT if name in answer}
        packed = zlib.compress(_to_json(lasting), 1)
        words = (item_id, model, read_first_text(answer))
        counts = (used.prompt_tokens, used.completion_tokens, latency, time.time())
        values = (*map(_clean, words), *counts, key, packed, service)
        connection = self._connection
        with connection.lock:
            connection.held[key] = _Row(values, StoredAnswer(answer, latency))
            connection.held_bytes += len(packed)

    def commit(self) -> None:
        """Put on disk what was kept since the last time; what cannot be written stays in memory."""
        connection = self._connection
        if not connection.held or (connection.problem and time.monotonic() < connection.retry_at):
            return
        with connection.lock:
            try:
                connection.write()
            except sqlite3.Error as error:
                if connection.problem is None:
                    _log.warning(
                        "cannot write to %r (%s): answers are held in memory and written when it can be",
                        str(self._path),
                        error,
                    )
                connection.problem, connection.retry_at = str(error), time.monotonic() + _AGAIN
                return
            if connection.problem is not None:
                _log.warning("%r can be written again; all answers are in it", str(self._path))
            connection.problem = None
            connection.let_go()
            connection.held.clear()
            connection.held_bytes = 0

    def settle(self) -> None:
        """Write what is held, for a few seconds if need be.

        What could not be written is still there, and is when this store is next used or closed. Other
        processes may ask for it meanwhile.
        """
        connection = self._connection
        self.commit()
        until = time.monotonic() + _AT_THE_END
        while connection.held and time.monotonic() < until:
            time.sleep(_AGAIN / 5)
            self.commit()
        with connection.lock:
            connection.let_go()

    def warn_of_unwritten(self) -> None:
        """Warn where answers are in memory only."""
        connection = self._connection
        if connection.held:
            warnings.warn(
                f"{len(connection.held):,} answers could not be written to {str(self._path)!r} "
                f"({connection.problem}); they are in memory, and are written when this store is used again",
                UserWarning,
                stacklevel=2,
            )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per answer: item_id, model, reply, tokens, latency (s), received_at (UTC)."""
        import pandas as pd

        self.commit()
        connection = self._connection
        with self._usable(connection):
            query = f"SELECT {_COLUMNS} FROM answers ORDER BY received_at"  # noqa: S608
            rows = connection.database.execute(query).fetchall()
        frame = pd.DataFrame([tuple(row) for row in rows], columns=_COLUMNS.split(", "))
        frame["received_at"] = pd.to_datetime(frame["received_at"], unit="s", utc=True)
        return frame

    def usage(self) -> Usage:
        """Return the tokens of all answers together, in the file and in memory."""
        self.commit()
        connection = self._connection
        with self._usable(connection):
            query = "SELECT total(prompt_tokens), total(completion_tokens) FROM answers"
            asked, answered = connection.database.execute(query).fetchone()
            held = [read_usage(row.stored.answer) for row in connection.held.values()]
        return sum(held, Usage(prompt_tokens=int(asked), completion_tokens=int(answered)))

    def close(self) -> None:
        """Put everything on disk and close the file."""
        connection = self._connection
        if not connection.is_read_only:
            self.settle()
            self.warn_of_unwritten()
        connection.database.close()

    def __len__(self) -> int:
        connection = self._connection
        with self._usable(connection):
            return int(connection.database.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AnswerStore({str(self._path)!r})"

    @property
    def _connection(self) -> _Connection:
        """This process's own: SQLite's connections must not be carried over a fork."""
        connection = self._connections[-1]
        if connection.process != os.getpid():
            # The parent's stays referred to, unused: closing it here would disturb the parent.
            connection = _Connection(self._path)
            self._connections.append(connection)
        return connection

    @contextmanager
    def _usable(self, connection: _Connection) -> Iterator[None]:
        with connection.lock:
            try:
                yield
            except sqlite3.Error as error:
                raise _cannot_keep(self._path, error) from error


def _cannot_keep(path: str | os.PathLike[str], error: Exception) -> FileAccessError:
    return FileAccessError(f"cannot keep answers in {str(path)!r}: {error}; what was kept before stays")


def _finish(connections: list[_Connection], path: str) -> None:
    """Write what is held, at the end of a program too, and close the file."""
    connection = connections[-1]
    if connection.process != os.getpid():
        return
    if connection.held:
        try:
            connection.write()
        except sqlite3.Error as error:
            _log.error("%d answers could not be written to %r (%s)", len(connection.held), path, error)
    with suppress(sqlite3.Error):
        connection.database.close()


def _to_json(lasting: Answer) -> bytes:
    import orjson

    try:
        return orjson.dumps(lasting)
    except TypeError:  # such as a number of more than 64 bits
        return json.dumps(lasting, default=str).encode()


def _clean(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


def _read_row(packed: Any, latency: Any) -> StoredAnswer | None:
    # Somebody may have written into it: what cannot be read is asked for again, and then replaced.
    import orjson

    try:
        answer = orjson.loads(zlib.decompressobj().decompress(packed, _LARGEST))
        seconds = float(latency)
    except (zlib.error, ValueError, TypeError):
        return None
    is_answer = isinstance(answer, dict) and isinstance(answer.get("choices"), list) and seconds >= 0
    return StoredAnswer(answer, seconds) if is_answer else None
