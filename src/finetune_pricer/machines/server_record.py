"""What this machine keeps of a server that it has started: its key, its log, where it is, and a lock."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from .._arguments import require_text
from .._environment import find_state_folder
from .._files import open_part
from .._lazy import compile_late
from ..errors import DataError, FileAccessError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEY_BYTES = 32
_NAME = compile_late(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_LOCK_PAUSE = 0.05  # seconds between two tries to get the lock


class ServerRecord:
    """One folder for each server, by where it runs and by its name; only its user can read what is in it."""

    def __init__(self, on: str, name: str) -> None:
        require_server_name(name)
        self.folder: Path = find_state_folder().absolute() / "servers" / f"{on}-{name}"
        self._facts = self.folder / "server.json"

    @property
    def key_file(self) -> Path:
        """Where the key is kept: a line of text."""
        return self.folder / "key"

    @property
    def log(self) -> Path:
        """Where what the server says is written, as far as it comes to this machine."""
        return self.folder / "server.log"

    @contextmanager
    def lock(self, patience: float) -> Iterator[None]:
        """Keep others from starting the same server; the lock goes with a process that is killed.

        Raises:
            ServiceUnavailable: Somebody else has been at it for longer than `patience` seconds.
            FileAccessError: The folder cannot be made or written.
        """
        from filelock import FileLock, Timeout  # brings asyncio

        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock", thread_local=False)
            held = lock.acquire(timeout=patience, poll_interval=_LOCK_PAUSE)
        except Timeout:
            raise ServiceUnavailable(
                f"another process has been starting this server for {patience:g} seconds; try again later"
            ) from None
        except OSError as error:
            raise self._unusable(error) from error
        with held:
            yield

    def read(self) -> dict[str, Any]:
        """Return what `write` was given; nothing where nothing can be read."""
        try:
            facts = json.loads(self._facts.read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def write(self, facts: dict[str, Any]) -> None:
        """Keep facts in the place of those that are there."""
        self._write(self._facts, json.dumps(facts, indent=2).encode())

    def read_key(self) -> str | None:
        """Return the key; None where this machine has none."""
        try:
            return self.key_file.read_text(encoding="ascii").strip() or None
        except (OSError, ValueError):
            return None

    def keep_key(self, given: str | None) -> str:
        """Return the key that was given, else the one that is kept, else a new one; keep it from now on."""
        key = given or self.read_key() or f"fp-{secrets.token_urlsafe(_KEY_BYTES)}"
        if key != self.read_key():
            self._write(self.key_file, f"{key}\n".encode("ascii"))
        return key

    def open_log(self) -> IO[bytes]:
        """Open the log to write behind what it holds."""
        try:
            return os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        except OSError as error:
            raise self._unusable(error) from error

    def keep_log(self, text: str) -> None:
        """Keep what the server has said, in the place of what was kept before."""
        self._write(self.log, text.encode("utf-8", "replace"))

    def _write(self, path: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Readable by its user only from the first byte on.
            file, part = open_part(self.folder, path.name)
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> FileAccessError:
        return FileAccessError(
            f"cannot use the folder {str(self.folder)!r} ({error.strerror or error}); make room, or name "
            "another by FINETUNE_PRICER_HOME"
        )


def require_server_name(name: object) -> None:
    """Make sure that a name can be that of a folder, a container, a job and a label.

    Raises:
        DataError: It cannot.
    """
    require_text("name", name)
    if not _NAME.fullmatch(str(name)):
        raise DataError(
            "name must be small letters, digits and hyphens, at most 40 of them, not "
            f"{name!r}; such as 'pricer'"
        )
