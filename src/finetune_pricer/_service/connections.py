"""A client's connections: each process has its own, and an answer has a deadline and a largest size.

The openai client's timeout is for each piece of an answer: a service that sends a byte now and then is waited
for without end. Here it is for the whole answer. An upload or a download may take as much longer as its bytes
take at 16 KiB a second.

After `os.fork` two processes share the sockets that were open, and each reads the other's answers. A client
that opened its connections before the fork gets new ones in the child.
"""

from __future__ import annotations

import _thread
import math
import os
import time
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import httpx2

from ..errors import DataError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai import AsyncOpenAI, OpenAI

OneOf = TypeVar("OneOf", "OpenAI", "AsyncOpenAI")
T = TypeVar("T")

LARGEST_ANSWER = 16 * 2**20
"""Bytes of an answer, unpacked, that are read at most."""
LARGEST_FILE = 2 * 2**30
"""Bytes of a file that are read at most."""
CUT = "finetune_pricer.cut"
"""The extension of a response that was longer; its value is the most that was read, in bytes."""
_SLOWEST = 16 * 2**10  # bytes a second, of what is sent and of what comes back
_SLICE = 0.5  # seconds that a wait lasts at a time: on Windows no Ctrl-C ends one before it is over

_BORN_IN = os.getpid()
# In which process an HTTP client was first seen, and what stands for it in a process forked since.
_HOMES: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_COPIES: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()


def note_home(client: OpenAI | AsyncOpenAI) -> None:
    """Take note of the process that a client belongs to, as early as we see it."""
    if (http := getattr(client, "_client", None)) is not None:
        _home_of(http.inner if isinstance(http, _Guarded | _AsyncGuarded) else http)


def guard_client(client: OneOf) -> OneOf:
    """Return the client with connections of this process, and with a deadline and a size for its answers."""
    http: Any = getattr(client, "_client", None)
    if http is None or isinstance(http, _Guarded | _AsyncGuarded):
        return client
    guarded: Any = None
    if isinstance(http, httpx2.Client):
        guarded = _Guarded(http)
    elif isinstance(http, httpx2.AsyncClient):
        guarded = _AsyncGuarded(http)
    if guarded is not None:
        return client.with_options(http_client=guarded)
    _own(http)  # of a library that we do not know: used as it is, but not in a fork
    return client


def _is_openais_own(http: Any) -> bool:
    # Made by the openai client itself, so that another of the same settings can be made.
    return type(http).__name__ in {"SyncHttpxClientWrapper", "AsyncHttpxClientWrapper"}


def _home_of(http: Any) -> int:
    # One that is first seen in a fork may have been used before it; where it costs nothing, that is assumed.
    return _HOMES.setdefault(http, _BORN_IN if _is_openais_own(http) else os.getpid())


def _own(http: Any) -> Any:
    """Return an HTTP client whose connections are this process's own."""
    here = os.getpid()
    if _home_of(http) == here:
        return http
    if not _is_openais_own(http):
        raise DataError(
            "the client was made before this process was forked, and shares its connections with the parent; "
            "make the client in the worker, or leave out http_client="
        )
    made_in, copy = _COPIES.get(http, (0, None))
    if made_in != here:
        import openai

        kind = (
            openai.DefaultHttpxClient if isinstance(http, httpx2.Client) else openai.DefaultAsyncHttpxClient
        )
        copy = kind(base_url=http.base_url, timeout=http.timeout)
        _COPIES[http] = (here, copy)
    return copy


class _Deadline:
    """When an answer must be there as a whole, and how much of it has come."""

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request
        self._timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._began = time.monotonic()
        sent = request.headers.get("content-length", "")
        self._bytes = int(sent) if sent.isdecimal() else 0
        self.is_given_up = False
        is_file = request.url.path.endswith("/content")
        self.most = LARGEST_FILE if is_file else LARGEST_ANSWER

    def count(self, size: int) -> None:
        """Take note of bytes that have come.

        Raises:
            ReadTimeout: It is too late for them.
        """
        self._bytes += size
        if self.is_given_up or self.seconds_left() <= 0:
            raise self.error()

    def seconds_left(self) -> float:
        if self._timeout is None:
            return math.inf
        return self._began + self._timeout + self._bytes / _SLOWEST - time.monotonic()

    def error(self) -> httpx2.ReadTimeout:
        return httpx2.ReadTimeout("the whole answer did not come in time", request=self._request)


