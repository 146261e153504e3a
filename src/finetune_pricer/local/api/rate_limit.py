"""Rate limits: how many requests and tokens a minute may bring, and the headers that say so."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .responses import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..faults import FaultInjector

REQUESTS_PER_MINUTE = 600_000
TOKENS_PER_MINUTE = 1_000_000_000
"""The limits where no fault sets lower ones: more than one machine can ask for."""


class Meter:
    """A bucket that fills evenly: full after a minute of rest."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._seen = clock()

    @property
    def left(self) -> float:
        """How much may be taken now."""
        clock = self._clock()
        self._left = min(self.per_minute, self._left + (clock - self._seen) * self.per_minute / 60)
        self._seen = clock
        return self._left

    def take(self, amount: int) -> None:
        """Take from the bucket."""
        self._left -= amount

    def seconds_until(self, amount: float) -> float:
        """Return the seconds until so much is there."""
        return max(0.0, (amount - self.left) * 60 / self.per_minute)


class RateLimiter:
    """Counts chat requests and their tokens against the limits in force."""

    def __init__(self, injector: FaultInjector, clock: Callable[[], float] = time.monotonic) -> None:
        self._injector = injector
        self._clock = clock
        self._lock = threading.Lock()
        self._meters: dict[str, Meter] = {}

    def admit(self, model: str, tokens: int) -> dict[str, str]:
        """Count a request and return its headers; raise an `ApiError` with status 429 over a limit."""
        faults = self._injector.faults
        limits = {
            "requests": faults.requests_per_minute or REQUESTS_PER_MINUTE,
            "tokens": faults.tokens_per_minute or TOKENS_PER_MINUTE,
        }
        wanted = {"requests": 1, "tokens": tokens}
        with self._lock:
            meters = {kind: self._meter(kind, limit) for kind, limit in limits.items()}
            for kind, meter in meters.items():
                # More than a whole minute's worth would never fit: it is let through when the bucket is full.
                if meter.seconds_until(min(wanted[kind], meter.per_minute)) > 0:
                    raise _over_limit(model, kind, meters, wanted[kind])
            for kind, meter in meters.items():
                meter.take(wanted[kind])
            return _headers(meters)

    def _meter(self, kind: str, limit: int) -> Meter:
        meter = self._meters.get(kind)
        if meter is None or meter.per_minute != limit:
            meter = self._meters[kind] = Meter(limit, self._clock)
        return meter


def _headers(meters: dict[str, Meter]) -> dict[str, str]:
    headers = {}
    for kind, meter in meters.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(meter.per_minute)
        headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(meter.left)))
        headers[f"x-ratelimit-reset-{kind}"] = _format_duration(meter.seconds_until(meter.per_minute))
    return headers


def _format_duration(seconds: float) -> str:
    """Return a time as the service writes it: 120ms, 1.5s, 1m2s."""
    if seconds < 1:
        return f"{1_000 * seconds:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{seconds % 60:.0f}s"


def _over_limit(model: str, kind: str, meters: dict[str, Meter], wanted: int) -> ApiError:
    meter, short = meters[kind], {"requests": "RPM", "tokens": "TPM"}[kind]
    wait = meter.seconds_until(min(wanted, meter.per_minute))
    used = meter.per_minute - max(0, int(meter.left))
    message = (
        f"Rate limit reached for {model} in organization org-local on {kind} per min ({short}): "
        f"Limit {meter.per_minute}, Used {used}, Requested {wanted}. "
        f"Please try again in {_format_duration(wait)}."
    )
    # Whole milliseconds, rounded up: a client that comes back exactly then is let in.
    pause = {"retry-after-ms": str(int(wait * 1_000) + 1), "retry-after": str(int(wait) + 1)}
    headers = _headers(meters) | pause
    return ApiError(429, message, type_=kind, code="rate_limit_exceeded", headers=headers)
