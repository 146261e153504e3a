"""Writing files so that a reader sees the old one or the whole new one, never half."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .errors import FileAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator


# What the disk says without naming a file. Other errors inside the block are the caller's own.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for writing and, when all went well, rename it to `path`.

    Missing folders are made. On an exception inside the block the temporary file is removed and `path`
    stays as it was. With `durable=False` a power cut right afterwards may leave a torn file: for files that
    can be made again, and whose hash is looked at before they are used.

    Raises:
        FileAccessError: The folder or file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.chmod(_mode(target))
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and (
            error.filename in {str(part), str(target)} or error.errno in _DISK
        ):
            raise _unwritable(target, error) from error
        raise


def _mode(target: Path) -> int:
    # mkstemp makes files that only the owner reads; a written file keeps what stood there, else the umask's.
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _unwritable(target: Path, error: OSError) -> FileAccessError:
    return FileAccessError(
        f"cannot write {str(target)!r}: {error.strerror or error}; choose a folder you may write to"
    )
