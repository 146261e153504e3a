"""What services say of files, jobs and checkpoints: taken leniently, kept whole.

Nothing but the id must be there, nulls are fine, what cannot be read counts as absent, further fields are
kept. These are pydantic models, and imported only where an answer is read, since pydantic costs more to
import than the rest of the road.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from ..errors import ServiceUnavailable


class Said(BaseModel):
    """What a service said: what cannot be read counts as absent, but for the id."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

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
        """Take an answer as it came.

        Raises:
            ServiceUnavailable: It lacks even an id.
        """
        try:
            return cls.model_validate(answer)
        except ValidationError as error:
            raise ServiceUnavailable(
                f"the service's answer is no {cls.noun}: {str(answer)[:200]}; try again later"
            ) from error


class UploadedFile(Said):
    """A file that a service holds, as the service describes it; further fields are kept."""

    noun = "file"

    id: str
    filename: str | None = None
    bytes: int | None = None
    purpose: str | None = None
    status: str | None = None
    status_details: str | None = None


class JobProblem(Said):
    """Why a job failed, in the service's words."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None
    """The line of the training file that the service points at, where it does."""


class JobRecord(Said):
    """A job as the service describes it; further fields are kept, and none but the id must be there."""

    noun = "job"

    id: str
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
    result_files: list[str] = Field(default_factory=list)

    @field_validator("error", mode="before")
    @classmethod
    def _null_error_is_none(cls, value: Any) -> Any:
        # Services send {"code": null, "message": null, "param": null} on healthy jobs.
        if isinstance(value, str) and value:
            return {"message": value}
        return value if isinstance(value, dict) and any(value.values()) else None
