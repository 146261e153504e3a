"""Run the engine: in threads for a sync client, in tasks for an async one; only the waiting is here.

asyncio is imported where tasks run: it costs a third of what importing the public names does, and most
programs have no use for it.
"""

from __future__ import annotations

import atexit
import math
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..chat import LookAhead
from ..errors import DataError, PricerError, ServiceError
from .engine import Engine, Sending

if TYPE_CHECKING:
    import asyncio

    from .._service.requests import Reply
    from ..items import Item
    from .prediction import Prediction

T = TypeVar("T")

_END = object()
_AHEAD = 8  # items taken in for each worker, so that one slow answer at the head does not idle the others

_PATIENCE = 5.0  # seconds that a Ctrl-C leaves to answers that are under way
_SLICE = 0.5  # seconds that a wait lasts at a time: on Windows no Ctrl-C ends one before it is over

Event = Callable[[float], None]
"""Hands the engine something that has happened, with the time."""
Send = Callable[[Sending], "Reply"]
AsyncSend = Callable[[Sending], Awaitable["Reply"]]


class _OrderedOutput:
    """Items on their way into the engine, and their predictions in the items' order."""

    def __init__(self, engine: Engine, items: Iterable[Item | str], workers: int) -> None:
        self._engine = engine
        self._ahead = _AHEAD * workers
        self._items = iter(items)
        self._waiting: dict[int, Prediction] = {}
        self._taken = self._given = 0
        self._more = True
        self._process = os.getpid()

    @property
    def is_the_parents(self) -> bool:
        """Whether the run was begun by the process that this one was forked from."""
        return os.getpid() != self._process

    def feed(self, put: Callable[[Callable[[float], None]], Any], is_idle: Callable[[], bool]) -> bool:
        """Hand items to the engine while nothing has come back; return whether any prediction is due."""
        while self._more and self._taken - self._given < self._ahead and is_idle():
            item: Any = next(self._items, _END)
            self._more = item is not _END
            if self._more:
                put(_make_add(self._engine, self._taken, item))
                self._taken += 1
        return self._more or self._given < self._taken

    def add(self, found: Iterable[tuple[int, Prediction]]) -> None:
        self._waiting.update(found)

    def ready(self) -> Iterator[Prediction]:
        while self._given in self._waiting:
            self._given += 1
            yield self._waiting.pop(self._given - 1)
            if self.is_the_parents:
                raise DataError("this stream is of the process that this one was forked from; begin another")


def run_in_threads(
    engine: Engine, items: Iterable[Item | str], send: Send, workers: int
) -> Iterator[Prediction]:
    """Ask about all items from threads; yield predictions in the items' order, as they come.

    Items are taken from the caller's thread. When the caller stops, nothing more is sent, and answers that
    are under way are waited for and kept; after a Ctrl-C for a few seconds only.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    results: queue.SimpleQueue[list[tuple[int, Prediction]] | BaseException] = queue.SimpleQueue()
    output = _OrderedOutput(engine, items, workers)
    threads = _Threads()
    work = (engine, send, threads.submit, events, results)
    name = "finetune-pricer-dispatcher"
    dispatcher = threading.Thread(target=_dispatch, args=work, name=name, daemon=True)

    def stop(patience: float | None = None) -> None:
        if output.is_the_parents:
            return  # and so are the threads, the answers and the database
        events.put(None)
        _join(dispatcher, patience)
        if not dispatcher.is_alive():
            threads.end()
            _flush_received(engine, events)

    # For a program that ends while it holds a stream half read: the threads must neither keep it from ending
    # nor be cut off before the answers that are under way are kept.
    atexit.register(stop)
    dispatcher.start()
    patience = None
    try:
        while output.feed(events.put, results.empty):
            found = _get(results)
            if isinstance(found, BaseException):
                raise found
            output.add(found)
            yield from output.ready()
    except KeyboardInterrupt as interrupt:
        patience = _PATIENCE
        interrupt.add_note(engine.how_to_go_on())
        raise
    finally:
        try:
            stop(patience)
        finally:
            atexit.unregister(stop)
        if not output.is_the_parents:
            engine.warn_of_unwritten()


def _get(results: queue.SimpleQueue[T]) -> T:
    while True:
        with suppress(queue.Empty):
            return results.get(timeout=_SLICE)


def _join(thread: threading.Thread, patience: float | None) -> None:
    until = math.inf if patience is None else time.monotonic() + patience
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        thread.join(min(left, _SLICE))


class _Threads:
    """Threads that a program does not wait for at its end; made as they are needed, and used again."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], None], under_way: int) -> None:
        """Do some work, one of so many that are under way."""
        self._work.put(work)
        if under_way > len(self._threads):
            thread = threading.Thread(target=self._run, name="finetune-pricer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # as many as the machine allows; those that there are do it
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)

    def end(self) -> None:
        """Let the threads end, and wait until they have: their work is done."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            _join(thread, None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _flush_received(engine: Engine, events: queue.SimpleQueue[Event | None] | asyncio.Queue[Event]) -> None:
    """Put on disk the answers that were received before a run ended early."""
    while not events.empty():
        event = events.get_nowait()
        # What went wrong with another answer was raised already.
        with suppress(Exception):
            if event is not None:
                event(time.monotonic())
    engine.flush()


def _make_add(engine: Engine, index: int, item: Item | str) -> Event:
    return lambda now: engine.add(index, item, now)


def _dispatch(
    engine: Engine,
    send: Send,
    submit: Callable[[Callable[[], None], int], None],
    events: queue.SimpleQueue[Event | None],
    results: queue.SimpleQueue[list[tuple[int, Prediction]] | BaseException],
) -> None:
    """Send the engine's requests and hand it the outcomes, until None is among the events."""

    def work(sending: Sending) -> None:
        events.put(_outcome(engine, sending, send))

    closing = False
    try:
        while not (closing and not engine.rate_limit.in_flight):
            step = math.inf if closing else engine.next(time.monotonic())
            if isinstance(step, Sending):
                submit(partial(work, step), engine.rate_limit.in_flight)
                continue
            for event in _drain(events, step):
                if event is None:
                    closing = True
                else:
                    event(time.monotonic())
            engine.flush()
            if not closing and (found := engine.take_finished()):
                results.put(found)
    except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
        results.put(error)
    finally:
        engine.close()


