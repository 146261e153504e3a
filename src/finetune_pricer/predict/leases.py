"""Leases: which questions are under way, in whichever thread or process, so that no two pay for one answer.

A lease is a lock of the operating system on one byte of a file beside the store; the question's key says
which. Such a lock costs no write, is there on a full disk too, and goes with a process that is killed.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import weakref
from contextlib import suppress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_log = logging.getLogger("finetune_pricer")

LONGEST_WAIT = 600.0
"""Seconds to wait for the answer to a question that another thread or process asks."""
PAUSE = 0.1
"""Seconds between two looks for it."""
_PLACES = 2**31 - 1  # bytes that all systems can lock; two questions at one place wait for each other
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class Leases:
    """The leases of this process on one file. Not for another process: `find_leases` gives each its own."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._process = os.getpid()
        self._works = True
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        weakref.finalize(self, _close, self._handle, self._process)

    def take(self, key: str) -> bool:
        """Take the lease of a question; return whether it was free."""
        place = _place_of(key)
        with self._lock:
            if place in self._held:
                return False
            if self._works:
                try:
                    _lock_byte(self._handle, place)
                except OSError as error:
                    if error.errno in _TAKEN:
                        return False
                    self._works = False
                    _log.warning(
                        "this disk has no locks (%s): other processes with the same store may ask the same",
                        error.strerror or error,
                    )
            self._held.add(place)
            return True

    def give_back(self, key: str) -> None:
        """Let others ask a question; nothing happens where its lease is not held."""
        place = _place_of(key)
        with self._lock:
            if place in self._held:
                self._held.discard(place)
                if self._works:
                    with suppress(OSError):
                        _unlock_byte(self._handle, place)


# One object for each file and process: closing a second handle would let go of all locks of the process.
_OPEN: weakref.WeakValueDictionary[tuple[int, str], Leases] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _start_anew() -> None:
    # Another thread may have held it as the process was forked; there is no such thread in the child.
    global _opening  # noqa: PLW0603
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def find_leases(path: str) -> Leases:
    """Return this process's leases on a file, which is made where there is none.

    Raises:
        OSError: It cannot be made or opened.
    """
    whole = os.path.realpath(path)
    with _opening:
        key = (os.getpid(), whole)
        found = _OPEN.get(key)
        if found is None:
            found = _OPEN[key] = Leases(whole)
        return found


def _close(handle: int, process: int) -> None:
    # A forked child leaves its parent's handle open: closing it would let go of the child's own locks.
    if os.getpid() == process:
        with suppress(OSError):
            os.close(handle)


def _place_of(key: str) -> int:
    return int(key[:16], 16) % _PLACES


if sys.platform == "win32":

    def _lock_byte(handle: int, place: int) -> None:
        os.lseek(handle, place, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _unlock_byte(handle: int, place: int) -> None:
        os.lseek(handle, place, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:

    def _lock_byte(handle: int, place: int) -> None:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)

    def _unlock_byte(handle: int, place: int) -> None:
        fcntl.lockf(handle, fcntl.LOCK_UN, 1, place)
