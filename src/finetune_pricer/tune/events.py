"""A job's events: in order, and each once, however the service lists them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._service.flow import Flow, Give, Pages, poll
from .._service.requests import list_events
from ..errors import JobTimeout, NotFound
from .queries import next_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .records import JobEvent


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
    """
    log = EventLog(in_order=in_order)

    def read_round() -> Flow[tuple[bool, list[JobEvent]]]:
        # The status is asked for first: events that come after a final one are then in the list.
        is_final = yield from look()
        return is_final, (yield from _read_new(job_id, log, everything=is_final))

    # Once the job has ended, until a whole reading has brought nothing: the last events may come late.
    ended, fresh = False, list["JobEvent"]()
    while fresh or not ended:
        ended, fresh = yield from poll(
            read_round,
            done=any,  # the job has ended, or there are new events
            timeout=None,
            late=lambda: JobTimeout(f"job {job_id!r} goes on", job_id=job_id),
        )
        if after is not None:
            fresh, after = log.skip_to(after, fresh), None
        for event in fresh:
            yield Give(event)


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
