"""Texts as vectors, by a function of the user's: each text is asked about once, and kept on disk.

Such a function may be a service that charges for it, or a model that takes its time.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sqlite3
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._arguments import describe, require_function
from ._environment import find_state_folder
from ._sqlite import open_database, transaction
from .errors import DataError, FileAccessError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

Result = TypeVar("Result")

_log = logging.getLogger("finetune_pricer")

_MIGRATIONS = [
    """
    CREATE TABLE functions (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        probe BLOB NOT NULL             -- its vector of one text, by which it is known again
    );
    CREATE TABLE vectors (
        function INTEGER NOT NULL,
        text BLOB NOT NULL,             -- a hash of the text
        vector BLOB NOT NULL,           -- numbers of 32 bits, the lowest byte first
        PRIMARY KEY (function, text)
    ) WITHOUT ROWID
    """
]
_SELECT = "SELECT vector FROM vectors WHERE function = ? AND text = ?"
_FILE = "vectors.sqlite"
_AT_ONCE = 256  # texts that the function is handed at a time
_PROBE = "A brass desk lamp with a switch, 40 cm high."
_SAME = 0.9999  # cosine of two vectors of one text by one function; services compute them on various machines
_SHOWN = 40  # characters of a text in a message


class TextVectors:
    """Turns texts into vectors of length 1.

    Args:
        embed: Takes a list of texts, and gives a vector of numbers for each.
        length: How many numbers a vector has; 0 where the first one tells.

    Raises:
        WrongArgument: It is no function.
    """

    def __init__(self, embed: Callable[[list[str]], Any], length: int = 0) -> None:
        require_function("embed", embed, "a function from a list of texts to vectors")
        self._embed = embed
        self.name = _name_of(embed)
        """What it is called in fingerprints and messages."""
        self._length = length
        self._has_warned = False

    def of(self, texts: Sequence[str]) -> Vectors:
        """Return a row of length 1 for each text, those that are on disk without asking for them.

        Raises:
            DataError: The function gives no vector of finite numbers for a text, or one that is zero, or of
                another length than before.
        """
        import numpy as np

        distinct = list(dict.fromkeys(texts))
        found: dict[str, Vectors] = {}
        for start in range(0, len(distinct), _AT_ONCE):
            some = distinct[start : start + _AT_ONCE]
            found |= self._find(some)
        if not found:
            return np.zeros((0, 0), dtype=np.float32)
        for vector in found.values():
            self._length = self._length or len(vector)
            if len(vector) != self._length:
                raise self._refuse(f"one of {len(vector):,} numbers, and of {self._length:,} before")
        rows: Vectors = np.stack([found[text] for text in texts])
        return rows

    def _find(self, texts: list[str]) -> dict[str, Vectors]:
        """Return the vectors of at most `_AT_ONCE` texts."""
        kept = self._read(texts)
        missing = [text for text in texts if text not in kept]
        if not missing:
            return kept
        new = dict(zip(missing, self._ask(missing), strict=True))
        self._keep(new)
        return kept | new

    def _ask(self, texts: list[str]) -> Vectors:
        import numpy as np

        given = self._embed(list(texts))
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()
            raise self._refuse("an awaitable", "hand in a function that waits by itself")
        try:
            rows = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's
            raise self._refuse(describe(given), f"{type(error).__name__}: {error}") from error
        if rows.ndim != 2 or rows.shape[0] != len(texts) or not rows.shape[1]:
            shown = " x ".join(f"{length:,}" for length in rows.shape)
            raise self._refuse(f"{shown} numbers for {len(texts):,} texts" if shown else describe(given))
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(rows, axis=1)
        for row in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))[:1]:
            what = "zeros" if lengths[row] == 0 else "what is no finite number"
            raise self._refuse(f"{what} for the text {texts[row][:_SHOWN]!r}")
        made: Vectors = (rows / lengths[:, None]).astype(np.float32)
        return made

    def _refuse(self, given: str, hint: str = "") -> DataError:
        return DataError(
            f"embed={self.name} must give a vector of finite numbers for each text, all of one length and "
            f"none of them zero, and gave {given}" + (f"; {hint}" if hint else "")
        )

    def _read(self, texts: list[str]) -> dict[str, Vectors]:
        import numpy as np

        def look(database: sqlite3.Connection, number: int) -> dict[str, Vectors]:
            rows = {text: database.execute(_SELECT, (number, _hash(text))).fetchone() for text in texts}
            return {text: np.frombuffer(row[0], dtype="<f4") for text, row in rows.items() if row}

        return self._with_kept(look, otherwise={})

    def _keep(self, vectors: dict[str, Vectors]) -> None:
        def write(database: sqlite3.Connection, number: int) -> None:
            rows = [(number, _hash(text), _to_bytes(vector)) for text, vector in vectors.items()]
            with transaction(database):
                database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)

        self._with_kept(write, otherwise=None)

    def _with_kept(self, work: Callable[[sqlite3.Connection, int], Result], *, otherwise: Result) -> Result:
        """Do something with the vectors that are kept, by this function's number there.

        They can be asked for again: neither a full disk nor a folder that nobody may write to ends a run.
        """
        probe, path = self._probe, find_state_folder() / _FILE
        try:
            with closing(open_database(path, _MIGRATIONS)) as database:
                return work(database, _recognize(database, self.name, probe))
        except (FileAccessError, sqlite3.Error) as error:
            if not self._has_warned:
                _log.warning("vectors are not kept in %r, and are asked for each time: %s", str(path), error)
            self._has_warned = True
            return otherwise

    @cached_property
    def _probe(self) -> Vectors:
        # By its name a function cannot be known again: of two models, the method `encode` has one name.
        probe: Vectors = self._ask([_PROBE])[0]
        return probe


def is_same_vector(one: Vectors, other: Vectors) -> bool:
    """Whether two vectors of one text are by one function."""
    return one.shape == other.shape and float(one @ other) > _SAME


def _recognize(database: sqlite3.Connection, name: str, probe: Vectors) -> int:
    """Return the number under which the vectors of a function are kept."""
    import numpy as np

    rows = database.execute("SELECT number, probe FROM functions WHERE name = ?", (name,)).fetchall()
    for number, kept in rows:
        if is_same_vector(np.frombuffer(kept, dtype="<f4"), probe):
            return int(number)
    made = database.execute("INSERT INTO functions (name, probe) VALUES (?, ?)", (name, _to_bytes(probe)))
    return int(made.lastrowid or 0)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _to_bytes(vector: Vectors) -> bytes:
    return vector.astype("<f4").tobytes()


def _name_of(embed: Callable[..., Any]) -> str:
    """Return what a function is called, without what differs from process to process."""
    if isinstance(embed, partial):
        options = [
            *map(_show, embed.args),
            *(f"{key}={_show(value)}" for key, value in embed.keywords.items()),
        ]
        return f"{_name_of(embed.func)}({', '.join(options)})"
    named = embed if hasattr(embed, "__qualname__") else type(embed)
    return f"{getattr(embed, '__module__', None) or type(embed).__module__}.{named.__qualname__}"


def _show(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
