"""Routes that only this server has: its health, its faults, and its OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from ....errors import DataError
from ...faults import PRESETS, Faults, faults_from
from ..openapi import document
from ..requests import Body, read_body
from ..responses import invalid_value, json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ..app import ServerState


class AdminRoutes:
    """Handlers of `/health`, `/openapi.json` and `/local/faults`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/health", self.show_health, methods=["GET"]),
            Route("/openapi.json", self.show_document, methods=["GET"]),
            Route("/local/faults", self.show_faults, methods=["GET"]),
            Route("/local/faults", self.set_faults, methods=["POST"]),
        ]

    async def show_health(self, _: Request) -> Response:
        """Say that the server is there and can do its work, or with a 503 what keeps it from that."""
        problems = await run_in_threadpool(self._state.health.find_problems)
        if problems:
            return json_response({"status": "failing", "problems": problems}, status=503)
        return json_response({"status": "ok"})

    async def show_document(self, _: Request) -> Response:
        """Describe this server's routes."""
        return json_response(document(tuple(self._state.bases)))

    async def show_faults(self, _: Request) -> Response:
        """Show the faults in force."""
        return json_response(self._state.injector.faults.model_dump(mode="json"))

    async def set_faults(self, request: Request) -> Response:
        """Put faults in force: a preset by its name, fields, or both; an empty object ends them all."""
        fields = dict((await read_body(Body, request, strict=False)).model_extra or {})
        name = fields.pop("preset", None)
        if name is not None and (not isinstance(name, str) or name not in PRESETS):
            raise invalid_value(f"'preset' must be one of {', '.join(PRESETS)}.", "preset")
        try:
            faults = faults_from(fields) if name is None else Faults.preset(name, **fields)
        except DataError as error:
            raise invalid_value(str(error), "faults") from error
        self._state.injector.set(faults)
        return await self.show_faults(request)
