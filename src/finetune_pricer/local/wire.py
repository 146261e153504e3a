"""What goes over the wire: requests as they are checked, objects and errors as OpenAI shows them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

if TYPE_CHECKING:
    from .store import StoredEvent, StoredFile, StoredJob


class ApiError(Exception):
    """An answer that is an error: its HTTP status, and what stands in the body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type_: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type_, "param": param, "code": code}

    def response(self) -> Response:
        """Return this error as a response."""
        return as_json({"error": self.error}, status=self.status)


def as_json(value: Any, *, status: int = 200) -> Response:
    """Return a value as a JSON response."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def model_not_found(model: str) -> ApiError:
    """Return the error for a model that does not exist."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found")


# Requests


class _Request(BaseModel):
    # What a newer client may add is let through; what is known must have its type.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class HyperparametersBody(_Request):
    """The settings of supervised training."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Literal["auto"] | None = None
    batch_size: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] | None = None
    learning_rate_multiplier: (
        Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | Literal["auto"] | None
    ) = None


class SupervisedBody(_Request):
    """What `method.supervised` holds."""

    hyperparameters: HyperparametersBody | None = None


class MethodBody(_Request):
    """How to train; other types than `supervised` are refused later, with a clearer word."""

    type: str
    supervised: SupervisedBody | None = None


class JobBody(_Request):
    """A request for a fine-tuning job."""

    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: list[dict[str, Any]] | None = None

    def asked(self) -> dict[str, Any]:
        """Return the hyperparameters, from `method` or from their older place."""
        body = self.hyperparameters
        if self.method is not None and self.method.supervised is not None:
            body = self.method.supervised.hyperparameters or body
        return {} if body is None else body.model_dump(exclude_none=True)


class ChatBody(_Request):
    """A request for chat completions."""

    model: str
    messages: Any
    """Checked by `examples.problem_in`, like the messages of a training file."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: int | None = None
    stream: bool | None = None
    logprobs: bool | None = None


_Body = TypeVar("_Body", bound=_Request)
_NAME = re.compile(r"(?!(?:int|float|str|bool)$)[a-z_]+")


def read_body(kind: type[_Body], content: bytes) -> _Body:
    """Return a request's body as `kind`; raise an `ApiError` that names the parameter at fault."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request ({error.msg}).") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # pydantic adds the branch of a union to the place, which is no name of ours.
        param = ".".join(p for p in first["loc"] if isinstance(p, str) and _NAME.fullmatch(p)) or None
        if first["type"] == "missing":
            message = f"Missing required parameter: '{param}'."
            raise ApiError(400, message, param=param, code="missing_required_parameter") from error
        code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
        raise ApiError(
            400, f"Invalid value for '{param}': {first['msg']}.", param=param, code=code
        ) from error


# Objects


def file_object(file: StoredFile) -> dict[str, Any]:
    """Return a file as the protocol shows it."""
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.filename,
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": None,
        "status": "processed",
        "status_details": None,
    }


def model_object(name: str, *, created: int, owner: str) -> dict[str, Any]:
    """Return a model as the protocol shows it."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}


def job_object(job: StoredJob) -> dict[str, Any]:
    """Return a job as the protocol shows it; settings left to the server are "auto" until it has chosen."""
    settings = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    settings |= job.hyperparameters or job.asked
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "model": job.model,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "estimated_finish": job.estimated_finish,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": "org-local",
        "result_files": job.result_files,
        "status": job.status,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "hyperparameters": settings,
        "method": {"type": "supervised", "supervised": {"hyperparameters": settings}},
        "trained_tokens": job.trained_tokens,
        "error": job.error,
        "seed": job.seed,
        "user_provided_suffix": job.suffix,
        "metadata": job.metadata,
        "integrations": job.integrations or [],
    }


def event_object(event: StoredEvent) -> dict[str, Any]:
    """Return an event as the protocol shows it."""
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data or {},
    }


def page(rows: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": "", "last_id": ""}
    return {"object": "list", "data": rows, "has_more": has_more, **ends}