class _TimedStream(httpx2.SyncByteStream):
    def __init__(self, stream: Any, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._deadline.count(len(chunk))
            yield chunk

    def close(self) -> None:
        self._stream.close()


class _AsyncTimedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, deadline: _Deadline, limit: asyncio.Timeout) -> None:
        self._stream, self._deadline, self._limit = stream, deadline, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio

        async for chunk in self._stream:
            self._deadline.count(len(chunk))
            if (left := self._deadline.seconds_left()) < math.inf:
                self._limit.reschedule(asyncio.get_running_loop().time() + left)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Passing:
    """What is not set here is asked of the inner client: its base URL, its headers, whether it is closed."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "inner"), name)


class _Guarded(_Passing, httpx2.Client):
    """Passes requests on to an HTTP client, within bounds of time, size and process."""

    def __init__(self, inner: httpx2.Client) -> None:
        # No `super().__init__()`: it would make connections of its own.
        self.inner = inner

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        own = _own(self.inner)
        if stream:
            response: httpx2.Response = own.send(request, stream=True, **options)
            return response
        deadline = _Deadline(request)
        return _call_before(deadline, lambda: self._read(own, request, deadline, options))

    def _read(
        self, own: Any, request: httpx2.Request, deadline: _Deadline, options: dict[str, Any]
    ) -> httpx2.Response:
        response = own.send(request, stream=True, **options)
        try:
            deadline.count(0)
            response.stream = _TimedStream(response.stream, deadline)
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > deadline.most:
                    break
        finally:
            response.close()
        return _finish(response, content, deadline.most)


class _AsyncGuarded(_Passing, httpx2.AsyncClient):
    """Does as `_Guarded` does, for an async client."""

    def __init__(self, inner: httpx2.AsyncClient) -> None:
        self.inner = inner

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        import asyncio

        own = _own(self.inner)
        if stream:
            response: httpx2.Response = await own.send(request, stream=True, **options)
            return response
        deadline = _Deadline(request)
        left = deadline.seconds_left()
        try:
            async with asyncio.timeout(None if left == math.inf else left) as limit:
                return await self._read(own, request, deadline, limit, options)
        except TimeoutError as error:
            raise deadline.error() from error

    async def _read(
        self,
        own: Any,
        request: httpx2.Request,
        deadline: _Deadline,
        limit: asyncio.Timeout,
        options: dict[str, Any],
    ) -> httpx2.Response:
        response = await own.send(request, stream=True, **options)
        try:
            deadline.count(0)
            response.stream = _AsyncTimedStream(response.stream, deadline, limit)
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > deadline.most:
                    break
        finally:
            await response.aclose()
        return _finish(response, content, deadline.most)


def _finish(response: httpx2.Response, content: bytearray, most: int) -> httpx2.Response:
    """Return a response that is read and unpacked; the extension `CUT` says if there was more of it."""
    packing = {"content-encoding", "content-length", "transfer-encoding"}
    extensions = {**response.extensions, CUT: most} if len(content) > most else response.extensions
    return type(response)(
        response.status_code,
        headers=[(name, value) for name, value in response.headers.multi_items() if name not in packing],
        content=bytes(content[:most]),
        request=response.request,
        extensions=extensions,
        history=response.history,
        default_encoding=response.default_encoding,
    )


def _call_before(deadline: _Deadline, work: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Call a function in a thread, and wait for it until the deadline.

    What is late goes on by itself until its next byte, and ends there: nothing else can end a read.
    """
    if deadline.seconds_left() == math.inf:
        return work()
    outcomes: SimpleQueue[httpx2.Response | BaseException] = SimpleQueue()
    context = copy_context()

    def run() -> None:
        try:
            outcomes.put(context.run(work))
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            outcomes.put(error)

    # Not a `threading.Thread`: its start waits until the thread runs, which in a busy program takes a while.
    _thread.start_new_thread(run, ())
    try:
        outcome = _wait(outcomes, deadline)
    finally:
        deadline.is_given_up = True
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _wait(outcomes: SimpleQueue[T], deadline: _Deadline) -> T:
    while (left := deadline.seconds_left()) > 0:
        try:
            return outcomes.get(timeout=min(left, _SLICE))
        except Empty:
            continue
    raise deadline.error()
