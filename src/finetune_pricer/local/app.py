"""The routes, as OpenAI's specification has them, and the errors that they answer with."""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
import time
import traceback
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from .answers import Answers
from .store import StoredFile, StoredJob, new_id, now
from .wire import (
    ApiError,
    ChatBody,
    JobBody,
    as_json,
    event_object,
    file_object,
    job_object,
    model_not_found,
    model_object,
    page,
    read_body,
)
from .worker import BASES

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .store import Store
    from .worker import Worker

log = logging.getLogger("finetune_pricer.local")

PURPOSES = ("fine-tune", "batch", "user_data")
JSON_LIMIT = 4 * 2**20
"""Bytes that a JSON body may have."""
_FIRST_RELEASE = 1_790_000_000  # when the base models came to be, as far as `created` is concerned


def build(store: Store, worker: Worker, *, key: str | None, max_bytes: int) -> ASGIApp:
    """Return the application; with a `key`, every route but /health asks for it."""
    api = _Api(store, worker)
    routes = [
        Route("/health", api.health),
        Route("/v1/files", api.create_file, methods=["POST"]),
        Route("/v1/files", api.list_files, methods=["GET"]),
        Route("/v1/files/{id}", api.get_file, methods=["GET"]),
        Route("/v1/files/{id}", api.delete_file, methods=["DELETE"]),
        Route("/v1/files/{id}/content", api.file_content, methods=["GET"]),
        Route("/v1/models", api.list_models, methods=["GET"]),
        Route("/v1/models/{id:path}", api.get_model, methods=["GET"]),
        Route("/v1/models/{id:path}", api.delete_model, methods=["DELETE"]),
        Route("/v1/fine_tuning/jobs", api.create_job, methods=["POST"]),
        Route("/v1/fine_tuning/jobs", api.list_jobs, methods=["GET"]),
        Route("/v1/fine_tuning/jobs/{id}", api.get_job, methods=["GET"]),
        Route("/v1/fine_tuning/jobs/{id}/cancel", api.cancel_job, methods=["POST"]),
        Route("/v1/fine_tuning/jobs/{id}/events", api.list_events, methods=["GET"]),
        Route("/v1/fine_tuning/jobs/{id}/checkpoints", api.list_checkpoints, methods=["GET"]),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {ApiError: _refused, HTTPException: _not_served, Exception: _broken}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return _Gate(app, key=key, max_bytes=max_bytes)


class _Api:
    """One method per route."""

    def __init__(self, store: Store, worker: Worker) -> None:
        self._store = store
        self._worker = worker
        self._answers = Answers(store)

    async def health(self, _: Request) -> Response:
        return as_json({"status": "ok"})

    # Files

    async def create_file(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ApiError(
                400, "The body of your request must be multipart/form-data with a 'file'.", param="file"
            )
        async with request.form(max_files=1, max_fields=20) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            if not isinstance(upload, UploadFile):
                raise _missing("file")
            if not isinstance(purpose, str):
                raise _missing("purpose")
            if purpose not in PURPOSES:
                message = f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'"
                raise ApiError(400, message, param="purpose", code="invalid_value")
            if not upload.size:
                raise ApiError(400, "The file is empty.", param="file", code="empty_file")
            name = (upload.filename or "upload").replace("\\", "/").rpartition("/")[2] or "upload"
            stored = await run_in_threadpool(
                self._store.add_file, upload.file, filename=name, purpose=purpose
            )
        return as_json(file_object(stored))

    async def list_files(self, request: Request) -> Response:
        purpose, order = request.query_params.get("purpose"), request.query_params.get("order", "desc")
        files = [file for file in self._store.files() if purpose in (None, file.purpose)]
        if order not in ("asc", "desc"):
            raise ApiError(400, "'order' must be 'asc' or 'desc'.", param="order", code="invalid_value")
        rows = files if order == "desc" else files[::-1]
        return as_json(_page(request, [file_object(file) for file in rows], most=10_000, usual=10_000))

    async def get_file(self, request: Request) -> Response:
        return as_json(file_object(self._file(request.path_params["id"])))

    async def delete_file(self, request: Request) -> Response:
        file = self._file(request.path_params["id"])
        self._store.delete_file(file)
        return as_json({"id": file.id, "object": "file", "deleted": True})

    async def file_content(self, request: Request) -> Response:
        file = self._file(request.path_params["id"])
        return FileResponse(self._store.blob(file.sha256), media_type="application/octet-stream")

    def _file(self, id_: str, *, param: str = "id", status: int = 404) -> StoredFile:
        file = self._store.file(id_)
        if file is None:
            raise ApiError(status, f"No such File object: {id_}", param=param)
        return file

    # Models

    async def list_models(self, _: Request) -> Response:
        bases = [model_object(name, created=_FIRST_RELEASE, owner="finetune-pricer") for name in BASES]
        tuned = [model_object(m.id, created=m.created_at, owner="org-local") for m in self._store.models()]
        return as_json({"object": "list", "data": bases + tuned})

    async def get_model(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name in BASES:
            return as_json(model_object(name, created=_FIRST_RELEASE, owner="finetune-pricer"))
        model = self._store.model(name)
        if model is None:
            raise model_not_found(name)
        return as_json(model_object(name, created=model.created_at, owner="org-local"))

    async def delete_model(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name in BASES:
            raise ApiError(403, "A base model cannot be deleted.", type_="insufficient_permissions_error")
        model = self._store.model(name)
        if model is None:
            raise model_not_found(name)
        self._store.delete_model(model)
        self._answers.forget(name)
        return as_json({"id": name, "object": "model", "deleted": True})

    # Jobs

    async def create_job(self, request: Request) -> Response:
        body = read_body(JobBody, await _json(request))
        if body.method is not None and body.method.type != "supervised":
            message = f"The method type '{body.method.type}' is not available; only 'supervised' is."
            raise ApiError(400, message, param="method.type", code="invalid_value")
        if body.model not in BASES:
            if self._store.model(body.model) is None:
                raise model_not_found(body.model)
            message = (
                f"Model {body.model} is not available for fine-tuning; choose one of {', '.join(BASES)}."
            )
            raise ApiError(400, message, param="model", code="model_not_available")
        for param in ("training_file", "validation_file"):
            self._usable(getattr(body, param), param)
        job = StoredJob(
            id=new_id("ftjob-"),
            status="validating_files",
            created_at=now(),
            model=body.model,
            training_file=body.training_file,
            validation_file=body.validation_file,
            seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
            suffix=body.suffix,
            asked=body.asked(),
            metadata=body.metadata,
            integrations=body.integrations,
        )
        self._worker.submit(job)
        return as_json(job_object(job))

    def _usable(self, file_id: str | None, param: str) -> None:
        if file_id is None:
            return
        file = self._file(file_id, param=param)
        if file.purpose != "fine-tune":
            message = (
                f"The file {file_id} has the purpose '{file.purpose}'; a job needs one with 'fine-tune'."
            )
            raise ApiError(400, message, param=param, code="invalid_file_purpose")

    async def list_jobs(self, request: Request) -> Response:
        wanted = {
            name[len("metadata[") : -1]: value
            for name, value in request.query_params.items()
            if name.startswith("metadata[") and name.endswith("]")
        }
        rows = [
            job_object(job) for job in self._store.jobs() if wanted.items() <= (job.metadata or {}).items()
        ]
        return as_json(_page(request, rows, most=100, usual=20))

    async def get_job(self, request: Request) -> Response:
        return as_json(job_object(self._job(request)))

    async def cancel_job(self, request: Request) -> Response:
        job = self._job(request)
        if not self._worker.cancel(job.id):
            message = (
                f"Job has already ended and cannot be cancelled: {job.id} is {self._job(request).status}."
            )
            raise ApiError(400, message, code="invalid_state")
        return as_json(job_object(self._job(request)))

    async def list_events(self, request: Request) -> Response:
        job, limit = self._job(request), _limit(request, most=10_000, usual=20)
        after = request.query_params.get("after")
        events = self._store.events(job.id, limit=limit + 1, after=after)
        if events is None:
            raise ApiError(400, f"Could not find the event '{after}'.", param="after", code="invalid_value")
        return as_json(page([event_object(e) for e in events[:limit]], has_more=len(events) > limit))

    async def list_checkpoints(self, request: Request) -> Response:
        self._job(request)
        return as_json(_page(request, [], most=100, usual=10))

    def _job(self, request: Request) -> StoredJob:
        id_ = request.path_params["id"]
        job = self._store.job(id_)
        if job is None:
            raise ApiError(
                404, f"Could not find fine tune: {id_}", param="fine_tune_id", code="fine_tune_not_found"
            )
        return job

    # Chat

    async def chat(self, request: Request) -> Response:
        body = read_body(ChatBody, await _json(request))
        return as_json(await self._answers.complete(body))


class _Gate:
    """What every request passes: the key, the size of its body, a request id, and a line in the log."""

    def __init__(self, app: ASGIApp, *, key: str | None, max_bytes: int) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, status, read = time.perf_counter(), 0, 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise _too_large(self._max_bytes)
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", new_id("req_").encode())]
            await send(message)

        try:
            self._admit(scope)
        except ApiError as error:
            await _drain(receive)
            await error.response()(scope, receive, noted)
        else:
            # What a handler could not foresee is answered and logged in `_broken`, and raised once more by
            # starlette; uvicorn would log its message, which may hold a piece of a prompt.
            with contextlib.suppress(Exception):
                await self._app(scope, counted, noted)
        took = 1_000 * (time.perf_counter() - started)
        log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], status, took)

    def _admit(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._key is not None and scope["path"] != "/health":
            given = headers.get(b"authorization", b"")
            if not given:
                message = (
                    "You didn't provide an API key, in an Authorization header of the form 'Bearer KEY'."
                )
                raise ApiError(401, message, code="invalid_api_key")
            if not hmac.compare_digest(given, b"Bearer " + self._key):
                raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise _too_large(self._max_bytes)


async def _drain(receive: Receive) -> None:
    """Read some of a body that is refused: a client that is cut off while it sends never sees the answer."""
    read = 0
    while read < 2**26:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _json(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > JSON_LIMIT:
            raise _too_large(JSON_LIMIT)
    return bytes(content)


def _limit(request: Request, *, most: int, usual: int) -> int:
    given = request.query_params.get("limit")
    if given is None:
        return usual
    if not given.isascii() or not given.isdigit() or len(given) > 9 or not 1 <= int(given) <= most:
        raise ApiError(
            400, f"'limit' must be a number from 1 to {most}.", param="limit", code="invalid_value"
        )
    return int(given)


def _page(request: Request, rows: list[dict[str, Any]], *, most: int, usual: int) -> dict[str, Any]:
    limit, after = _limit(request, most=most, usual=usual), request.query_params.get("after")
    start = 0
    if after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise ApiError(400, f"Could not find '{after}' in the list.", param="after", code="invalid_value")
        start = places[0] + 1
    return page(rows[start : start + limit], has_more=len(rows) > start + limit)


def _missing(param: str) -> ApiError:
    return ApiError(
        400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"The body of your request is too large: at most {limit:,} bytes.", code="request_too_large"
    )


async def _refused(_: Request, error: ApiError) -> Response:
    return error.response()


async def _not_served(request: Request, error: HTTPException) -> Response:
    url = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return ApiError(404, f"Invalid URL ({url})", code="unknown_url").response()
    if error.status_code == 405:
        return ApiError(405, f"Not allowed: {url}", code="method_not_supported").response()
    return ApiError(error.status_code, str(error.detail)).response()


async def _broken(_: Request, error: Exception) -> Response:
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("a request failed: %s in %s, line %s", type(error).__name__, where.filename, where.lineno)
    message = "The server had an error while processing your request."
    return ApiError(500, message, type_="server_error").response()
