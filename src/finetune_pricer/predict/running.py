"""Running the engine: in threads for a sync client, in tasks for an async one; only the waiting."""

from __future__ import annotations

import asyncio
import atexit
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .._wire import Reply
from ..errors import DataError, ServiceError
from .engine import Engine, Sending

if TYPE_CHECKING:
    from ..items import Item
    from .prediction import Prediction

_END = object()
_AHEAD = 8  # items taken in for each worker, so that one slow answer at the head does not idle the others

Send = Callable[[Sending], Reply]
AsyncSend = Callable[[Sending], Awaitable[Reply]]


def _several(items: Iterable[Item | str]) -> Iterator[Item | str]:
    # A text would be asked about letter by letter, a frame by the names of its columns; each is paid for.
    if isinstance(items, str):
        raise DataError("many items are wanted, not one text; use predict() for that")
    if hasattr(items, "columns"):
        raise DataError("a frame is no sequence of items; use ItemDataset.from_pandas(frame, priced=False)")
    return iter(items)


class _Line:
    """Items on their way into the engine, and their predictions, given on in the items' order."""

    def __init__(self, engine: Engine, items: Iterable[Item | str], workers: int) -> None:
        self._engine = engine
        self._ahead = _AHEAD * workers
        self._items = _several(items)
        self._waiting: dict[int, Prediction] = {}
        self._taken = self._given = 0
        self._more = True

    def feed(self, put: Callable[[Callable[[float], None]], Any], is_idle: Callable[[], bool]) -> bool:
        """Hand items to the engine while nothing has come back; say whether any prediction is due."""
        while self._more and self._taken - self._given < self._ahead and is_idle():
            item: Any = next(self._items, _END)
            self._more = item is not _END
            if self._more:
                put(_adding(self._engine, self._taken, item))
                self._taken += 1
        return self._more or self._given < self._taken

    def add(self, found: Iterable[tuple[int, Prediction]]) -> None:
        self._waiting.update(found)

    def ready(self) -> Iterator[Prediction]:
        while self._given in self._waiting:
            self._given += 1
            yield self._waiting.pop(self._given - 1)


def in_threads(engine: Engine, items: Iterable[Item | str], send: Send, workers: int) -> Iterator[Prediction]:
    """Ask about all items from threads; give predictions in the items' order, as they come.

    Items are taken from the caller's thread. When the caller stops, nothing more is sent, and answers that
    are under way are waited for and kept.
    """
    from concurrent.futures import ThreadPoolExecutor

    events: queue.SimpleQueue[Callable[[float], None] | None] = queue.SimpleQueue()
    results: queue.SimpleQueue[list[tuple[int, Prediction]] | BaseException] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="finetune-pricer")
    dispatcher = threading.Thread(
        target=_dispatch,
        args=(engine, send, pool.submit, events, results),
        name="finetune-pricer-dispatcher",
        daemon=True,
    )

    def stop() -> None:
        events.put(None)
        dispatcher.join()
        pool.shutdown()

    # For a program that ends while it holds a stream half read: the thread must neither keep it from ending
    # nor be cut off before what is under way is kept.
    atexit.register(stop)
    dispatcher.start()
    line = _Line(engine, items, workers)
    try:
        while line.feed(events.put, results.empty):
            found = results.get()
            if isinstance(found, BaseException):
                raise found
            line.add(found)
            yield from line.ready()
    finally:
        stop()
        atexit.unregister(stop)


def _adding(engine: Engine, index: int, item: Item | str) -> Callable[[float], None]:
    return lambda now: engine.add(index, item, now)


def _dispatch(
    engine: Engine,
    send: Send,
    submit: Callable[..., Any],
    events: queue.SimpleQueue[Callable[[float], None] | None],
    results: queue.SimpleQueue[list[tuple[int, Prediction]] | BaseException],
) -> None:
    """Send what the engine says and tell it what comes, until None is among the events."""

    def work(sending: Sending) -> None:
        events.put(_outcome(engine, sending, send))

    closing = False
    try:
        while not (closing and not engine.pace.in_flight):
            step = math.inf if closing else engine.next(time.monotonic())
            if isinstance(step, Sending):
                try:
                    submit(work, step)
                except RuntimeError:  # the interpreter is ending
                    engine.pace.failed()
                    closing = True
                continue
            for event in _some(events, step):
                if event is None:
                    closing = True
                else:
                    event(time.monotonic())
            engine.flush()
            if not closing and (found := engine.take_finished()):
                results.put(found)
    except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
        results.put(error)


def _some(
    events: queue.SimpleQueue[Callable[[float], None] | None], wait: float
) -> Iterator[Callable[[float], None] | None]:
    """Give the events that are there, at least one, or none after so many seconds."""
    try:
        yield events.get(timeout=None if wait == math.inf else wait)
        while True:
            yield events.get_nowait()
    except queue.Empty:
        return


def _outcome(engine: Engine, sending: Sending, send: Send) -> Callable[[float], None]:
    try:
        reply = send(sending)
    except ServiceError as error:
        failure = error
        return lambda now: engine.failed(sending, failure, now)
    except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
        return _raising(error)
    return lambda now: engine.answered(sending, reply, now)


def _raising(error: BaseException) -> Callable[[float], None]:
    def fail(_: float) -> None:
        raise error

    return fail


async def in_tasks(
    engine: Engine, items: Iterable[Item | str], send: AsyncSend, workers: int
) -> AsyncIterator[Prediction]:
    """Ask about all items from tasks of the running loop; give predictions in the items' order, as they come.

    When the caller stops or is cancelled, requests under way are cancelled with it.
    """
    events: asyncio.Queue[Callable[[float], None]] = asyncio.Queue()
    results: asyncio.Queue[list[tuple[int, Prediction]] | BaseException] = asyncio.Queue()
    under_way: set[asyncio.Task[None]] = set()
    dispatcher = asyncio.create_task(_adispatch(engine, send, under_way, events, results))
    line = _Line(engine, items, workers)
    try:
        while line.feed(events.put_nowait, results.empty):
            found = await results.get()
            if isinstance(found, BaseException):
                raise found
            line.add(found)
            for prediction in line.ready():
                yield prediction
    finally:
        left = [dispatcher, *under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _adispatch(
    engine: Engine,
    send: AsyncSend,
    under_way: set[asyncio.Task[None]],
    events: asyncio.Queue[Callable[[float], None]],
    results: asyncio.Queue[list[tuple[int, Prediction]] | BaseException],
) -> None:
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
            try:
                async with asyncio.timeout(None if step == math.inf else step):
                    (await events.get())(time.monotonic())
            except TimeoutError:
                continue
            while not events.empty():
                events.get_nowait()(time.monotonic())
            engine.flush()
            if found := engine.take_finished():
                results.put_nowait(found)
    except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
        results.put_nowait(error)


async def _aoutcome(engine: Engine, sending: Sending, send: AsyncSend) -> Callable[[float], None]:
    try:
        reply = await send(sending)
    except ServiceError as error:
        failure = error
        return lambda now: engine.failed(sending, failure, now)
    except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
        return _raising(error)
    return lambda now: engine.answered(sending, reply, now)
