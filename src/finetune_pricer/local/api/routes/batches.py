"""Routes of batches: create, watch, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from ...batches import ENDPOINT
from ...records import StoredBatch, new_id, now
from ..requests import BatchBody, read_body, take_page
from ..responses import ApiError, batch_object, invalid_value, json_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from ..app import ServerState

MOST_UNFINISHED = 100
"""Batches that may wait or run at once."""


class BatchRoutes:
    """Handlers of `/v1/batches`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._database = state.database

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.list, methods=["GET"]),
            Route("/v1/batches/{batch_id}", self.retrieve, methods=["GET"]),
            Route("/v1/batches/{batch_id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Create a batch."""
        body = await read_body(BatchBody, request, strict=self._state.strict)
        if body.endpoint != ENDPOINT:
            raise invalid_value(
                f"The endpoint '{body.endpoint}' is not served; only '{ENDPOINT}' is.", "endpoint"
            )
        file = self._database.find_file(body.input_file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {body.input_file_id}", param="input_file_id")
        if file.purpose != "batch":
            message = f"The file {file.id} has the purpose '{file.purpose}'; a batch needs one with 'batch'."
            raise invalid_value(message, "input_file_id", code="invalid_file_purpose")
        if len(self._database.list_unfinished_batches()) >= MOST_UNFINISHED:
            message = f"You have {MOST_UNFINISHED} unfinished batches; wait for one to end, or cancel one."
            raise ApiError(429, message, type_="requests", code="rate_limit_exceeded")
        created = now()
        batch = StoredBatch(
            id=new_id("batch_"),
            status="validating",
            endpoint=body.endpoint,
            input_file_id=file.id,
            completion_window=body.completion_window,
            created_at=created,
            expires_at=created + int(self._state.batches.window),
            metadata=body.metadata,
            outputs_last=None if body.output_expires_after is None else body.output_expires_after.seconds,
        )
        self._state.batches.submit(batch)
        return json_response(batch_object(batch))

    async def list(self, request: Request) -> Response:
        """List batches, the newest first."""

        def find(after: str | None) -> Iterator[dict[str, Any]] | None:
            batches = self._database.iterate_batches(after)
            return None if batches is None else map(batch_object, batches)

        return json_response(await run_in_threadpool(take_page, request, find, most=100, usual=20))

    async def retrieve(self, request: Request) -> Response:
        """Show one batch."""
        return json_response(batch_object(self._batch(request)))

    async def cancel(self, request: Request) -> Response:
        """Stop a batch; its answers so far are kept in its output file."""
        batch = self._batch(request)
        cancelled = self._state.batches.cancel(batch.id)
        if cancelled is None:
            message = f"Cannot cancel a batch with status '{self._batch(request).status}'."
            raise ApiError(409, message, code="invalid_state")
        return json_response(batch_object(cancelled))

    def _batch(self, request: Request) -> StoredBatch:
        batch_id = request.path_params["batch_id"]
        batch = self._database.find_batch(batch_id)
        if batch is None:
            raise ApiError(404, f"No batch found with id '{batch_id}'.", param="batch_id")
        return batch
