"""Routes of fine-tuning jobs: create, watch, pause, resume, cancel."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from ...records import UNFINISHED_JOBS, StoredJob, new_id, now
from ..requests import JobBody, cut_page, read_body, read_limit, take_page
from ..responses import (
    ApiError,
    checkpoint_object,
    cursor_not_found,
    invalid_value,
    json_response,
    list_object,
    model_not_found,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from ..app import ServerState

MOST_UNFINISHED = 100
"""Jobs that may wait or run at once."""
_WIND_DOWN = (
    "OpenAI is winding down the fine-tuning platform and your organization is no longer able to create new "
    "fine-tuning training jobs."
)


class JobRoutes:
    """Handlers of `/v1/fine_tuning/jobs`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._database = state.database

    def routes(self) -> list[Route]:
        """Return the routes."""
        jobs, job = "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{fine_tuning_job_id}"
        return [
            Route(jobs, self.create, methods=["POST"]),
            Route(jobs, self.list, methods=["GET"]),
            Route(job, self.retrieve, methods=["GET"]),
            Route(f"{job}/cancel", self.cancel, methods=["POST"]),
            Route(f"{job}/pause", self.pause, methods=["POST"]),
            Route(f"{job}/resume", self.resume, methods=["POST"]),
            Route(f"{job}/events", self.events, methods=["GET"]),
            Route(f"{job}/checkpoints", self.checkpoints, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Create a job."""
        body = await read_body(JobBody, request, strict=self._state.strict)
        if self._state.injector.faults.refuse_training:
            raise ApiError(403, _WIND_DOWN, code="training_not_available")
        if body.method is not None and body.method.type != "supervised":
            message = f"The method type '{body.method.type}' is not available; only 'supervised' is."
            raise invalid_value(message, "method.type")
        self._check_model(body.model)
        for param in ("training_file", "validation_file"):
            self._check_file(getattr(body, param), param)
        unfinished = self._database.count_jobs(*UNFINISHED_JOBS)
        if unfinished >= MOST_UNFINISHED:
            message = f"You have {unfinished} unfinished jobs; wait for one to end, or cancel one."
            raise ApiError(429, message, type_="requests", code="rate_limit_exceeded")
        job = _new_job(body)
        self._state.worker.submit(job)
        return json_response(self._state.serializer.job(job))

    def _check_model(self, name: str) -> None:
        bases = self._state.bases
        if name in bases and not self._state.injector.is_shut_down():
            return
        if name in bases or self._database.find_model(name) is None:
            raise model_not_found(name)
        message = f"Model {name} is not available for fine-tuning; choose one of {', '.join(bases)}."
        raise invalid_value(message, "model", code="model_not_available")

    def _check_file(self, file_id: str | None, param: str) -> None:
        if file_id is None:
            return
        file = self._database.find_file(file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {file_id}", param=param)
        if file.purpose != "fine-tune":
            message = (
                f"The file {file_id} has the purpose '{file.purpose}'; a job needs one with 'fine-tune'."
            )
            raise invalid_value(message, param, code="invalid_file_purpose")

    async def list(self, request: Request) -> Response:
        """List jobs, the newest first; `metadata[key]=value` keeps those with it, `null` those without."""
        query = request.query_params
        wanted = {
            name[len("metadata[") : -1]: value
            for name, value in query.items()
            if name.startswith("metadata[") and name.endswith("]")
        }
        without = query.get("metadata")
        if without not in (None, "null"):
            raise invalid_value("'metadata' is 'null', or written metadata[key]=value.", "metadata")

        def find(after: str | None) -> Iterator[dict[str, Any]] | None:
            jobs = self._database.iterate_jobs(after)
            if jobs is None:
                return None
            return (
                self._state.serializer.job(job)
                for job in jobs
                if wanted.items() <= (job.metadata or {}).items() and not (without and job.metadata)
            )

        return json_response(await run_in_threadpool(take_page, request, find, most=100, usual=20))

    async def retrieve(self, request: Request) -> Response:
        """Show one job."""
        return json_response(self._state.serializer.job(self._job(request)))

    async def cancel(self, request: Request) -> Response:
        """Stop a job for good."""
        return self._move(request, self._state.worker.cancel, "has already ended and cannot be cancelled")

    async def pause(self, request: Request) -> Response:
        """Pause a job."""
        return self._move(request, self._state.worker.pause, "cannot be paused")

    async def resume(self, request: Request) -> Response:
        """Resume a paused job."""
        return self._move(request, self._state.worker.resume, "is not paused and cannot be resumed")

    def _move(self, request: Request, move: Callable[[str], bool], otherwise: str) -> Response:
        job = self._job(request)
        if not move(job.id):
            message = f"Job {otherwise}: {job.id} is {self._job(request).status}."
            raise ApiError(400, message, code="invalid_state")
        return json_response(self._state.serializer.job(self._job(request)))

    async def events(self, request: Request) -> Response:
        """List the events of a job, the newest first."""
        job, limit = self._job(request), read_limit(request, most=10_000, usual=20)
        after = request.query_params.get("after")
        events = self._database.list_events(job.id, limit=limit + 1, after=after)
        if events is None:
            raise cursor_not_found(str(after))
        rows = self._state.serializer.events(events[:limit])
        return json_response(list_object(rows, has_more=len(events) > limit))

    async def checkpoints(self, request: Request) -> Response:
        """List the models kept at the end of the last epochs, the newest first."""
        rows = [
            checkpoint_object(each, self._database.list_weights(each))
            for each in self._database.list_checkpoints(self._job(request).id)
        ]
        return json_response(cut_page(request, rows, most=100, usual=10))

    def _job(self, request: Request) -> StoredJob:
        job_id = request.path_params["fine_tuning_job_id"]
        job = self._database.find_job(job_id)
        if job is None:
            message = f"Could not find fine tune: {job_id}"
            raise ApiError(404, message, param="fine_tune_id", code="fine_tune_not_found")
        return job


def _new_job(body: JobBody) -> StoredJob:
    integrations: list[Any] | None = None
    if body.integrations is not None:
        integrations = [each.to_known() for each in body.integrations]
    return StoredJob(
        id=new_id("ftjob-"),
        status="validating_files",
        created_at=now(),
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        suffix=body.suffix,
        name=f"ft:{body.model}:local:{body.suffix or ''}:{new_id('', 8)}",
        requested=body.requested_hyperparameters(),
        metadata=body.metadata,
        integrations=integrations,
    )
