"""Decisions without waiting: a flow says what to do next, and a driver does it.

A flow is a generator. To send a request, `yield Ask(request)`; to wait, `yield Pause(seconds)`. The answer
comes back as the value of the `yield`, and an error is raised there, so that the flow decides what follows.
The same flow runs under `run` and `stream` with `openai.OpenAI`, and under `arun` and `astream` with
`openai.AsyncOpenAI`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from ..errors import DataError, NotFound, PricerError, ServiceUnavailable
from .requests import Answer, Request, asend, is_async, send

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from tenacity import RetryCallState

T = TypeVar("T")


class Ask(NamedTuple):
    """Send a request; what comes back is the service's answer."""

    request: Request


class Pause(NamedTuple):
    """Wait some seconds."""

    seconds: float


class Work(NamedTuple):
    """Call a function that takes a while on this machine, such as hashing a file; its result comes back."""

    call: Callable[[], Any]


class Give(NamedTuple):
    """Hand something to the caller, who is iterating."""

    value: Any


Step = Ask | Pause | Work | Give
Flow = Generator[Step, Any, T]
Sleep = Callable[[float], Any]
AsyncSleep = Callable[[float], Awaitable[Any]]


def ask(request: Request) -> Flow[Answer]:
    """Send a request and return the answer."""
    answer: Answer = yield Ask(request)
    return answer


class _Steps(Generic[T]):
    """The steps of a flow, one after the other; what came of each is sent or thrown into the flow."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self._resume: Callable[[], Step] = partial(next, flow)
        self.result: T

    def __iter__(self) -> Iterator[Step]:
        while True:
            try:
                step = self._resume()
            except StopIteration as end:
                self.result = end.value
                return
            self._resume = partial(next, self._flow)
            yield step

    def close(self) -> None:
        """End the flow where it stands, so that it lets go of its locks and files."""
        self._flow.close()

    def send(self, outcome: Any) -> None:
        """Send what came of the step."""
        self._resume = partial(self._flow.send, outcome)

    def throw(self, error: BaseException) -> None:
        """Raise an error where the flow stands; it decides, about Ctrl-C and cancellation too."""
        self._resume = partial(self._flow.throw, error)


def run(client: OpenAI, flow: Flow[T], sleep: Sleep) -> T:
    """Carry out a flow to its end and return its result."""
    steps = _Steps(flow)
    for _ in _carry_out(client, steps, sleep):
        raise TypeError("a flow that hands things out is for stream()")
    return steps.result


def stream(client: OpenAI, flow: Flow[None], sleep: Sleep) -> Iterator[Any]:
    """Carry out a flow and yield what it hands out."""
    return _carry_out(client, _Steps(flow), sleep)


def _carry_out(client: OpenAI, steps: _Steps[Any], sleep: Sleep) -> Iterator[Any]:
    _require_door(client, awaits=False)
    with closing(steps):
        for step in steps:
            if isinstance(step, Give):
                yield step.value
                continue
            try:
                match step:
                    case Ask(request):
                        steps.send(send(client, request).answer)
                    case Pause(seconds):
                        steps.send(sleep(seconds))
                    case Work(call):
                        steps.send(call())
            except BaseException as error:  # noqa: BLE001 - see `throw`
                steps.throw(error)


def _require_door(client: OpenAI | AsyncOpenAI, *, awaits: bool) -> None:
    """Make sure that a client is of the kind whose answers are awaited, or of the other.

    Raises:
        DataError: It is not; nothing was sent.
    """
    if is_async(client) is not awaits:
        raise DataError(
            "what has `await` in front of it, such as aio.AsyncFineTuneJob, takes an openai.AsyncOpenAI, and "
            f"everything else takes an openai.OpenAI; this is {type(client).__name__}"
        )


async def arun(client: AsyncOpenAI, flow: Flow[T], sleep: AsyncSleep) -> T:
    """Do as `run` does, with an async client."""
    steps = _Steps(flow)
    async for _ in _acarry_out(client, steps, sleep):
        raise TypeError("a flow that hands things out is for astream()")
    return steps.result


def astream(client: AsyncOpenAI, flow: Flow[None], sleep: AsyncSleep) -> AsyncIterator[Any]:
    """Do as `stream` does, with an async client."""
    return _acarry_out(client, _Steps(flow), sleep)


async def _acarry_out(client: AsyncOpenAI, steps: _Steps[Any], sleep: AsyncSleep) -> AsyncIterator[Any]:
    import asyncio  # costs a third of what importing everything else does, and only async code needs it

    _require_door(client, awaits=True)
    with closing(steps):
        for step in steps:
            if isinstance(step, Give):
                yield step.value
                continue
            try:
                match step:
                    case Ask(request):
                        steps.send((await asend(client, request)).answer)
                    case Pause(seconds):
                        steps.send(await sleep(seconds))
                    case Work(call):
                        steps.send(await asyncio.to_thread(call))
            except BaseException as error:  # noqa: BLE001 - see `throw`
                steps.throw(error)


# Asking until something is done.

_FIRST_PAUSE, _GROWTH, _JITTER = 0.2, 1.5, 0.2  # seconds, but for the growth
LONGEST_PAUSE = 30.0
"""Seconds between two questions, at most."""
LONGEST_RETRY_AFTER = 300.0
"""Seconds that a service's own `Retry-After` may make us wait."""


