"""Asking again until something is done: bounded, patient with lost connections, testable without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import PricerError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

T = TypeVar("T")

_FIRST, _GROWTH, _LONGEST, _JITTER = 0.2, 1.5, 30.0, 0.2  # seconds, but for the growth


def poll_until(
    ask: Callable[[], T],
    *,
    done: Callable[[T], bool],
    timeout: float | None,
    sleep: Callable[[float], Any],
    late: Callable[[], PricerError],
) -> T:
    """Ask until `done` says so, with growing pauses of at most 30 s; raise `late()` after `timeout` seconds.

    A service that cannot be reached or is overloaded is asked again: that says nothing about the job. With
    `timeout=None` there is no end to it.
    """
    from tenacity import Retrying, retry_if_exception_type, retry_if_result

    def give_up(state: RetryCallState) -> NoReturn:
        raise late() from (state.outcome.exception() if state.outcome else None)

    return Retrying(
        sleep=sleep,
        wait=lambda state: _pause(state, timeout),
        stop=lambda state: timeout is not None and _waited(state) >= timeout,
        retry=retry_if_exception_type(ServiceUnavailable) | retry_if_result(lambda found: not done(found)),
        retry_error_callback=give_up,
    )(ask)


def _pause(state: RetryCallState, timeout: float | None) -> float:
    from tenacity import wait_exponential, wait_random

    wait = wait_exponential(multiplier=_FIRST, exp_base=_GROWTH, max=_LONGEST) + wait_random(0, _JITTER)
    # The last question is asked at the deadline, not up to half a minute before it.
    return wait(state) if timeout is None else max(0.0, min(wait(state), timeout - _waited(state)))


def _waited(state: RetryCallState) -> float:
    # Planned pauses count too, so that a test which hands in its own sleep needs no clock.
    return max(state.idle_for, state.seconds_since_start or 0.0)
