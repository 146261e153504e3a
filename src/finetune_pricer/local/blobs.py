"""Contents, each kept once under the hash of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROBE = bytes(2**16)


class Blobs:
    """Content-addressed files, readable by their owner only. The database knows which of them are in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, content: IO[bytes] | bytes) -> tuple[str, int]:
        """Write some bytes under a passing name; return their SHA-256 and how many they are."""
        digest, size = hashlib.sha256(), 0
        with self._create(self._folder / name) as file:
            for chunk in (
                [content] if isinstance(content, bytes) else iter(lambda: content.read(1 << 20), b"")
            ):
                digest.update(chunk)
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest(), size

    def keep(self, name: str, sha256: str) -> None:
        """Give what was written under a passing name the name of its hash."""
        try:
            (self._folder / name).replace(self.path(sha256))
        except PermissionError:
            # Windows replaces no file that is open: the same content is being sent, and stays.
            if not self.path(sha256).exists():
                raise

    def path(self, sha256: str) -> Path:
        """Return where the content with this hash lies."""
        return self._folder / sha256

    def drop(self, name: str) -> bool:
        """Remove a file, if it is there; return False where it cannot be removed now.

        Windows removes no file that is open, such as a content that is being sent.
        """
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def list_names(self) -> set[str]:
        """Return the names of all files that are there."""
        return {entry.name for entry in os.scandir(self._folder)}

    def probe(self, place: Path) -> None:
        """Write a little to the disk and take it away again; raise OSError where that cannot be done."""
        try:
            with self._create(place) as file:
                file.write(_PROBE)
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)

    @staticmethod
    def _create(path: Path) -> IO[bytes]:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))
