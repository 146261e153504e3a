"""Whether the server can do its work: whether its threads live, and whether it can write."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from ..shortage import describe_shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..database import Database
    from ..learners import Learner
    from ..queue_thread import QueueThread

log: logging.Logger = logging.getLogger("finetune_pricer.local")

_FRESH = 0.5  # seconds for which a finding is repeated, so that many who ask cost one look


class Health:
    """Finds what keeps the server from its work; may be asked by many threads."""

    def __init__(
        self,
        database: Database,
        threads: Sequence[QueueThread],
        clock: Callable[[], float] = time.monotonic,
        *,
        learners: Collection[Learner] = (),
    ) -> None:
        self._database = database
        self._threads = threads
        self._learners = learners
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, list[str]] | None = None

    def find_problems(self) -> list[str]:
        """Return what is wrong, as sentences without an end; start threads again that have died."""
        with self._lock:
            if self._found is None or self._clock() - self._found[0] > _FRESH:
                problems = self._look()
                if problems and (self._found is None or self._found[1] != problems):
                    log.warning("not healthy: %s", "; ".join(problems))
                self._found = self._clock(), problems
            return self._found[1]

    def _look(self) -> list[str]:
        problems = [thread.problem for thread in self._threads]
        problems += [learner.problem for learner in self._learners]
        for thread in self._threads:
            thread.revive()
        try:
            self._database.check()
        except (OSError, sqlite3.Error) as error:
            problems.append(describe_shortage(error) or f"the folder cannot be written ({error})")
        return list(dict.fromkeys(problem for problem in problems if problem))
