"""Routes of the pages that people look at in a browser: the overview, a job, and the box to try a text."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ...._chat_protocol import text_of
from ..dashboard import render, render_job, render_overview
from ..question import MOST, ask
from ..responses import ApiError, body_too_large

if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request

    from ..app import ServerState

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    # With `no-referrer` a browser would not say of which origin a form is.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_MOST_BYTES = 4 * MOST + 10_000


class PageRoutes:
    """Handlers of `/`, `/jobs/{id}` and `/ask`.

    Args:
        state: The server's components.
        has_key: Whether the server asks for a key; pages tell how to give it, and never show it.
    """

    def __init__(self, state: ServerState, *, has_key: bool) -> None:
        self._state = state
        self._has_key = has_key

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self.show_overview, methods=["GET"]),
            Route("/jobs/{job}", self.show_job, methods=["GET"]),
            Route("/ask", self.show_form, methods=["GET"]),
            Route("/ask", self.ask, methods=["POST"]),
        ]

    async def show_overview(self, request: Request) -> Response:
        """Show jobs, losses and models to a person."""
        page = await run_in_threadpool(
            render_overview, self._state, url=_url_of(request), has_key=self._has_key
        )
        return HTMLResponse(page, headers=_HEADERS)

    async def show_job(self, request: Request) -> Response:
        """Show one job."""
        job = self._state.database.find_job(request.path_params["job"])
        if job is None:
            return self._render("missing.html", status=404)
        page = await run_in_threadpool(
            render_job, self._state, job, url=_url_of(request), has_key=self._has_key
        )
        return HTMLResponse(page, headers=_HEADERS)

    async def show_form(self, request: Request) -> Response:
        """Show the box to try a text."""
        return self._render_question(request, request.query_params.get("model", ""))

    async def ask(self, request: Request) -> Response:
        """Ask the model about the text of the form."""
        model, text = await _read_form(request)
        try:
            wording, opinion = await run_in_threadpool(ask, self._state, model, text)
        except ApiError as error:
            shown = error.error["message"]
            return self._render_question(request, model, text=text, error=shown, status=error.status)
        asked = [(message["role"], text_of(message)) for message in wording.messages(text)]
        return self._render_question(request, model, text=text, opinion=opinion, asked=asked)

    def _render_question(
        self, request: Request, model: str, *, status: int = 200, **answer: Any
    ) -> HTMLResponse:
        names = [one.id for one in self._state.database.list_models()] + list(self._state.bases)
        content = {"text": "", "error": None, "opinion": None, "asked": []} | answer
        return self._render(
            "ask.html",
            status=status,
            url=_url_of(request),
            has_key=self._has_key,
            models=names,
            model=model if model in names else names[0],
            **content,
        )

    def _render(self, page: str, *, status: int, **content: Any) -> HTMLResponse:
        text = render(page, self._state, refresh=None, **content)
        return HTMLResponse(text, status_code=status, headers=_HEADERS)


async def _read_form(request: Request) -> tuple[str, str]:
    """Return the model and the text of a form as browsers send it."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MOST_BYTES:
            raise body_too_large(_MOST_BYTES)
    fields = urllib.parse.parse_qs(content.decode("utf-8", "replace"), keep_blank_values=True)
    # A browser sends a line break as two characters, as forms have it.
    return fields.get("model", [""])[0], fields.get("text", [""])[0].replace("\r\n", "\n")


def _url_of(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
