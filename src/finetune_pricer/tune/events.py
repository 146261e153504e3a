"""A job's events: taken as they come, given in order and each once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from .records import Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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

    id: str
    created_at: int = 0
    level: str = "info"
    message: str = ""
    type: str = "message"
    data: dict[str, Any] = Field(default_factory=dict)

    @field_validator("created_at", "level", "message", "type", "data", mode="before")
    @classmethod
    def _null_is_nothing(cls, value: Any, info: Any) -> Any:
        if value is None or (info.field_name == "data" and not isinstance(value, dict)):
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        return value

    def __str__(self) -> str:
        time = datetime.fromtimestamp(self.created_at, UTC).astimezone()
        level = "" if self.level == "info" else f"{self.level}: "
        return f"{time:%H:%M:%S} {level}{self.message}"


def unseen(pages: Iterable[Sequence[dict[str, Any]]], seen: set[str]) -> list[JobEvent]:
    """Read pages, newest first, until one holds nothing new; give what is new, oldest first.

    Args:
        pages: Events in the service's order.
        seen: Ids that were given before. The new ones are added.

    Returns:
        New events by time; within one second in the reverse of the service's order.
    """
    fresh: dict[str, JobEvent] = {}
    for page in pages:
        events = [JobEvent.model_validate(event) for event in page]
        new = [event for event in events if event.id not in seen]
        if events and all(event.id in fresh for event in events):
            break  # a service that sends the same page for ever
        fresh.update((event.id, event) for event in new)
        if events and not new:
            break
    # Only now: a page that cannot be had must not lose the events of those before it.
    seen.update(fresh)
    # Turned round before the stable sort, so that one second's events come oldest first as well.
    oldest_first = list(fresh.values())[::-1]
    return sorted(oldest_first, key=lambda event: event.created_at)
