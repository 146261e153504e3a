"""`AdapterFolder`: a loaded adapter's files under their own names, for as long as a model needs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "finetune-pricer-adapter-"
_LOCK = ".in-use"
_YOUNG = 60.0  # seconds in which a folder may belong to a server that is just making it


class AdapterFolder:
    """A temporary folder with these files, held by a lock, which ends with its process, however that ends."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._process = os.getpid()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = FileLock(self.path / _LOCK, thread_local=False)
        self._lock.acquire(timeout=_YOUNG)
        for name, path in files.items():
            try:
                os.link(path, self.path / name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, self.path / name)

    def remove(self) -> None:
        """Let go of the files, unless they are those of the process that this one was forked from."""
        if os.getpid() != self._process:
            return
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the folders of this user's servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    state = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or time.time() - state.st_mtime < _YOUNG:
        return False
    if os.name == "posix" and state.st_uid != os.getuid():
        return False
    try:
        with FileLock(folder / _LOCK, blocking=False):
            return True
    except Timeout:
        return False
