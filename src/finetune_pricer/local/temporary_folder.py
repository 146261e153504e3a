"""The folder of a server that was given none: removed when it stops, or later where it could not."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

_PREFIX = "finetune-pricer-"
_MARK = "temporary"
"""The name of a file that says: this folder is nobody's but a server's, which wants it removed."""
_YOUNG = 60.0  # seconds in which a folder may belong to a server that is just starting


def make_temporary_folder() -> Path:
    """Return a new folder that only its owner can read; first remove those that killed servers have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, sqlite3.Error):
            if is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (made / _MARK).touch(0o600)
    return made


def keep_folder(folder: Path) -> None:
    """Make a folder a lasting one: somebody has named it."""
    with contextlib.suppress(OSError):
        (folder / _MARK).unlink(missing_ok=True)


def is_abandoned(folder: Path) -> bool:
    """Return whether a folder was made by `make_temporary_folder`, by this user, and its server has gone."""
    mark, database = folder / _MARK, folder / "server.sqlite3"
    if folder.is_symlink() or not mark.is_file() or not database.is_file():
        return False
    if os.name == "posix" and folder.stat().st_uid != os.getuid():
        return False
    if time.time() - mark.stat().st_mtime < _YOUNG:
        return False
    return not _is_locked(database)


def _is_locked(database: Path) -> bool:
    """Return whether a server holds a database, as each does from its start to its end, however it ends."""
    connection = sqlite3.connect(database, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False  # no database any more, and so no server's
    finally:
        connection.close()
    return False
