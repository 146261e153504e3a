"""Checkpoints that a killed training may go on from: sealed with their files' hashes once all are there.

Their files are written one after the other, and a kill in between leaves some of them: such a folder looks
like a checkpoint and is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pathlib import Path

_SEAL = "sealed.json"


def seal_checkpoint(folder: Path) -> None:
    """Bring all files of a folder onto the disk, then write down their hashes."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _SEAL:
            with path.open("rb+") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
    part = folder / f".{_SEAL}"
    with part.open("wb") as file:
        file.write(orjson.dumps(hashes))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _SEAL)
    _sync_folder(folder)


def find_checkpoint(parent: Path) -> Path | None:
    """Return the newest checkpoint that is whole; remove all that are not."""
    whole = []
    for folder in parent.glob("checkpoint-*"):
        if _is_whole(folder):
            whole.append(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def _is_whole(folder: Path) -> bool:
    try:
        hashes = orjson.loads((folder / _SEAL).read_bytes())
        for name, wanted in hashes.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                    return False
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files onto the disk; Windows does so by itself, and opens no folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
