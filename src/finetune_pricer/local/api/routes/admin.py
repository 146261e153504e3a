"""What only this server has: its health, its faults, its index page, and its OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ....errors import DataError
from ...faults import PRESETS, Faults, faults_from
from ..dashboard import index_page
from ..openapi import document
from ..reading import json_body
from ..refusals import as_json, invalid_value
from ..requests import Request as Body
from ..requests import read_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..service import Service


class LocalRoutes:
    """One method per route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self.index, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/local/faults", self.faults, methods=["GET"]),
            Route("/local/faults", self.set_faults, methods=["POST"]),
        ]

    async def index(self, _: Request) -> Response:
        """Show jobs, losses and models to a person."""
        page = await run_in_threadpool(index_page, self._service)
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page, headers={"content-security-policy": policy})

    async def health(self, _: Request) -> Response:
        """Say that the server is there."""
        return as_json({"status": "ok"})

    async def openapi(self, _: Request) -> Response:
        """Describe this server in its own words."""
        return as_json(document())

    async def faults(self, _: Request) -> Response:
        """Show the faults in force."""
        return as_json(self._service.weather.faults.model_dump(mode="json"))

    async def set_faults(self, request: Request) -> Response:
        """Put faults in force: a preset by its name, fields, or both; an empty object ends them all."""
        fields = dict(read_body(Body, await json_body(request), strict=False).model_extra or {})
        name = fields.pop("preset", None)
        if name is not None and (not isinstance(name, str) or name not in PRESETS):
            raise invalid_value(f"'preset' must be one of {', '.join(PRESETS)}.", "preset")
        try:
            faults = faults_from(fields) if name is None else Faults.preset(name, **fields)
        except DataError as error:
            raise invalid_value(str(error), "faults") from error
        self._service.weather.set(faults)
        return await self.faults(request)