def _drain(events: queue.SimpleQueue[Event | None], wait: float) -> Iterator[Event | None]:
    """Yield the events that are there, at least one, or none after so many seconds."""
    try:
        yield events.get(timeout=None if wait == math.inf else wait)
        while True:
            yield events.get_nowait()
    except queue.Empty:
        return


def _outcome(engine: Engine, sending: Sending, send: Send) -> Event:
    try:
        reply = send(sending)
    except ServiceError as error:
        failure = error
        return lambda now: engine.take_error(sending, failure, now)
    except PricerError as error:  # such as a client that a forked process must not use
        return _raising(error)
    except Exception as error:  # noqa: BLE001 - such as a token provider's; it costs one try of one item
        crash = error
        return lambda now: engine.take_crash(sending, crash, now)
    except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
        return _raising(error)
    return lambda now: engine.take_answer(sending, reply, now)


def _raising(error: BaseException) -> Event:
    def fail(_: float) -> None:
        raise error

    return fail


async def run_in_tasks(
    engine: Engine, items: Iterable[Item | str], send: AsyncSend, workers: int
) -> AsyncIterator[Prediction]:
    """Ask about all items from tasks of the running loop; yield predictions in the items' order.

    When the caller stops or is cancelled, requests under way are cancelled with it.
    """
    import asyncio

    events: asyncio.Queue[Event] = asyncio.Queue()
    results: asyncio.Queue[list[tuple[int, Prediction]] | BaseException] = asyncio.Queue()
    under_way: set[asyncio.Task[None]] = set()
    output = _OrderedOutput(engine, items, workers)
    dispatcher = asyncio.create_task(_adispatch(engine, send, under_way, events, results))
    ahead = items if isinstance(items, LookAhead) else None

    def is_idle() -> bool:
        return results.empty() and (ahead is None or ahead.is_ready)

    try:
        while True:
            if ahead is not None:
                await asyncio.to_thread(ahead.fetch)
            if not output.feed(events.put_nowait, is_idle):
                break
            found = await results.get()
            if isinstance(found, BaseException):
                raise found
            output.add(found)
            for prediction in output.ready():
                yield prediction
    finally:
        left = [dispatcher, *under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        _flush_received(engine, events)
        if engine.cannot_write:  # which it tries for a while
            await asyncio.to_thread(engine.close)
        else:
            engine.close()
        engine.warn_of_unwritten()


async def _adispatch(
    engine: Engine,
    send: AsyncSend,
    under_way: set[asyncio.Task[None]],
    events: asyncio.Queue[Event],
    results: asyncio.Queue[list[tuple[int, Prediction]] | BaseException],
) -> None:
    import asyncio

    async def work(sending: Sending) -> None:
        events.put_nowait(await _aoutcome(engine, sending, send))

    try:
        while True:
            step = engine.next(time.monotonic())
            if isinstance(step, Sending):
                task = asyncio.create_task(work(step))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                # Lets this one go out before the next is made: answers that come together are else asked for
                # together again, and each round of them takes longer.
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if step == math.inf else step):
                    (await events.get())(time.monotonic())
            while not events.empty():
                events.get_nowait()(time.monotonic())
            engine.flush()
            if found := engine.take_finished():
                results.put_nowait(found)
    except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
        results.put_nowait(error)


async def _aoutcome(engine: Engine, sending: Sending, send: AsyncSend) -> Event:
    try:
        reply = await send(sending)
    except ServiceError as error:
        failure = error
        return lambda now: engine.take_error(sending, failure, now)
    except PricerError as error:  # such as a client that a forked process must not use
        return _raising(error)
    except Exception as error:  # noqa: BLE001 - such as a token provider's; it costs one try of one item
        crash = error
        return lambda now: engine.take_crash(sending, crash, now)
    return lambda now: engine.take_answer(sending, reply, now)
