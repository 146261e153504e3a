"""Decisions without waiting: a flow says what to do next, and a driver does it, in either world.

A flow is a generator that yields steps and is sent what came of them, errors included. The same flow runs
under `run` and `stream` with `openai.OpenAI`, and under `arun` and `astream` with `openai.AsyncOpenAI`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import requests

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

T = TypeVar("T")


class Ask(NamedTuple):
    """Send a request; what comes back is the service's answer."""

    request: requests.Request


class Pause(NamedTuple):
    """Wait some seconds."""

    seconds: float


class Work(NamedTuple):
    """Do something that takes a while on this machine, such as hashing a file; gives its result."""

    do: Callable[[], Any]


class Give(NamedTuple):
    """Hand something to the caller, who is iterating."""

    thing: Any


Step = Ask | Pause | Work | Give
Flow = Generator[Step, Any, T]
Sleep = Callable[[float], Any]
AsyncSleep = Callable[[float], Awaitable[Any]]


def ask(request: requests.Request) -> Flow[requests.Answer]:
    """Send a request."""
    answer: requests.Answer = yield Ask(request)
    return answer


def run(client: OpenAI, flow: Flow[T], sleep: Sleep) -> T:
    """Carry out a flow to its end and give its result."""
    try:
        step = next(flow)
        while True:
            try:
                outcome = _done(client, step, sleep)
            except BaseException as error:  # noqa: BLE001 - the flow decides, Ctrl-C included
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result


def stream(client: OpenAI, flow: Flow[None], sleep: Sleep) -> Iterator[Any]:
    """Carry out a flow and give what it hands out."""
    outcome: Any = None
    try:
        step = next(flow)
        while True:
            if isinstance(step, Give):
                yield step.thing
                step = next(flow)
                continue
            try:
                outcome = _done(client, step, sleep)
            except BaseException as error:  # noqa: BLE001 - the flow decides, Ctrl-C included
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration:
        return
    finally:
        flow.close()


def _done(client: OpenAI, step: Step, sleep: Sleep) -> Any:
    match step:
        case Ask(request):
            return requests.send(client, request)
        case Pause(seconds):
            return sleep(seconds)
        case Work(do):
            return do()
        case Give():
            raise TypeError("a flow that hands things out is for stream()")


async def arun(client: AsyncOpenAI, flow: Flow[T], sleep: AsyncSleep) -> T:
    """Do as `run` does, with an async client."""
    try:
        step = next(flow)
        while True:
            try:
                outcome = await _adone(client, step, sleep)
            except BaseException as error:  # noqa: BLE001 - the flow decides, cancellation included
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result


async def astream(client: AsyncOpenAI, flow: Flow[None], sleep: AsyncSleep) -> AsyncIterator[Any]:
    """Do as `stream` does, with an async client."""
    outcome: Any = None
    try:
        step = next(flow)
        while True:
            if isinstance(step, Give):
                yield step.thing
                step = next(flow)
                continue
            try:
                outcome = await _adone(client, step, sleep)
            except BaseException as error:  # noqa: BLE001 - the flow decides, cancellation included
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration:
        return
    finally:
        flow.close()


async def _adone(client: AsyncOpenAI, step: Step, sleep: AsyncSleep) -> Any:
    match step:
        case Ask(request):
            return await requests.asend(client, request)
        case Pause(seconds):
            return await sleep(seconds)
        case Work(do):
            import asyncio

            return await asyncio.to_thread(do)
        case Give():
            raise TypeError("a flow that hands things out is for astream()")
