"""The application: all routes, and an answer in the protocol's form for whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from .middleware import Gate
from .refusals import ApiError
from .routes.admin import LocalRoutes
from .routes.batches import BatchRoutes
from .routes.chat import ModelRoutes
from .routes.files import FileRoutes
from .routes.jobs import JobRoutes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from .service import Service

log = logging.getLogger("finetune_pricer.local")

_ROOMS = (LocalRoutes, FileRoutes, ModelRoutes, JobRoutes, BatchRoutes)


def build(service: Service, *, key: str | None, max_bytes: int) -> ASGIApp:
    """Return the application; with a `key`, every route but /health asks for it."""
    routes = _by_path([route for room in _ROOMS for route in room(service).routes()])
    handlers: dict[Any, Any] = {
        ApiError: _refused,
        HTTPException: _not_served,
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Gate(app, service.weather, key=key, max_bytes=max_bytes)


def _by_path(routes: list[Route]) -> list[Route]:
    """Put what one path serves into one route, so that a refused method hears of all that are allowed."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in route.methods or ():
            paths.setdefault(route.path, {})[method] = route.endpoint

    def served(methods: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            answer: Response = await methods[request.method](request)
            return answer

        return serve

    return [Route(path, served(methods), methods=list(methods)) for path, methods in paths.items()]


async def _refused(_: Request, error: ApiError) -> Response:
    return error.response()


async def _not_served(request: Request, error: HTTPException) -> Response:
    url = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return ApiError(404, f"Invalid URL ({url})", code="unknown_url").response()
    if error.status_code == 405:
        refused = ApiError(405, f"Not allowed: {url}", code="method_not_supported", headers=error.headers)
        return refused.response()
    return ApiError(error.status_code, str(error.detail)).response()


async def _gone(_: Request, __: Exception) -> Response:
    # Nobody will read it; the log tells a request that was cut off from a failure of ours.
    return ApiError(400, "The body of your request ended before it was complete.").response()


async def _broken(_: Request, error: Exception) -> Response:
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("a request failed: %s in %s, line %s", type(error).__name__, where.filename, where.lineno)
    message = "The server had an error while processing your request."
    return ApiError(500, message, type_="server_error").response()
