"""The application: its state, all routes, and an answer in the protocol's form for whatever goes wrong."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from ...errors import FileAccessError
from ..batches import Batches
from ..completions import ChatService
from ..database import Database
from ..faults import FaultInjector, Faults
from ..jobs.worker import Worker
from ..learners import load_bases
from ..records import printable
from ..shortage import describe_shortage
from .connections import HttpServer
from .health import Health
from .middleware import Middleware
from .rate_limit import RateLimiter
from .responses import ApiError, Serializer
from .routes.admin import AdminRoutes
from .routes.batches import BatchRoutes
from .routes.chat import ChatRoutes
from .routes.files import FileRoutes
from .routes.jobs import JobRoutes
from .routes.pages import PageRoutes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from ..learners import Learner

log: logging.Logger = logging.getLogger("finetune_pricer.local")

_ROUTES = (AdminRoutes, FileRoutes, ChatRoutes, JobRoutes, BatchRoutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """The server's components, built and closed together."""

    database: Database
    bases: Mapping[str, Learner]
    injector: FaultInjector
    worker: Worker
    chat: ChatService
    batches: Batches
    rate_limiter: RateLimiter
    serializer: Serializer
    health: Health
    strict: bool

    @classmethod
    def open(
        cls, folder: Path, more_bases: Mapping[str, Learner], *, faults: Faults, cores: int, strict: bool
    ) -> ServerState:
        """Open a folder; raise `FileAccessError` where it cannot be used."""
        bases = load_bases(more_bases)
        for learner in bases.values():
            learner.prepare()
        database, injector = Database(folder), FaultInjector(faults)
        chat = ChatService(database, bases, injector)
        worker = Worker(database, bases, injector, cores=cores)
        batches = Batches(database, chat, injector, strict=strict)
        return cls(
            database=database,
            bases=bases,
            injector=injector,
            worker=worker,
            chat=chat,
            batches=batches,
            rate_limiter=RateLimiter(injector),
            serializer=Serializer(bases, injector),
            health=Health(database, [*worker.threads, batches.thread], learners=bases.values()),
            strict=strict,
        )

    def start(self) -> None:
        """Take up jobs and batches that are unfinished, and wait for more.

        Raises:
            FileAccessError: What the last server left cannot be taken up.
        """
        try:
            self.worker.start()
            self.batches.start()
        except (OSError, sqlite3.Error) as error:
            raise FileAccessError(
                f"cannot take up what the last server left unfinished ({describe_shortage(error) or error}); "
                "make room on the disk, or see to it that the folder can be written"
            ) from error

    def close(self) -> None:
        """Stop jobs and batches, and close the learners and the database."""
        self.worker.stop()
        self.batches.stop()
        for learner in self.bases.values():
            learner.close()
        self.database.close()


def build_server(
    state: ServerState, *, key: str | None, max_bytes: int, names: Iterable[str] = ()
) -> HttpServer:
    """Return what serves the application; with a `key`, every route but /health asks for it."""
    routes = [route for kind in _ROUTES for route in kind(state).routes()]
    routes += PageRoutes(state, has_key=key is not None).routes()
    handlers: dict[Any, Any] = {
        ApiError: _answer_api_error,
        HTTPException: _answer_http_error,
        ClientDisconnect: _answer_disconnect,
        OSError: _answer_shortage,
        sqlite3.Error: _answer_shortage,
        Exception: _answer_failure,
    }
    app: ASGIApp = Starlette(routes=_group_by_path(routes), exception_handlers=handlers)
    app = Middleware(app, state.injector, key=key, max_bytes=max_bytes, names=names)
    return HttpServer(app)


def _group_by_path(routes: list[Route]) -> list[Route]:
    """Return one route for each path, so that the refusal of a method names all that are allowed."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in route.methods or ():
            paths.setdefault(route.path, {})[method] = route.endpoint

    def dispatch(methods: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            answer: Response = await methods[request.method](request)
            return answer

        return serve

    return [Route(path, dispatch(methods), methods=list(methods)) for path, methods in paths.items()]


async def _answer_api_error(_: Request, error: ApiError) -> Response:
    return error.response()


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    url = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return ApiError(404, f"Invalid URL ({url})", code="unknown_url").response()
    if error.status_code == 405:
        refused = ApiError(405, f"Not allowed: {url}", code="method_not_supported", headers=error.headers)
        return refused.response()
    return ApiError(error.status_code, str(error.detail)).response()


async def _answer_disconnect(_: Request, __: Exception) -> Response:
    # Nobody will read it; the log tells a request that was cut off from a failure of ours.
    return ApiError(400, "The body of your request ended before it was complete.").response()


async def _answer_shortage(request: Request, error: Exception) -> Response:
    shortage = describe_shortage(error)
    if shortage is None:
        return await _answer_failure(request, error)
    log.warning("%s %s had no effect: %s", request.method, printable(request.url.path), shortage)
    message = f"The request had no effect: {shortage}. Try again when there is more."
    return ApiError(503, message, type_="server_error", code="insufficient_storage").response()


async def _answer_failure(_: Request, error: Exception) -> Response:
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("a request failed: %s in %s, line %s", type(error).__name__, where.filename, where.lineno)
    message = "The server had an error while processing your request."
    return ApiError(500, message, type_="server_error").response()
