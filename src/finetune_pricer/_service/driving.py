"""Carrying out what a generator asks for: it decides, and sync and async code do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Step = TypeVar("Step")
Result = TypeVar("Result")


def drive(steps: Generator[Step, Any, Result], do: Callable[[Step], Any]) -> Result:
    """Do each step and tell the generator what came of it, a `ServiceError` too; give what it returns."""
    resume: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = resume()
        except StopIteration as done:
            result: Result = done.value
            return result
        try:
            resume = partial(steps.send, do(step))
        except ServiceError as error:
            resume = partial(steps.throw, error)


async def adrive(steps: Generator[Step, Any, Result], do: Callable[[Step], Awaitable[Any]]) -> Result:
    """Do the same with steps that are awaited."""
    resume: Callable[[], Step] = partial(next, steps)
    while True:
        try:
            step = resume()
        except StopIteration as done:
            result: Result = done.value
            return result
        try:
            resume = partial(steps.send, await do(step))
        except ServiceError as error:
            resume = partial(steps.throw, error)
