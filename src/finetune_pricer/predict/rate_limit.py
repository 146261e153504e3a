"""The rate limit: how many requests may be in flight, and when the next may go; learned from the service.

It decides only: time and events are handed in, and it neither waits nor sends, so that it serves threads and
coroutines alike and can be tried by simulation.

1. It starts with a few requests at once and makes room for more with each answer, up to `most`. Where nobody
   gave a number, it stops growing when answers take twice as long as the fastest did.
2. On a refusal (HTTP 429) it halves the rate at which it was sending, and lets it grow again. A later refusal
   tells the service's rate: what was accepted between the two, for at both the allowance was used up. From
   then on it stays just below, and rises slowly at first.
3. When nothing is accepted between several refusals, the service counts by windows of time: all wait for the
   longest `Retry-After`, a minute at most.
4. Limits that are stated, by the user or by the service's headers, are kept from the start. Under a limit of
   tokens the first question goes alone: its answer tells how many a question takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .._service.headers import parse_number, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

INITIAL_IN_FLIGHT = 32
"""Requests at once in the beginning."""
_MORE = 0.5  # room for more that each answer makes
MAX_IN_FLIGHT = 64
"""Requests at once where nobody says how many, at most."""

_HALF = 0.5
_GROWTH = 0.25  # a second, by which a guessed rate rises after a refusal
_LESS = 0.9  # of a rate that was known, when it is refused again at once
_JUST_BELOW = 0.98
_ENOUGH = 10  # accepted requests between two refusals that tell a rate
_PAUSE = 0.05  # seconds after a refusal, for what was used up to come back
_CATCH_UP = 0.05  # seconds' worth of requests that may go at once after a late wake-up
_REFUSED_IN_A_ROW = 3
_LONGEST_HOLD = 60.0  # seconds; a service that asks for more is asked now and then whether it means it
_PLENTY = 0.2  # share of the limit that must be left for a burst


class Ticket(NamedTuple):
    """A request in flight."""

    number: int
    """Its place among all requests, counted from 1."""
    at: float
    """When it was sent, in seconds of the caller's clock."""


