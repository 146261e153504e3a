"""Models, and the chat with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ...jobs.worker import BASES
from ...learners.sparse.training_file import CONTEXT
from ..reading import json_body
from ..refusals import ApiError, as_json, model_not_found
from ..requests import ChatBody, read_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from ..service import Service

_USUAL_REPLY = 16  # tokens that a request is counted with where it names no limit of its own


class ModelRoutes:
    """One method per route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._database = service.database

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{model:path}", self.retrieve, methods=["GET"]),
            Route("/v1/models/{model:path}", self.delete, methods=["DELETE"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    async def list(self, _: Request) -> Response:
        """Show all models, those that can be tuned first."""
        wire = self._service.wire
        tuned = [wire.tuned(model) for model in self._database.list_models()]
        return as_json({"object": "list", "data": [*map(wire.base, BASES), *tuned]})

    async def retrieve(self, request: Request) -> Response:
        """Show one."""
        name = request.path_params["model"]
        if name in BASES:
            return as_json(self._service.wire.base(name))
        model = self._database.find_model(name)
        if model is None:
            raise model_not_found(name)
        return as_json(self._service.wire.tuned(model))

    async def delete(self, request: Request) -> Response:
        """Forget one that was tuned."""
        name = request.path_params["model"]
        if name in BASES:
            raise ApiError(403, "A base model cannot be deleted.", type_="insufficient_permissions_error")
        model = self._database.find_model(name)
        if model is None:
            raise model_not_found(name)
        self._database.delete_model(model)
        self._service.answers.forget(name)
        return as_json({"id": name, "object": "model", "deleted": True})

    async def chat(self, request: Request) -> Response:
        """Answer a chat request, in one piece or as a stream."""
        body = read_body(ChatBody, await json_body(request), strict=self._service.strict)
        completion = await self._service.answers.complete(body)
        wanted = min(body.max_completion_tokens or body.max_tokens or _USUAL_REPLY, CONTEXT)
        headers = self._service.rates.admit(
            body.model, completion.usage["prompt_tokens"] + wanted * (body.n or 1)
        )
        if body.stream:
            return StreamingResponse(
                _each(completion.streamed()), media_type="text/event-stream", headers=headers
            )
        return as_json(completion.whole(), headers=headers)


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Plain iterators would be sent through a thread each.
    for chunk in chunks:
        yield chunk
