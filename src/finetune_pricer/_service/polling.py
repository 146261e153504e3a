"""Asking again until something is done: bounded, patient with lost connections, testable without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from ..errors import DataError, PricerError, ServiceUnavailable
from .flow import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from .flow import Flow

T = TypeVar("T")

_FIRST, _GROWTH, _JITTER = 0.2, 1.5, 0.2  # seconds, but for the growth
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 300.0  # seconds that a service's own Retry-After may make us wait


def polled(
    ask: Callable[[], Flow[T]],
    *,
    done: Callable[[T], bool],
    timeout: float | None,
    late: Callable[[], PricerError],
    poll: float = LONGEST_PAUSE,
) -> Flow[T]:
    """Ask until `done` says so, with growing pauses of at most `poll` s; raise `late()` after `timeout` s.

    A service that cannot be reached or is overloaded is asked again: that says nothing about the job. With
    `timeout=None` there is no end to it.
    """
    from tenacity import Retrying, retry_if_exception_type, retry_if_result

    if not poll > 0:
        raise DataError(f"poll must be above 0 seconds, not {poll!r}")

    def give_up(state: RetryCallState) -> NoReturn:
        raise late() from (state.outcome.exception() if state.outcome else None)

    pauses: list[float] = []
    found: list[T] = []
    attempts = Retrying(
        sleep=pauses.append,
        wait=lambda state: _pause(state, timeout, poll),
        stop=lambda state: timeout is not None and _waited(state) >= timeout,
        retry=retry_if_exception_type(ServiceUnavailable) | retry_if_result(lambda answer: not done(answer)),
        retry_error_callback=give_up,
    )
    for attempt in attempts:
        if pauses:
            yield Pause(pauses.pop())
        with attempt:
            found[:] = [(yield from ask())]
        outcome = attempt.retry_state.outcome
        if outcome is not None and not outcome.failed:
            attempt.retry_state.set_result(found[0])
    return found[0]


def _pause(state: RetryCallState, timeout: float | None, poll: float) -> float:
    from tenacity import wait_exponential, wait_random

    pause = (wait_exponential(multiplier=_FIRST, exp_base=_GROWTH, max=poll) + wait_random(0, _JITTER))(state)
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ServiceUnavailable) and error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_ASKED))
    # The last question is asked at the deadline, not up to half a minute before it.
    return pause if timeout is None else max(0.0, min(pause, timeout - _waited(state)))


def _waited(state: RetryCallState) -> float:
    # Planned pauses count too, so that a test which hands in its own sleep needs no clock. tenacity's clock
    # is the monotonic one: setting the machine's does not end a wait.
    return max(state.idle_for, state.seconds_since_start or 0.0)
