"""Routes of models: list, show and delete them, and chat with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..requests import ChatBody, read_body
from ..responses import ApiError, json_response, model_not_found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from ..app import ServerState


class _AnyName(Convertor[str]):
    """A name with any characters in it: an older server took line breaks too, and such a model must go."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyName())

_USUAL_REPLY = 16  # tokens counted for the reply to a request that names no limit
_LONGEST_REPLY = 65_536  # tokens counted for a reply at most


class ChatRoutes:
    """Handlers of `/v1/models` and `/v1/chat/completions`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._database = state.database

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{model:any}", self.retrieve, methods=["GET"]),
            Route("/v1/models/{model:any}", self.delete, methods=["DELETE"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    async def list(self, _: Request) -> Response:
        """List all models, the base models first."""
        serializer = self._state.serializer
        tuned = [serializer.tuned_model(model) for model in self._database.list_models()]
        return json_response(
            {"object": "list", "data": [*map(serializer.base_model, self._state.bases), *tuned]}
        )

    async def retrieve(self, request: Request) -> Response:
        """Show one model."""
        name = request.path_params["model"]
        if name in self._state.bases:
            return json_response(self._state.serializer.base_model(name))
        model = self._database.find_model(name)
        if model is None:
            raise model_not_found(name)
        return json_response(self._state.serializer.tuned_model(model))

    async def delete(self, request: Request) -> Response:
        """Delete a tuned model."""
        name = request.path_params["model"]
        if name in self._state.bases:
            raise ApiError(403, "A base model cannot be deleted.", type_="insufficient_permissions_error")
        model = self._database.find_model(name)
        if model is None:
            raise model_not_found(name)
        self._database.delete_model(model)
        self._state.chat.forget(name)
        return json_response({"id": name, "object": "model", "deleted": True})

    async def chat(self, request: Request) -> Response:
        """Answer a chat request, in one piece or as a stream."""
        body = await read_body(ChatBody, request, strict=self._state.strict)
        completion = await self._state.chat.complete(body)
        wanted = min(body.max_completion_tokens or body.max_tokens or _USUAL_REPLY, _LONGEST_REPLY)
        headers = self._state.rate_limiter.admit(
            body.model, completion.usage["prompt_tokens"] + wanted * (body.n or 1)
        )
        if body.stream:
            return StreamingResponse(
                _iterate(completion.stream()), media_type="text/event-stream", headers=headers
            )
        return json_response(completion.to_dict(), headers=headers)


async def _iterate(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Plain iterators would be sent through a thread each.
    for chunk in chunks:
        yield chunk
