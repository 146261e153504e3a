"""The limit of requests, by simulation: time and a service that only this file knows."""

from collections import Counter
from typing import Any

import pytest

from finetune_pricer._service.headers import parse_seconds
from finetune_pricer.predict.rate_limit import RateLimit, Ticket


class Service:
    """Accepts so many requests a second, `burst` of them at once; or so many in each window of time."""

    def __init__(self, limit: float, *, burst: float = 0, window: float = 0) -> None:
        self.limit, self.burst, self.window = limit, burst, window
        self.level, self.filled, self.used = burst, 0.0, Counter[int]()

    def wait(self, now: float) -> float:
        """Give 0 for a request that is accepted, else the seconds after which to ask again."""
        if self.window:
            place = int(now / self.window)
            self.used[place] += 1
            return 0.0 if self.used[place] <= self.limit * self.window else (place + 1) * self.window - now
        self.level = min(self.burst, self.level + (now - self.filled) * self.limit)
        self.filled = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.limit


def simulate(
    service: Service, *, count: int, latency: float, most: int = 64, **stated: Any
) -> tuple[float, float]:
    """Send `count` requests; give the time over the ideal time, and the share of requests refused."""
    limit, now, last = RateLimit(most=most, **stated), 0.0, 0.0
    fresh = count
    again: list[float] = []
    events: list[tuple[float, Ticket, float]] = []
    while fresh or again or events:
        while (again and again[0] <= now) or fresh:
            if limit.delay(now) > 0:
                break
            if again and again[0] <= now:
                del again[0]
            else:
                fresh -= 1
            ticket, wait = limit.send(now), service.wait(now)
            events.append((now + (0.02 if wait else latency), ticket, wait))
        events.sort()
        times = [event[0] for event in events[:1]]
        if limit.delay(now) < float("inf") and (fresh or again):
            times.append(max(now + limit.delay(now), 0.0 if fresh else again[0]))
        now = max(now + 1e-6, min(times))
        while events and events[0][0] <= now:
            _, ticket, wait = events.pop(0)
            if wait:
                limit.take_refusal(ticket, now, wait=wait)
                again = sorted([*again, now + wait])
            else:
                limit.take_answer(ticket, now)
                last = now
    ideal = max((count - service.burst) / service.limit, count / most * latency)
    return last / ideal, limit.refusals / limit.sent


def test_without_a_limit_the_pace_reaches_its_concurrency_quickly() -> None:
    assert simulate(Service(1e9, burst=1e9), count=2_000, latency=0.3)[0] < 1.08


@pytest.mark.parametrize("latency", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(("limit", "burst"), [(20, 20), (50, 6), (50, 50), (100, 100)])
def test_an_unknown_limit_costs_little_time_and_few_refusals(
    limit: float, burst: float, latency: float
) -> None:
    slowdown, refused = simulate(Service(limit, burst=burst), count=1_000, latency=latency)
    assert slowdown < 1.15
    assert refused < 0.05


@pytest.mark.parametrize("window", [1, 10])
def test_a_limit_by_windows_of_time_is_waited_out(window: float) -> None:
    slowdown, refused = simulate(Service(50, window=window), count=1_000, latency=0.2)
    assert slowdown < 1.5
    assert refused < 0.15


def test_a_stated_limit_meets_no_refusal() -> None:
    slowdown, refused = simulate(Service(50, burst=5), count=500, latency=0.3, requests_per_minute=2_940)
    assert refused == 0
    assert slowdown < 1.1


def test_a_stated_limit_of_tokens_slows_requests_by_what_they_cost() -> None:
    limit = RateLimit(most=8, tokens_per_minute=6_000)
    limit.take_answer(limit.send(0.0), 0.1, tokens=50)
    limit.send(1.0)
    assert limit.delay(1.0) == pytest.approx(0.5, abs=0.1)


def test_under_a_limit_of_tokens_the_first_question_goes_alone() -> None:
    limit = RateLimit(most=8, tokens_per_minute=6_000)
    first = limit.send(0.0)
    assert limit.delay(0.0) == float("inf")
    limit.take_answer(first, 0.1, tokens=1_000)
    limit.send(0.1)
    assert limit.delay(0.1) == pytest.approx(10, rel=0.1)


def test_a_limit_of_zero_is_none() -> None:
    limit = RateLimit(most=8)
    told = {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}
    limit.take_answer(limit.send(0.0), 0.1, headers=told)
    limit.send(0.1)
    assert limit.delay(0.1) == 0


def test_a_wait_of_a_day_holds_nothing_else_for_longer_than_a_minute() -> None:
    limit = RateLimit(most=8)
    for _ in range(6):
        limit.take_refusal(limit.send(0.0), 0.1, wait=86_400)
    assert limit.delay(0.1) <= 60


def test_no_more_than_asked_for_are_under_way() -> None:
    limit = RateLimit(most=3)
    for _ in range(3):
        assert limit.delay(0.0) == 0
        limit.send(0.0)
    assert limit.delay(0.0) == float("inf")
    limit.take_failure()
    assert limit.delay(0.0) == 0


def test_answers_that_become_slow_stop_the_growth() -> None:
    limit = RateLimit()
    for number in range(200):
        limit.take_answer(limit.send(number), number + (0.1 if number < 10 else 1.0))
    waiting = 0
    while limit.delay(1_000.0) == 0:
        limit.send(1_000.0)
        waiting += 1
    assert waiting == 37  # 32 at first, and half a one more with each of the ten quick answers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("..s", None),
        ("1:30", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (".5s", 0.5),
        ("20", 20),
        ("1.5", 1.5),
        ("6m0s", 360),
        ("120ms", 0.12),
        ("soon", None),
        (None, None),
        ("1e300", 30 * 86_400),
        ("9" * 20, 30 * 86_400),
        ("99999999h", 30 * 86_400),
        ("1" * 20_000, None),
        ("1." * 20_000, None),
        ("1m" * 20_000, None),
    ],
)
def test_waits_are_read_as_services_write_them(text: str | None, seconds: float | None) -> None:
    assert parse_seconds(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_rate_that_sank_while_all_was_refused_does_not_hold_the_next_request_for_minutes() -> None:
    limit, now = RateLimit(), 0.0
    while now < 25:
        now += max(limit.delay(now), 0.1)
        limit.take_refusal(limit.send(now), now, wait=1.0)
    limit.take_answer(limit.send(now + limit.delay(now)), now)
    assert limit.delay(now) < 20
