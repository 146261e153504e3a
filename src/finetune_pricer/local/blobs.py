"""Contents, each kept once under the hash of its bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


class Blobs:
    """Content-addressed files. The database knows which of them are in use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def add(self, content: IO[bytes] | bytes) -> tuple[str, int]:
        """Keep some bytes; return their SHA-256 and how many they are."""
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as partial:
            try:
                for chunk in (
                    [content] if isinstance(content, bytes) else iter(lambda: content.read(1 << 20), b"")
                ):
                    digest.update(chunk)
                    size += partial.write(chunk)
                partial.flush()
                os.fsync(partial.fileno())
            except BaseException:
                Path(partial.name).unlink()
                raise
        Path(partial.name).replace(self.path(digest.hexdigest()))
        return digest.hexdigest(), size

    def path(self, sha256: str) -> Path:
        """Return where the content with this hash lies."""
        return self._folder / sha256

    def drop(self, sha256: str) -> None:
        """Remove a content, if it is there."""
        self.path(sha256).unlink(missing_ok=True)

    def sweep(self, used: Collection[str]) -> None:
        """Remove all contents but the used ones: halves that a kill left, and what came just before it."""
        for path in self._folder.iterdir():
            if path.is_file() and path.name not in used:
                path.unlink()
