"""Files, jobs, events and checkpoints as services describe them: read leniently, kept whole.

Nothing but the id must be there, nulls are fine, a field that cannot be read counts as absent, and further
fields are kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from .._display import ShortModelRepr
from .._escape import escape_line
from ..errors import ServiceUnavailable
from .job_metrics import JobMetric, read_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..providers.provider import Provider


class ServiceRecord(ShortModelRepr, BaseModel):
    """An object as a service sent it: what cannot be read counts as absent, but for the id."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    noun: ClassVar[str] = "thing"

    @field_validator("*", mode="wrap")
    @classmethod
    def _unreadable_is_absent(
        cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        # A date in another form must not stand between a user and a job that is paid for.
        field = cls.model_fields[info.field_name or ""]
        try:
            return read(value)
        except ValueError:
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True)

    @classmethod
    def read(cls, answer: Any) -> Self:
        """Return the record of an answer.

        Raises:
            ServiceUnavailable: It lacks even an id.
        """
        try:
            return cls.model_validate(answer)
        except ValidationError as error:
            raise ServiceUnavailable(
                f"the service's answer is no {cls.noun}: {str(answer)[:200]}; try again later"
            ) from error


class UploadedFile(ServiceRecord):
    """A file that a service holds, as the service describes it; further fields are kept."""

    noun = "file"

    id: str = Field(min_length=1)
    filename: str | None = None
    bytes: int | None = None
    purpose: str | None = None
    status: str | None = None
    status_details: str | None = None


class JobProblem(ServiceRecord):
    """Why a job failed, in the service's words."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None
    """The line of the training file that the service points at, where it does."""


class JobRecord(ServiceRecord):
    """A job as the service describes it; further fields are kept, and none but the id must be there."""

    noun = "job"

    id: str = Field(min_length=1)
    status: str = "unknown"
    model: str | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: JobProblem | None = None
    created_at: int | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    training_file: str | None = None
    validation_file: str | None = None
    seed: int | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    integrations: list[Any] = Field(default_factory=list, repr=False)
    """Where the service reports to; some services send a key back with it."""
    result_files: list[str] = Field(default_factory=list)

    @field_validator("error", mode="before")
    @classmethod
    def _null_error_is_none(cls, value: Any) -> Any:
        # Services send {"code": null, "message": null, "param": null} on healthy jobs.
        if isinstance(value, str) and value:
            return {"message": value}
        return value if isinstance(value, dict) and any(value.values()) else None


class JobEvent(ServiceRecord):
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
        return f"{time:%H:%M:%S} {escape_line(level + self.message)}"


class JobCheckpoint(ServiceRecord):
    """A model that a job kept after some step; further fields are kept."""

    noun = "checkpoint"

    id: str
    step: int = 0
    """After how many steps."""
    model: str | None = None
    """The name by which it can be asked; None where the service must deploy it first."""
    metrics: JobMetric = JobMetric(step=0)
    """What was measured at that step."""
    created_at: int | None = None
    result_files: list[str] = Field(default_factory=list)
    """Files of its weights, where the service gives them out."""


def read_checkpoints(rows: Iterable[Mapping[str, Any]], provider: Provider) -> list[JobCheckpoint]:
    """Return the checkpoints in a service's list, by their steps, the first step first."""
    found = [_read_checkpoint(row, provider) for row in rows]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _read_checkpoint(row: Mapping[str, Any], provider: Provider) -> JobCheckpoint:
    names = [row[field] for field in provider.checkpoint_model_fields if isinstance(row.get(field), str)]
    measured = row["metrics"] if isinstance(row.get("metrics"), dict) else {}
    step = row.get("step_number") or row.get("step") or measured.get("step") or 0
    metrics = read_metric({**measured, "step": step}) or JobMetric(step=0)
    model = names[0] if names else None
    return JobCheckpoint.read({**row, "step": metrics.step, "model": model, "metrics": metrics})
