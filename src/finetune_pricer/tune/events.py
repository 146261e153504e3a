"""A job's events: in order, and each once, however the service lists them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from .._service.flow import Flow, Give, Pages, poll
from .._service.requests import list_events
from ..errors import (
    JobTimeout,
    NotFound,
    NotSupported,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from .queries import next_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .records import JobEvent

_log = logging.getLogger("finetune_pricer")

_LACKING = {404, 405, 501}  # what a service answers where it has no such list
_MOST_FAILURES = 8  # after the job's end, within about a quarter of a minute


def stream_events(
    job_id: str, *, look: Callable[[], Flow[bool]], in_order: bool, after: str | None
) -> Flow[None]:
    """Hand out a job's events as they happen, oldest first, each once, until it has ended.

    Args:
        job_id: The job.
        look: Asks for the job's status; whether it is final.
        in_order: Whether the service lists one second's events newest first; else their ids decide.
        after: The event after which to begin.

    Raises:
        NotFound: The job has no event `after`.
        ServiceUnavailable: The job has ended, and its events cannot be read.
    """
    log, reading = EventLog(in_order=in_order), _Reading(job_id)

    def read_round() -> Flow[tuple[bool, list[JobEvent]]]:
        # The status is asked for first: events that come after a final one are then in the list.
        is_final = yield from look()
        return is_final, (yield from reading.read(log, is_final=is_final))

    # Once the job has ended, until a whole reading has brought nothing: the last events may come late.
    ended, fresh = False, list["JobEvent"]()
    while fresh or not ended:
        ended, fresh = yield from poll(
            read_round,
            done=any,  # the job has ended, or there are new events
            timeout=None,
            late=lambda: JobTimeout(f"job {job_id!r} goes on", job_id=job_id),
        )
        if reading.problem is not None:
            raise reading.problem
        if after is not None and not reading.has_none:
            fresh, after = log.skip_to(after, fresh), None
        for event in fresh:
            yield Give(event)


def says_that_there_are_none(error: PricerError) -> bool:
    """Whether an error means that a service has no such list, and not that it is away or refuses."""
    lacks = isinstance(error, ServiceError) and error.status in _LACKING
    return lacks or isinstance(error, NotFound | NotSupported)


class _Reading:
    """Reads a job's events with patience: for a service that is away, and one that has no events at all."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._failures = 0
        self.has_none = False
        """Whether the service shows no events of jobs; then the status alone is followed."""
        self.problem: ServiceUnavailable | None = None
        """Why the events cannot be read to their end, though the job has ended."""

    def read(self, log: EventLog, *, is_final: bool) -> Flow[list[JobEvent]]:
        """Return the new events; an empty list where the service has none, or does not give them."""
        if self.has_none:
            return []
        try:
            found = yield from _read_new(self._job_id, log, everything=is_final)
        except (NotFound, NotSupported, RequestRejected, ServiceUnavailable) as error:
            # The job is known: it was asked for just now. So it is its events that are not.
            if says_that_there_are_none(error):
                _log.warning("the service shows no events of job %r (%s)", self._job_id, error)
                self.has_none = True
                return []
            if not isinstance(error, ServiceUnavailable):
                raise
            # While the job runs, it is waited for; after its end, a service that stays away is given up.
            self._failures = self._failures + 1 if is_final else 0
            if self._failures < _MOST_FAILURES:
                raise
            self.problem = error.with_message(
                f"job {self._job_id!r} has ended, and its events cannot be read: {error}; events() asks again"
            )
            return []
        self._failures = 0
        return found


def read_events(job_id: str, *, in_order: bool) -> Flow[list[JobEvent]]:
    """Return every event that the service has now, the oldest first, each once."""
    return (yield from _read_new(job_id, EventLog(in_order=in_order), everything=True))


def _read_new(job_id: str, log: EventLog, *, everything: bool) -> Flow[list[JobEvent]]:
    """Read the list of events until nothing new is in it; with `everything`, to its end."""
    pages, found = Pages(partial(list_events, job_id)), list["JobEvent"]()
    while events := (yield from next_events(pages)):
        found += events
        if not everything and all(event.id in log for event in events):
            break
    return log.add(found)


class EventLog:
    """Which of a job's events are known, and the order of those that are new.

    Held in memory: a job has some thousand events.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._known: set[str] = set()
        self._from = -1

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._known

    def add(self, events: Sequence[JobEvent]) -> list[JobEvent]:
        """Return those of a whole reading that are new, oldest first; they count as known from now on.

        Args:
            events: In the service's order.
        """
        fresh = {event.id: event for event in events if event.id not in self._known}
        self._known |= fresh.keys()
        wanted = [event for event in fresh.values() if event.created_at >= self._from]
        if self._in_order:  # newest first, also within one second
            wanted.reverse()
            return sorted(wanted, key=lambda event: event.created_at)
        return sorted(wanted, key=lambda event: (event.created_at, event.id))

    def skip_to(self, event_id: str, events: Sequence[JobEvent]) -> list[JobEvent]:
        """Return those of the first reading that come after an event; older ones never count as new again.

        Raises:
            NotFound: There is no such event.
        """
        for place, event in enumerate(events):
            if event.id == event_id:
                self._from = event.created_at
                return list(events[place + 1 :])
        raise NotFound(f"the job has no event {event_id!r}; leave `after` out to get them all")
