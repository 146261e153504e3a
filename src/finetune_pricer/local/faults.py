"""Faults that the server has on request, so that a bad day can be rehearsed."""

from __future__ import annotations

import datetime
import random
import threading
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic._internal._model_construction import ModelMetaclass as _ModelMeta
else:
    _ModelMeta = type(BaseModel)

Rate = Annotated[float, Field(ge=0, le=1)]


def as_whole(value: Any) -> Any:
    """Return 60.0 as 60: JSON knows no integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(as_whole)


class _Refusing(_ModelMeta):
    """Says in one line, and by an error of ours, what is wrong with the fields that somebody hands in."""

    def __call__(self, *values: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*values, **fields)
        except ValidationError as error:
            raise _explain(error) from None


class Faults(BaseModel, metaclass=_Refusing):
    """What goes wrong; nothing does unless it is named. Frozen: `LocalServer.faults` takes another one.

    Hand it in as `LocalServer(faults=...)`, set `server.faults`, or send its fields to `POST /local/faults`.

    Examples:
        >>> Faults(latency=0.5).latency
        0.5
        >>> Faults.preset("rate_limited", tokens_per_minute=1_000).model_dump(exclude_defaults=True)
        {'requests_per_minute': 60, 'tokens_per_minute': 1000}
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    refuse_training: bool = False
    """New jobs are refused with 403 `training_not_available`; uploads still work."""
    fail_validation: bool = False
    """A job fails, as if its training file were invalid."""
    fail_half_way: bool = False
    """A job fails once half of its steps are done."""
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9), _WHOLE] | None = None
    """More chat requests than that are answered with 429 and a `retry-after-ms` header."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**12), _WHOLE] | None = None
    """The same for tokens, counting the prompt and the longest reply that was allowed."""
    server_error_rate: Rate = 0.0
    """The share of requests that are answered with a 500, 502, 503 or 504 and have no effect."""
    latency: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds by which every answer comes later."""
    lost_answer_rate: Rate = 0.0
    """The share of POST requests that take effect, and whose connection is cut instead of an answer."""
    duplicate_events: bool = False
    """Lists of a job's events hold some of them twice."""
    reorder_events: bool = False
    """Lists of a job's events are not in order."""
    job_status: str | None = None
    """A word shown instead of `queued` that the client does not know; Azure says `pending`."""
    missing_file_status: bool = False
    """Files are described without their `status`."""
    null_errors: bool = False
    """Healthy jobs carry an `error` whose fields are all null."""
    shutdown_date: datetime.date | None = None
    """The day on which all models stop: `GET /v1/models` shows it, and from then on no model is found."""
    batch_window: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """Seconds after which a batch expires, in place of 24 hours."""
    chat_pause: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Seconds that a batch waits before each of its requests, so that it can be watched and cancelled."""
    seed: Annotated[int, Field(ge=-(2**53), le=2**53), _WHOLE] = 0
    """Which requests are hit; the same seed hits the same ones."""

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Faults:
        """Return a kind of bad day by its name, with some fields changed.

        Raises:
            DataError: There is no such preset or field, or a value is out of range.
        """
        if name not in PRESETS:
            raise DataError(f"there is no preset {name!r}; known: {', '.join(PRESETS)}")
        return faults_from(PRESETS[name] | changes)


PRESETS: dict[str, dict[str, Any]] = {
    "wind_down": {"refuse_training": True, "shutdown_date": "2027-01-14"},
    "rate_limited": {"requests_per_minute": 60, "tokens_per_minute": 20_000},
    "flaky": {
        "server_error_rate": 0.1,
        "lost_answer_rate": 0.05,
        "latency": 0.02,
        "duplicate_events": True,
        "reorder_events": True,
    },
    "azure_like": {"job_status": "pending", "null_errors": True, "missing_file_status": True},
    "nebius_like": {"null_errors": True, "missing_file_status": True, "reorder_events": True},
}
"""Kinds of bad days, by name, with the dates and habits of the services in November 2026."""


def faults_from(fields: dict[str, Any]) -> Faults:
    """Return faults from plain values; raise `DataError` naming the field that is wrong."""
    try:
        return Faults.model_validate_json(orjson.dumps(fields), strict=True)
    except orjson.JSONEncodeError as error:
        raise DataError(f"faults: {error}") from error
    except ValidationError as error:
        raise _explain(error) from error


def _explain(error: ValidationError) -> DataError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return DataError(f"faults: there is no {where!r}; there are {', '.join(Faults.model_fields)}")
    return DataError(f"faults: {where}: {first['msg']}")


class FaultInjector:
    """The faults in force, and the dice that decide which requests they hit; may be used by many threads."""

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self.set(faults)

    def set(self, faults: Faults) -> None:
        """Put other faults in force; their dice begin anew."""
        with self._lock:
            self.faults = faults
            self._dice = random.Random(faults.seed)  # noqa: S311  dice, not secrets

    def happens(self, rate: float) -> bool:
        """Throw the dice once; they are not thrown for a rate of 0, so that other faults keep their order."""
        if not rate:
            return False
        with self._lock:
            return self._dice.random() < rate

    def choose(self, options: Sequence[int]) -> int:
        """Return one of some options."""
        with self._lock:
            return self._dice.choice(options)

    def is_shut_down(self, today: datetime.date | None = None) -> bool:
        """Return whether the models have stopped."""
        day = self.faults.shutdown_date
        return day is not None and (today or datetime.datetime.now(datetime.UTC).date()) >= day
