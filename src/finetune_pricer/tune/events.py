"""A job's events: taken as they come, given in order and each once."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator, model_validator

from .._service import requests
from .._service.flow import Flow, Give, ask
from .._service.polling import polled
from .._sqlite import temporary_database, transaction
from ..errors import NotFound
from .records import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

_PAGE = 100


class JobEvent(Said):
    """Something that happened to a job; further fields are kept.

    Attributes:
        id: The service's name for it.
        created_at: Unix time in seconds.
        level: `info`, `warn` or `error`, as a rule.
        message: What happened, for people.
        type: `message` or `metrics`, as a rule.
        data: Numbers of a metrics event: `step`, `total_steps`, `train_loss`, `valid_loss`, ...
    """

    noun = "event"

    id: str
    created_at: int = 0
    level: str = "info"
    message: str = ""
    type: str = "message"
    data: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_content(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("id") is None:
            content = json.dumps(value, sort_keys=True, default=str)
            return value | {"id": f"unnamed-{hashlib.sha256(content.encode()).hexdigest()[:24]}"}
        return value

    @field_validator("created_at", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(r"\d+", value):
            try:
                return int(datetime.fromisoformat(value).timestamp())
            except ValueError:
                return 0
        return int(value) if isinstance(value, float) else value

    def __str__(self) -> str:
        time = datetime.fromtimestamp(self.created_at, UTC).astimezone()
        level = "" if self.level == "info" else f"{self.level}: "
        return f"{time:%H:%M:%S} {level}{self.message}"


def streamed(job_id: str, *, look: Callable[[], Flow[bool]], in_order: bool, after: str | None) -> Flow[None]:
    """Hand out a job's events as they happen, oldest first, each once, until it has ended.

    Args:
        job_id: The job.
        look: Looks at the job; whether it has come to its end.
        in_order: Whether the service lists one second's events newest first; else their ids decide.
        after: The event after which to begin.

    Raises:
        NotFound: The job has no event `after`.
    """
    with _Spool(in_order=in_order) as spool:
        ended = fresh = False
        # Once the job has ended, until a whole reading has brought nothing: the last events may come late.
        while fresh or not ended:
            # The status is asked for first: events that come after a final one are then in the list.
            ended = yield from polled(
                lambda: _round(job_id, spool, look),
                done=lambda final: final or spool.waiting,
                timeout=None,
                late=_never,
            )
            if after is not None:
                spool.skip_to(after)
                after = None
            fresh = spool.waiting
            for event in spool.taken():
                yield Give(event)


def _never() -> NotFound:
    raise AssertionError("without a timeout there is no end")


def _round(job_id: str, spool: _Spool, look: Callable[[], Flow[bool]]) -> Flow[bool]:
    ended = yield from look()
    yield from collected(job_id, spool, everything=ended)
    return ended


def collected(job_id: str, spool: _Spool, *, everything: bool) -> Flow[None]:
    """Read the list of events until nothing new is in it; with `everything`, to its end."""
    after: str | None = None
    spool.begin()
    while True:
        page = yield from ask(requests.events(job_id, _PAGE, after))
        events = [JobEvent.read(row) for row in page.get("data") or [] if isinstance(row, dict)]
        # Ids that this very round has brought are a list that runs in a circle.
        news = spool.add(events)
        if not events or not page.get("has_more") or not news.of_this_round:
            break
        if not everything and not news.unsettled:
            break
        after = events[-1].id
    spool.settle()


class _News:
    def __init__(self, *, of_this_round: bool, unsettled: bool) -> None:
        self.of_this_round = of_this_round
        self.unsettled = unsettled


class _Spool:
    """Events that wait to be given, and the ids of all: on disk, so that memory is bounded."""

    def __init__(self, *, in_order: bool) -> None:
        self._database = temporary_database(
            "CREATE TABLE events (id TEXT PRIMARY KEY, created_at INTEGER, first INTEGER, seen INTEGER,"
            " position INTEGER, settled INTEGER DEFAULT 0, body TEXT) WITHOUT ROWID;"
            "CREATE INDEX waiting ON events (created_at) WHERE body IS NOT NULL"
        )
        # Within one second: later rounds are later, and within a round the service's order is turned round.
        self._order = "created_at, first, position DESC" if in_order else "created_at, id"
        self._number = 0  # of rounds, also those that broke off
        self._whole = 0  # of whole ones
        self._position = 0
        self._from = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def waiting(self) -> bool:
        """Whether there is something to give."""
        return self._database.execute("SELECT 1 FROM events WHERE body IS NOT NULL").fetchone() is not None

    def begin(self) -> None:
        """Begin a round, or one anew that broke off."""
        self._number += 1

    def add(self, events: Sequence[JobEvent]) -> _News:
        """Take a page; says whether it held anything that this round, or an earlier whole one, had not."""
        fresh = unsettled = False
        with transaction(self._database):
            for event in events:
                row = self._database.execute(
                    "SELECT seen, settled FROM events WHERE id = ?", (event.id,)
                ).fetchone()
                fresh = fresh or row is None or row["seen"] != self._number
                unsettled = unsettled or row is None or not row["settled"]
                if row is not None:
                    self._database.execute(
                        "UPDATE events SET seen = ? WHERE id = ?", (self._number, event.id)
                    )
                    continue
                self._position += 1
                body = event.model_dump_json() if event.created_at >= self._from else None
                self._database.execute(
                    "INSERT INTO events (id, created_at, first, seen, position, body)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (event.id, event.created_at, self._whole, self._number, self._position, body),
                )
        return _News(of_this_round=fresh, unsettled=unsettled)

    def settle(self) -> None:
        """End a round that went well: what it brought counts as known."""
        self._database.execute("UPDATE events SET settled = 1 WHERE settled = 0")
        self._whole += 1

    def skip_to(self, id_: str) -> None:
        """Count an event, and all before it, as given."""
        row = self._database.execute("SELECT created_at FROM events WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise NotFound(f"the job has no event {id_!r}; leave `after` out to get them all")
        self._from = row["created_at"]
        for event in self.taken():
            if event.id == id_:
                break

    def taken(self) -> Iterator[JobEvent]:
        """Give what waits, in order; what was given counts as given at once."""
        waiting = "SELECT id, body FROM events WHERE body IS NOT NULL ORDER BY"
        query = f"{waiting} {self._order} LIMIT {_PAGE}"
        while rows := self._database.execute(query).fetchall():
            for row in rows:
                self._database.execute("UPDATE events SET body = NULL WHERE id = ?", (row["id"],))
                yield JobEvent.model_validate_json(row["body"])


def read_all(job_id: str, keep: Callable[[JobEvent], None], *, in_order: bool) -> Flow[None]:
    """Pass every event that the service has now to `keep`, the oldest first, each once."""
    with _Spool(in_order=in_order) as spool:
        yield from collected(job_id, spool, everything=True)
        for event in spool.taken():
            keep(event)
