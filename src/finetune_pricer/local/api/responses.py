"""Objects as the protocol shows them, bad habits of some services included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..faults import Weather
    from ..records import StoredBatch, StoredCheckpoint, StoredEvent, StoredFile, StoredJob, StoredModel

_FIRST_RELEASE = 1_790_000_000  # when the base models came to be, as far as `created` is concerned
_UNTRAINED = "Untrained: it prices nothing until a fine-tuning job has made a model of it."
_TUNED = "A statistical learner of prices, trained by a fine-tuning job; not a language model."


class Wire:
    """Turns records into objects."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

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
        if self._weather.faults.missing_file_status:
            del shown["status"]
        return shown

    def base(self, name: str) -> dict[str, Any]:
        """Return a model that can be tuned."""
        return self._model(name, _FIRST_RELEASE, "finetune-pricer", _UNTRAINED)

    def tuned(self, model: StoredModel) -> dict[str, Any]:
        """Return a model that was tuned."""
        return self._model(model.id, model.created_at, "org-local", _TUNED)

    def _model(self, name: str, created: int, owner: str, description: str) -> dict[str, Any]:
        day = self._weather.faults.shutdown_date
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
        faults = self._weather.faults
        settings: dict[str, Any] = dict.fromkeys(
            ("n_epochs", "batch_size", "learning_rate_multiplier"), "auto"
        )
        settings |= job.hyperparameters or job.asked
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
        shown = [_event(event) for event in events]
        faults, weather = self._weather.faults, self._weather
        if faults.duplicate_events:
            shown = [event for event in shown for _ in range(1 + weather.strikes(0.3))]
        if faults.reorder_events and len(shown) > 1:
            place = weather.chosen(list(range(len(shown) - 1)))
            shown[place : place + 2] = shown[place : place + 2][::-1]
        return shown


def _event(event: StoredEvent) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data or {},
    }


def checkpoint_object(checkpoint: StoredCheckpoint) -> dict[str, Any]:
    """Return a checkpoint."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.id,
        "created_at": checkpoint.created_at,
        "fine_tuning_job_id": checkpoint.job,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "step_number": checkpoint.step,
        "metrics": checkpoint.metrics,
    }


def batch_object(batch: StoredBatch) -> dict[str, Any]:
    """Return a batch; what it has not come to yet is left out, as the specification has it."""
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


def page(rows: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": "", "last_id": ""}
    return {"object": "list", "data": rows, "has_more": has_more, **ends}
