"""A thread that carries out what waits in a queue, and that nothing but `stop` ends."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from .shortage import describe_shortage

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

log: logging.Logger = logging.getLogger("finetune_pricer.local")

_PAUSE = 1.0  # seconds before what went wrong is tried again
_GRACE = 2.0  # seconds of work after which it goes well again


class QueueThread:
    """Carries out the ids in a queue, one after the other; several threads may share a queue.

    Work that raises is not lost. Where the machine is short of something, such as room on the disk, the same
    id is carried out again after a pause. After any other error it waits behind the others.

    Args:
        name: What the thread does, for its name and for `problem`.
        waiting: The ids. None, put there by `stop`, ends one thread.
        work: What to do with an id.
    """

    def __init__(self, name: str, waiting: queue.Queue[str | None], work: Callable[[str], None]) -> None:
        self._name = name
        self._waiting = waiting
        self._work = work
        self._stopping = threading.Event()
        self._present: str | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wrong: str | None = None
        self._passes_at = 0.0
        """When what went wrong will have passed, unless it goes wrong again."""
        self._logged: tuple[str, str] | None = None

    @property
    def problem(self) -> str | None:
        """What keeps the thread from its work, or None."""
        if self.is_dead:
            return f"the thread that {self._name} has died"
        return self._wrong if time.monotonic() < self._passes_at else None

    def start(self) -> None:
        """Start the thread."""
        with self._starting:
            self._start()

    def revive(self) -> None:
        """Start the thread again where it has died and could not be replaced for want of another thread."""
        with self._starting, contextlib.suppress(RuntimeError):
            if self.is_dead:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"finetune-pricer-{self._name}", daemon=True)
        thread.start()
        # Under the lock: a thread that dies at once starts the next one, which must not be forgotten for it.
        self._thread = thread

    @property
    def is_dead(self) -> bool:
        """Whether the thread was started, and has ended though nobody stopped it."""
        return not self._stopping.is_set() and self._thread is not None and not self._thread.is_alive()

    def stop(self) -> None:
        """Ask the thread to end after its present work; the queue wakes it where it waits."""
        self._stopping.set()
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until the thread has ended, in slices: on Windows, Ctrl-C cannot interrupt a longer wait."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._present is None:
                    self._present = self._waiting.get()
                if self._present is None:
                    return
                self._carry_out(self._present)
        except BaseException as error:  # noqa: BLE001  whatever it is, the work goes on
            if not self._stopping.is_set():
                log.error("the thread that %s died: %s", self._name, type(error).__name__)  # noqa: TRY400
                self.start()

    def _carry_out(self, work: str) -> None:
        self._passes_at = time.monotonic() + _GRACE
        try:
            self._work(work)
        except BaseException as error:  # noqa: BLE001  a SystemExit of a learner must not end the thread either
            shortage = describe_shortage(error)
            # Only the kind: a message might hold a piece of a prompt.
            self._wrong = shortage or f"{work} cannot be carried out ({type(error).__name__})"
            if (work, self._wrong) != self._logged:
                self._logged = (work, self._wrong)
                log.warning("%s waits, and is tried again: %s", work, self._wrong)
            self._passes_at = math.inf
            self._stopping.wait(_PAUSE)
            if shortage is not None:
                return
            self._waiting.put(work)
        else:
            self._wrong = None
        self._present = None
