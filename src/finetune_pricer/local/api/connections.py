"""The HTTP server, which cuts connections that hold it up: half-sent requests, and answers that nobody reads.

uvicorn bounds the time between two requests of a connection, and nothing else. A client that sends half a
request and waits keeps its connection for good; hundreds of them use up the files that a process may open.
"""

from __future__ import annotations

import sys
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp

PATIENCE = 30.0
"""Seconds that the head of a request may take, and that a client may rest inside a body or an answer."""
SLOWEST = 500
"""Bytes a second that a body must bring on average, after its first `PATIENCE` seconds."""
_SHARE = 0.6  # of the files that a process may open; the others are for blobs, pipes and the database
_MOST = 10_000
_SETTINGS: dict[str, Any] = {
    "log_config": None,
    "log_level": "critical",  # the middleware logs failed requests, without their content
    "access_log": False,
    "lifespan": "off",
    "ws": "none",
    "timeout_graceful_shutdown": 5,
}


class Connection(H11Protocol):
    """A client's connection, which counts what arrives and how many requests it has answered."""

    received = 0
    answered = 0

    def data_received(self, data: bytes) -> None:
        """Take some bytes from the client."""
        self.received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Get ready for the next request."""
        self.answered += 1
        super().on_response_complete()

    @property
    def phase(self) -> str:
        """What it waits for: the `head` of a request, its `body`, or that the `answer` is made and read."""
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else "answer"


class HttpServer(uvicorn.Server):
    """uvicorn with a watch over its connections; `run` serves until `should_exit` is set."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(uvicorn.Config(app, http=Connection, **_SETTINGS))
        self._watch = Watch(limit=find_limit())

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections, twice a second, and return whether to stop."""
        if counter % 5 == 0:
            self._watch.look(self.server_state.connections)
        return await super().on_tick(counter)

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors of all connections."""
        sockets = [each.transport.get_extra_info("socket") for each in self.server_state.connections]
        return [socket.fileno() for socket in sockets if socket is not None]


@dataclass(slots=True)
class _Seen:
    """What the watch remembers of a connection."""

    looked: float
    phase: tuple[str, int]
    began: float = 0.0
    """When the phase began, later by what the server did not read in the meantime."""
    moved: float = 0.0
    """When something was last seen to go to or fro."""
    received_before: int = 0
    received: int = 0
    unread: int = 0

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has kept the server waiting for too long."""
        match self.phase[0]:
            case "head":
                return now - self.began > PATIENCE
            case "body":
                allowed = PATIENCE + (self.received - self.received_before) / SLOWEST
                return now - self.moved > PATIENCE or now - self.began > allowed
            case _:
                return self.unread > 0 and now - self.moved > PATIENCE


class Watch:
    """Remembers how long each connection has been waiting for its client, and cuts those that wait too long.

    Args:
        limit: How many connections there may be. Above it, those that wait for a request are cut, those whose
            clients have been silent longest first, so that a new one is answered.
        clock: What tells the time, in seconds.
    """

    def __init__(self, *, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: weakref.WeakKeyDictionary[Any, _Seen] = weakref.WeakKeyDictionary()

    def look(self, connections: Iterable[Any]) -> None:
        """Look at all connections, and cut those that hold the server up."""
        now, count = self._clock(), 0
        waiting: list[tuple[float, Any]] = []
        for connection in list(connections):
            seen = self._update(connection, now)
            if seen.is_overdue(now):
                connection.transport.abort()
                continue
            count += 1
            if seen.phase[0] != "answer":
                waiting.append((seen.moved, connection))
        waiting.sort(key=lambda pair: pair[0])
        for _, connection in waiting[: max(0, count - self._limit)]:
            connection.transport.abort()

    def _update(self, connection: Any, now: float) -> _Seen:
        phase = connection.phase, connection.answered
        seen = self._seen.get(connection)
        if seen is None:
            seen = self._seen[connection] = _Seen(looked=now, phase=("", 0))
        unread = connection.transport.get_write_buffer_size()
        if seen.phase != phase:
            seen.phase, seen.began, seen.moved = phase, now, now
            seen.received_before = connection.received
        elif connection.flow.read_paused:
            # The server has not yet taken what is there: that is not the client's doing.
            seen.began += now - seen.looked
            seen.moved = now
        if connection.received != seen.received or unread != seen.unread:
            seen.moved = now
        seen.looked, seen.received, seen.unread = now, connection.received, unread
        return seen


def find_limit() -> int:
    """Return how many connections there may be: a share of the files that this process may open."""
    if sys.platform == "win32":  # where sockets are not counted as files
        return _MOST
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(1, min(_MOST, int(files * _SHARE)))