class RateLimit:
    """Decides when the next request may go.

    Args:
        most: Requests at once, at most; None adapts.
        requests_per_minute: A limit to keep.
        tokens_per_minute: A limit to keep; how many tokens a request takes is learned from answers.
    """

    def __init__(
        self,
        *,
        most: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self._most = most or MAX_IN_FLIGHT
        self._adapts = most is None
        self._window = float(min(INITIAL_IN_FLIGHT, self._most))
        self._stated = math.inf if requests_per_minute is None else requests_per_minute / 60
        self._stated_tokens = math.inf if tokens_per_minute is None else tokens_per_minute / 60
        self._tokens_each = 0.0
        self._tokens_are_known = tokens_per_minute is None  # how many tokens a request takes is known
        self._fastest = math.inf
        self._header_requests = _HeaderLimit()
        self._header_tokens = _HeaderLimit()
        self.in_flight = 0
        self.sent = 0
        self.refusals = 0
        self._first_at = 0.0
        self._next = -math.inf
        self._held_until = -math.inf
        self._rate, self._rate_since, self._is_sure = math.inf, 0.0, False
        self._mark: Ticket | None = None  # the refused request that the rate was last set by
        self._refused: list[int] = []  # later requests that were refused too
        self._slowed_at = 0  # requests sent by the time the rate was last set: their refusals say nothing new
        self._in_a_row = 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next request may go; `inf`: not before an answer comes."""
        if self.in_flight >= (int(self._window) if self._tokens_are_known else 1):
            return math.inf
        at = self._held_until
        if self._allowed_rate(now) < math.inf:
            at = max(at, self._next)
        return max(0.0, at - now)

    def send(self, now: float) -> Ticket:
        """Take note that a request is sent now."""
        if not self.sent:
            self._first_at = now
        self.sent += 1
        self.in_flight += 1
        self._header_requests.left -= 1
        self._header_tokens.left -= self._tokens_each
        rate = self._allowed_rate(now)
        self._next = max(self._next, now - _CATCH_UP) + self._gap(rate, now) if rate < math.inf else now
        return Ticket(self.sent, now)

    def take_answer(
        self, ticket: Ticket, now: float, *, tokens: float = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        """Take note of an answer and of the tokens that it cost."""
        self.in_flight -= 1
        if ticket.number > self._slowed_at:
            self._in_a_row = 0
        self._tokens_are_known = True
        self._tokens_each = tokens if not self._tokens_each else 0.9 * self._tokens_each + 0.1 * tokens
        took = now - ticket.at
        self._fastest = min(self._fastest, took)
        if not self._adapts or took < 2 * self._fastest + 0.05:
            self._window = min(self._window + _MORE, self._most)
        if headers:
            self._header_requests.update(headers, "requests", now)
            self._header_tokens.update(headers, "tokens", now)

    def take_failure(self) -> None:
        """Take note that a request came to nothing: a fault of the service or of the connection."""
        self.in_flight -= 1

    def take_refusal(self, ticket: Ticket, now: float, *, wait: float) -> None:
        """Take note of a 429 that asks to wait so many seconds."""
        self.in_flight -= 1
        self.refusals += 1
        self._refused.append(ticket.number)
        if ticket.number <= self._slowed_at:
            return
        self._in_a_row += 1
        if self._in_a_row >= _REFUSED_IN_A_ROW:
            self._held_until = max(self._held_until, now + min(wait, _LONGEST_HOLD))
        rate = self._rate_after(ticket, now)
        self._rate, self._rate_since = max(rate, 0.01), now
        self._next = now + _PAUSE
        self._mark, self._slowed_at = ticket, self.sent
        self._refused = [number for number in self._refused if number > ticket.number]
        self._window = float(self._most)

    def _rate_after(self, ticket: Ticket, now: float) -> float:
        if self._mark is None:
            return _HALF * ticket.number / max(ticket.at - self._first_at, 0.1)
        between = ticket.number - self._mark.number - 1
        accepted = between - sum(number < ticket.number for number in self._refused)
        if accepted >= _ENOUGH:
            self._is_sure = True
            return _JUST_BELOW * accepted / (ticket.at - self._mark.at)
        return (_LESS if self._is_sure else _HALF) * self._allowed_rate(now)

    def _allowed_rate(self, now: float) -> float:
        """Return the requests per second that may go now."""
        each = self._tokens_each
        tokens = min(self._stated_tokens, self._header_tokens.rate()) / each if each else math.inf
        return min(self._risen_rate(now), self._stated, self._header_requests.rate(), tokens)

    def _gap(self, rate: float, now: float) -> float:
        """Return the seconds from one request to the next."""
        if self._is_sure or rate < self._risen_rate(now):
            return 1 / rate
        # A guess rises meanwhile: where all were refused for long, it would else hold them for minutes.
        return math.log1p(_GROWTH / rate) / _GROWTH

    def _risen_rate(self, now: float) -> float:
        """Return the rate since the last refusal: it rises fast while it is a guess, else slowly at first."""
        age = now - self._rate_since
        if self._is_sure:
            return self._rate * (1 + 0.004 * age + 0.0015 * age**2)
        return self._rate * math.exp(min(_GROWTH * age, 50.0))


@dataclass(slots=True)
class _HeaderLimit:
    """One of the service's limits, as its headers stated it last."""

    limit: float = math.inf
    left: float = math.inf
    reset: float = 0.0

    def update(self, headers: Mapping[str, str], what: str, now: float) -> None:
        limit, left = (
            parse_number(headers.get(f"x-ratelimit-{word}-{what}")) for word in ("limit", "remaining")
        )
        if not limit or left is None:  # a limit of 0 on what was answered is none
            return
        # Answers overtake each other: of what is left, the smaller number is the later one, until the reset.
        self.limit = limit
        self.left = left if now >= self.reset else min(self.left, left)
        self.reset = now + (parse_seconds(headers.get(f"x-ratelimit-reset-{what}")) or 0.0)

    def rate(self) -> float:
        if self.limit == math.inf or self.left > _PLENTY * self.limit:
            return math.inf
        return max(_JUST_BELOW * self.limit / 60, 0.01)