def poll(
    ask_once: Callable[[], Flow[T]],
    *,
    done: Callable[[T], bool],
    timeout: float | None,
    late: Callable[[], PricerError],
    longest_pause: float = LONGEST_PAUSE,
) -> Flow[T]:
    """Ask until `done` says so, with growing pauses; raise `late()` after `timeout` seconds.

    A service that cannot be reached or is overloaded is asked again: that says nothing about the job. With
    `timeout=None` there is no end to it.

    Raises:
        DataError: `longest_pause` is not above 0.
        PricerError: What `late` returns, when the time is up.
        ServiceError: What `ask_once` raises, but for `ServiceUnavailable`.
    """
    import tenacity

    if not longest_pause > 0:
        raise DataError(f"poll must be above 0 seconds, not {longest_pause!r}")

    def give_up(state: RetryCallState) -> NoReturn:
        raise late() from (state.outcome.exception() if state.outcome else None)

    retrying = tenacity.Retrying(
        wait=lambda state: _pause_before_next(state, timeout, longest_pause),
        stop=lambda state: timeout is not None and _seconds_waited(state) >= timeout,
        retry=tenacity.retry_if_exception_type(ServiceUnavailable)
        | tenacity.retry_if_result(lambda answer: not done(answer)),
        retry_error_callback=give_up,
    )
    state = tenacity.RetryCallState(retrying, fn=None, args=(), kwargs={})
    retrying.begin()
    while True:
        # tenacity's own loop, but that the sleeping is the driver's.
        action = retrying.iter(retry_state=state)
        if isinstance(action, tenacity.DoAttempt):
            try:
                state.set_result((yield from ask_once()))
            except ServiceUnavailable as error:
                state.set_exception((type(error), error, error.__traceback__))
        elif isinstance(action, tenacity.DoSleep):
            state.prepare_for_next_attempt()
            yield Pause(float(action))
        else:
            result: T = action
            return result


def _pause_before_next(state: RetryCallState, timeout: float | None, longest: float) -> float:
    from tenacity import wait_exponential, wait_random

    growing = wait_exponential(multiplier=_FIRST_PAUSE, exp_base=_GROWTH, max=longest)
    pause = (growing + wait_random(0, _JITTER))(state)
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ServiceUnavailable) and error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
    # The last question is asked at the deadline, not up to half a minute before it.
    return pause if timeout is None else max(0.0, min(pause, timeout - _seconds_waited(state)))


def _seconds_waited(state: RetryCallState) -> float:
    # Planned pauses count too, so that a test which hands in its own sleep needs no clock. tenacity's clock
    # is the monotonic one: setting the machine's does not end a wait.
    return max(state.idle_for, state.seconds_since_start or 0.0)


# What comes late.

_LOOKS = (0.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each look: a slow gateway may pass a request on late
_DOUBT = 2.0  # seconds before a thing that is not there is asked for again


def look_repeatedly(look: Callable[[], Flow[T | None]]) -> Flow[T | None]:
    """Look for what a request made whose answer was lost, for half a minute; None where it is not found."""
    for pause in _LOOKS:
        if pause:
            yield Pause(pause)
        found = yield from look()
        if found is not None:
            return found
    return None


def ask_twice(ask_once: Callable[[], Flow[T]]) -> Flow[T]:
    """Ask for a thing, and once more where it is not there: a replica may not know the newest yet.

    Raises:
        NotFound: It is not there the second time either.
    """
    try:
        return (yield from ask_once())
    except NotFound:
        yield Pause(_DOUBT)
        return (yield from ask_once())


def pause_before_repeating(error: ServiceUnavailable) -> Pause:
    """Return the pause before a request that was surely not taken is sent again."""
    return Pause(min(error.retry_after or 1.0, LONGEST_RETRY_AFTER))


# Lists that come in pages.

MOST_PAGES = 10_000
"""Pages that are read of one list, at most."""


class Pages:
    """A list at a service, read page by page: each row once, and to an end at any service.

    Some services ignore `after` and send one page for ever, say `has_more` on the last page, or send rows
    twice. Reading ends with the first page that brings no new row.

    Args:
        request_page: Returns the request for the page after a row's id; after None, for the first page.
        most: Pages to read at most.
    """

    def __init__(self, request_page: Callable[[str | None], Request], *, most: int = MOST_PAGES) -> None:
        self._request_page = request_page
        self._left = most
        self._after: str | None = None
        self._seen: set[str] = set()

    def read_next(self) -> Flow[list[Answer]]:
        """Return the new rows of the next page; an empty list at the end."""
        if self._left <= 0:
            return []
        page = yield from ask(self._request_page(self._after))
        found = page.get("data")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        fresh = []
        for row in rows:
            if (name := _name_of(row)) not in self._seen:
                self._seen.add(name)
                fresh.append(row)
        self._after = _cursor_after(rows, page)
        self._left = self._left - 1 if page.get("has_more") and self._after is not None else 0
        return fresh

    def read_all(self) -> Flow[list[Answer]]:
        """Return all rows that are left."""
        rows: list[Answer] = []
        while page := (yield from self.read_next()):
            rows += page
        return rows

    def find(self, is_wanted: Callable[[Answer], bool]) -> Flow[Answer | None]:
        """Return the first row that is wanted; None where there is none."""
        while page := (yield from self.read_next()):
            for row in page:
                if is_wanted(row):
                    return row
        return None


def _name_of(row: Answer) -> str:
    # Not every service gives its rows an id.
    return str(row["id"]) if row.get("id") else json.dumps(row, sort_keys=True, default=str)


def _cursor_after(rows: list[Answer], page: Answer) -> str | None:
    last = rows[-1].get("id") if rows else None
    cursor = last or page.get("last_id")
    return str(cursor) if cursor else None
