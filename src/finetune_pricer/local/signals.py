"""The signals that ask a program to end, and what is still to be done before it does."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""As far as this system has them. SIGHUP comes when a terminal closes, SIGBREAK from Windows' Ctrl-Break."""
# SIGINT is not among these: Python raises KeyboardInterrupt, and leaves as it always does.
_ABRUPT = [number for number in ENDING if number != signal.SIGINT]
_last_acts: list[Callable[[], None]] = []


def do_at_end(act: Callable[[], None]) -> None:
    """Have something done before a signal ends this process, which then ends as it would have.

    A program that handles the signal itself goes on doing so. Signals can be handled in the main thread only:
    from another thread, nothing is done at a signal.
    """
    _last_acts.append(act)
    if threading.current_thread() is threading.main_thread():
        for number in _ABRUPT:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end)


def leave_undone(act: Callable[[], None]) -> None:
    """Take that back."""
    _last_acts.remove(act)
    if not _last_acts:
        restore_signals()


def restore_signals() -> None:
    """Let signals end this process without further acts."""
    if threading.current_thread() is threading.main_thread():
        for number in _ABRUPT:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> None:
    for act in _last_acts.copy():
        act()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
