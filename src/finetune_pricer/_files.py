"""Writing files so that a reader sees the old one or the whole new one, never half."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ._arguments import require_path
from .errors import DataError, FileAccessError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


# What the disk says without naming a file. Other errors inside the block are the caller's own.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# What numpy and zipfile raise where a file of arrays is damaged.
_DAMAGED = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
_ENDING = ".finetune_pricer.part"
_NAME_LENGTH = 40  # characters of a file's name in that of its temporary file; a name may have 255 bytes
_TRIES = 5  # to make a temporary file that is locked
_PIECE = 2**20  # bytes that are written into a device or pipe at a time
_ABANDONED = 3600.0  # seconds after which a temporary file is swept where there are no locks to ask
# Seconds before each further try, where another program such as a virus scanner has the old file open.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing and, when all went well, put its content at `path`.

    Missing folders are made. On an exception inside the block nothing is written, and what stood at `path`
    stays. A plain file is replaced as a whole, by renaming: it keeps its rights and, where that is allowed,
    its owner; a hard link to it keeps the old text. Where `path` is a symbolic link, the file that it leads
    to is replaced, and the link stays. A device, a pipe or this process's own output is written into.

    Args:
        path: Where the content belongs.
        durable: With False a power cut right afterwards may leave a torn file: for files that can be made
            again, and whose hash is looked at before they are used.

    Raises:
        FileAccessError: The folder or file cannot be written.
    """
    require_path("path", path)
    target = Path(path)
    try:
        stream = _open_stream(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    if stream is None:
        # Links are followed once, here, so that the same file is looked at and replaced.
        way = _replace_file(Path(os.path.realpath(target)), durable=durable)
    else:
        way = _fill_stream(stream, target)
    with way as file:
        yield file


def open_part(folder: Path, name: str, mode: int = 0o600) -> tuple[IO[bytes], Path]:
    """Make a temporary file, and sweep those that killed processes left in the folder.

    As long as it is open, no other process takes it for a leftover.

    Args:
        folder: Where it is made.
        name: The beginning of it becomes part of the file's name.
        mode: Its rights; the umask takes away from them.
    """
    _sweep(folder)
    tries = _TRIES
    while True:
        tries -= 1
        part = folder / f".{name[:_NAME_LENGTH]}.{os.urandom(4).hex()}{_ENDING}"
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        # Another process may sweep it between the line above and the lock. Not every file system has locks.
        if (_lock(handle) and os.fstat(handle).st_nlink) or not tries:
            return os.fdopen(handle, "w+b"), part
        os.close(handle)
        part.unlink(missing_ok=True)


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Make a folder in the system's temporary one, and remove it in the end.

    Those that killed processes left are swept, where the system can lock a folder.
    """
    place = Path(tempfile.gettempdir())
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_ENDING, dir=place))
    with ExitStack() as locked:
        if sys.platform != "win32":
            handle = os.open(folder, os.O_RDONLY)
            locked.callback(os.close, handle)
            _lock(handle)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Wait until the disk itself has a file that was written and closed."""
    with path.open("r+b") as file:
        _sync(file.fileno())


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of numbers by their names, as `numpy.savez` has written them; nothing is unpickled.

    Raises:
        DataError: The file holds something else, or was damaged.
        FileAccessError: The file cannot be read.
    """
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise FileAccessError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise DataError(f"{str(path)!r} holds no arrays of numbers, or was damaged: {error}") from error


def _open_stream(target: Path) -> int | None:
    """Open what can only be written into; None where there is a plain file or nothing."""
    try:
        found = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    # A shell's `> file` holds the file open: renamed away, it would get nothing that is printed later.
    for own in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.fstat(own), found):
                return os.dup(own)
    if stat.S_ISREG(found.st_mode):
        return None
    return os.open(target, os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0))


@contextmanager
def _fill_stream(stream: int, target: Path) -> Iterator[IO[bytes]]:
    # What has gone into a pipe cannot be taken back, so it is gathered first.
    try:
        with tempfile.TemporaryFile() as gathered:
            yield gathered
            gathered.seek(0)
            try:
                while piece := memoryview(gathered.read(_PIECE)):
                    while piece := piece[os.write(stream, piece) :]:
                        pass
            except OSError as error:
                raise _unwritable(target, error) from error
    except OSError as error:
        if error.errno in _DISK:
            raise _unwritable(target, error) from error
        raise
    finally:
        os.close(stream)


@contextmanager
def _replace_file(target: Path, *, durable: bool) -> Iterator[IO[bytes]]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        old = target.stat() if target.exists() else None
        # Never open to more people than the old file is; a new one is as the umask has it.
        file, part = open_part(target.parent, target.name, 0o666 if old is None else 0o600)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        with file:
            yield file
            file.flush()
            if durable:
                _sync(file.fileno())
            if old is not None:
                _take_over(file.fileno(), old)
            if sys.platform != "win32":  # still locked, so that it is not swept
                part.replace(target)
        if sys.platform == "win32":
            _replace_when_closed(part, target)
        if durable:
            _sync_folder(target.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and (
            error.filename in {str(part), str(target)} or error.errno in _DISK
        ):
            raise _unwritable(target, error) from error
        raise


def _take_over(handle: int, old: os.stat_result) -> None:
    """Let a new file have the owner and the rights of the old one."""
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(old.st_mode) & 0o777
    try:
        os.fchown(handle, old.st_uid, old.st_gid)
    except OSError:  # only root gives files away
        try:
            os.fchown(handle, -1, old.st_gid)
        except OSError:
            mode &= ~0o070  # what the old group might do is not another group's to do
    os.fchmod(handle, mode)


def _replace_when_closed(part: Path, target: Path) -> None:
    """Rename a file on Windows, which refuses that as long as any program has the old one open."""
    for pause in _PAUSES:
        with suppress(PermissionError):
            part.replace(target)
            return
        time.sleep(pause)
    part.replace(target)


def _sync(handle: int) -> None:
    """Wait until the disk itself has the file."""
    if sys.platform == "darwin":
        with suppress(OSError):  # a file system that knows no such order
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names; Windows keeps them by itself."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file until it is closed; False where another has it locked, or nothing can be locked."""
    if sys.platform == "win32":
        return True  # an open file cannot be removed there
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes that are gone; their locks went with them."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_ENDING):
                with suppress(OSError):
                    _sweep_part(entry)


def _sweep_part(entry: os.DirEntry[str]) -> None:
    is_folder = entry.is_dir(follow_symlinks=False)
    if sys.platform == "win32":  # which also refuses to remove what is open
        if not is_folder and time.time() - entry.stat().st_mtime > _ABANDONED:
            Path(entry).unlink()
        return
    # Neither a link of a stranger's nor a pipe is followed or waited for.
    handle = os.open(entry, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if _lock(handle):
            shutil.rmtree(entry) if is_folder else Path(entry).unlink()
    finally:
        os.close(handle)


def _unwritable(target: Path, error: OSError) -> FileAccessError:
    return FileAccessError(
        f"cannot write {str(target)!r}: {error.strerror or error}; choose a folder you may write to"
    )
