"""Answers on disk: each is there when it is received, so that a run that was killed goes on where it was."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .._sqlite import open_database
from ..errors import FileAccessError
from .completion import read_first_text, read_usage

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import pandas as pd

    from .._service.requests import Answer
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
    """
]
_COLUMNS = "item_id, model, reply, prompt_tokens, completion_tokens, latency, received_at"


class StoredAnswer(NamedTuple):
    """An answer, and how long it took."""

    answer: Answer
    latency: float
    """Seconds from question to answer."""


class AnswerStore:
    """Answers kept in an SQLite file, by model, messages and parameters; failures are not kept.

    Several threads and processes may use one file. The table `answers` can be read with any SQLite tool.

    Args:
        path: The file; made where there is none.

    Raises:
        FileAccessError: It cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._database = open_database(path, _MIGRATIONS)
        weakref.finalize(self, self._database.close)
        with self._usable():
            # Outlives a killed process. A power cut may cost the last answers; a sync for each costs more.
            self._database.execute("PRAGMA synchronous = NORMAL")

    def find(self, key: str) -> StoredAnswer | None:
        """Return the answer to a question; None if it was never received or cannot be read."""
        import orjson

        with self._usable():
            row = self._database.execute(
                "SELECT answer, latency FROM answers WHERE key = ?", (key,)
            ).fetchone()
        try:
            return (
                None
                if row is None
                else StoredAnswer(orjson.loads(zlib.decompress(row["answer"])), row["latency"])
            )
        except (zlib.error, orjson.JSONDecodeError):
            return None  # somebody has written into it; asked again, and then replaced

    def keep(self, key: str, model: str, item_id: str, answer: Answer, latency: float) -> None:
        """Write an answer; it is on disk after `commit`."""
        import orjson

        used = read_usage(answer)
        lasting = {name: answer[name] for name in ("choices", "usage") if name in answer}
        row: tuple[Any, ...] = (
            key,
            model,
            item_id,
            read_first_text(answer),
            used.prompt_tokens,
            used.completion_tokens,
            latency,
            time.time(),
            zlib.compress(orjson.dumps(lasting), 1),
        )
        with self._usable():
            if not self._database.in_transaction:
                self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                f"INSERT OR REPLACE INTO answers VALUES ({', '.join('?' * len(row))})",  # noqa: S608
                row,
            )

    def commit(self) -> None:
        """Put on disk what was kept since the last time."""
        with self._usable():
            if self._database.in_transaction:
                self._database.execute("COMMIT")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per answer: item_id, model, reply, tokens, latency (s), received_at (UTC)."""
        import pandas as pd

        with self._usable():
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM answers ORDER BY received_at").fetchall()  # noqa: S608
        frame = pd.DataFrame([tuple(row) for row in rows], columns=_COLUMNS.split(", "))
        frame["received_at"] = pd.to_datetime(frame["received_at"], unit="s", utc=True)
        return frame

    def close(self) -> None:
        """Put everything on disk and close the file."""
        self.commit()
        self._database.close()

    def __len__(self) -> int:
        with self._usable():
            return int(self._database.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AnswerStore({str(self._path)!r})"

    @contextmanager
    def _usable(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise FileAccessError(
                    f"cannot keep answers in {str(self._path)!r}: {error}; what was kept before stays"
                ) from error
