"""Responses in the protocol's form: errors as OpenAI words them, and objects made from records.

Some services have bad habits; where a fault puts one in force, the objects have it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..faults import FaultInjector
    from ..learners import Learner
    from ..records import StoredBatch, StoredCheckpoint, StoredEvent, StoredFile, StoredJob, StoredModel

_FIRST_RELEASE = 1_790_000_000  # what a base model shows as the time at which it was created


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json", headers=headers)


# Errors


class ApiError(Exception):
    """An error for the client: an HTTP status, and a body with message, type, param and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type_: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.error: dict[str, Any] = {"message": message, "type": type_, "param": param, "code": code}

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": self.error}

    def response(self) -> Response:
        """Return this error as a response."""
        return json_response(self.body, status=self.status, headers=self.headers)


def model_not_found(model: str) -> ApiError:
    """Return the error for a model that does not exist."""
    message = (
        f"The model `{model}` does not exist or you do not have access to it. "
        "GET /v1/models lists those that this server has."
    )
    return ApiError(404, message, code="model_not_found")


def cursor_not_found(after: str) -> ApiError:
    """Return the error for a list that holds no object of the id after which it should go on."""
    return ApiError(404, f"Could not find '{after}' in the list.", param="after")


def invalid_value(message: str, param: str, *, code: str = "invalid_value") -> ApiError:
    """Return the error for a parameter that has the wrong value."""
    return ApiError(400, message, param=param, code=code)


def missing_parameter(param: str | None) -> ApiError:
    """Return the error for a parameter that must be there."""
    message = f"Missing required parameter: '{param}'."
    return ApiError(400, message, param=param, code="missing_required_parameter")


def body_too_large(limit: int) -> ApiError:
    """Return the error for a body over the limit."""
    message = f"The body of your request is too large: at most {limit:,} bytes."
    return ApiError(413, message, code="request_too_large")


# Objects


class Serializer:
    """Turns records into the protocol's objects, with the habits of the faults in force."""

    def __init__(self, bases: Mapping[str, Learner], injector: FaultInjector) -> None:
        self._bases = bases
        self._injector = injector

    def file(self, file: StoredFile) -> dict[str, Any]:
        """Return a file."""
        shown = {
            "object": "file",
            "id": file.id,
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": file.bytes,
            "created_at": file.created_at,
            "status": "processed",
        }
        if file.expires_at is not None:
            shown["expires_at"] = file.expires_at
        if self._injector.faults.missing_file_status:
            del shown["status"]
        return shown

    def base_model(self, name: str) -> dict[str, Any]:
        """Return a model that can be tuned."""
        learner = self._bases[name]
        return self._model(name, _FIRST_RELEASE, learner.owned_by, learner.description)

    def tuned_model(self, model: StoredModel) -> dict[str, Any]:
        """Return a model that was tuned."""
        learner = self._bases.get(model.base)
        description = (
            f"Made of the base model {model.base}, which this server does not offer."
            if learner is None
            else learner.tuned_description
        )
        return self._model(model.id, model.created_at, "org-local", description)

    def _model(self, name: str, created: int, owner: str, description: str) -> dict[str, Any]:
        day = self._injector.faults.shutdown_date
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": owner,
            "shutdown_date": None if day is None else day.isoformat(),
            "description": description,
        }

    def job(self, job: StoredJob) -> dict[str, Any]:
        """Return a job; settings left to the server are "auto" until it has chosen."""
        faults = self._injector.faults
        settings: dict[str, Any] = dict.fromkeys(
            ("n_epochs", "batch_size", "learning_rate_multiplier"), "auto"
        )
        settings |= job.hyperparameters or job.requested
        no_error = dict.fromkeys(("code", "message", "param")) if faults.null_errors else None
        strange = faults.job_status is not None and job.status == "queued"
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
            "status": faults.job_status if strange else job.status,
            "training_file": job.training_file,
            "validation_file": job.validation_file,
            "hyperparameters": settings,
            "method": {"type": "supervised", "supervised": {"hyperparameters": settings}},
            "trained_tokens": job.trained_tokens,
            "error": job.error or no_error,
            "seed": job.seed,
            "user_provided_suffix": job.suffix,
            "metadata": job.metadata,
            "integrations": job.integrations or [],
        }

    def events(self, events: list[StoredEvent]) -> list[dict[str, Any]]:
        """Return events, some of them twice or out of order where that is a fault in force."""
        shown = [_event_object(event) for event in events]
        faults, injector = self._injector.faults, self._injector
        if faults.duplicate_events:
            shown = [event for event in shown for _ in range(1 + injector.happens(0.3))]
        if faults.reorder_events and len(shown) > 1:
            place = injector.choose(range(len(shown) - 1))
            shown[place : place + 2] = shown[place : place + 2][::-1]
        return shown


def _event_object(event: StoredEvent) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data or {},
    }


def checkpoint_object(checkpoint: StoredCheckpoint, weights: Sequence[StoredFile]) -> dict[str, Any]:
    """Return a checkpoint; that it names the files of its weights is no part of the specification."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.id,
        "created_at": checkpoint.created_at,
        "fine_tuning_job_id": checkpoint.job,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "step_number": checkpoint.step,
        "metrics": checkpoint.metrics,
        "result_files": [file.id for file in weights],
    }


def batch_object(batch: StoredBatch) -> dict[str, Any]:
    """Return a batch; fields that have no value yet are left out, as the specification has it."""
    read, written = batch.tokens["input"], batch.tokens["output"]
    optional = {
        "model": batch.model,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "errors": None if batch.errors is None else {"object": "list", "data": batch.errors},
    }
    return {
        "object": "batch",
        "id": batch.id,
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **batch.times,
        **{name: value for name, value in optional.items() if value is not None},
        "request_counts": batch.counts,
        "metadata": batch.metadata,
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def list_object(rows: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": "", "last_id": ""}
    return {"object": "list", "data": rows, "has_more": has_more, **ends}
