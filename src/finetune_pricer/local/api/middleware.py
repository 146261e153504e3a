"""What every request passes: the key, the size of its body, the faults in force, a request id, the log."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import time
from typing import TYPE_CHECKING, Any

from ..records import new_id
from .hosts import names_neighbour
from .reading import READ_ON
from .refusals import ApiError, too_large

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..faults import Weather

log = logging.getLogger("finetune_pricer.local")

_OPEN = frozenset({"/health"})
_PAGE = "/"
_BROKEN = (500, 502, 503, 504)
_NEVER_STRUCK = ("/health", "/local/")  # or a server in a storm could not be told to calm down


class Gate:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, weather: Weather, *, key: str | None, max_bytes: int) -> None:
        self._app = app
        self._weather = weather
        self._key = None if key is None else key.encode()
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it here."""
        if scope["type"] != "http":
            return
        started, passage = time.perf_counter(), _Passage(receive, send, self._max_bytes)
        try:
            self._admit(scope)
            await self._strike(scope, passage)
        except ApiError as error:
            await _drain(receive)
            await error.response()(scope, receive, passage.send)
        else:
            # What a handler could not foresee is answered and logged there, and raised once more by
            # starlette; uvicorn would log its message, which may hold a piece of a prompt.
            with contextlib.suppress(Exception):
                await self._app(scope, passage.receive, passage.send)
        took = 1_000 * (time.perf_counter() - started)
        level = logging.DEBUG if passage.status < 400 else logging.INFO
        log.log(level, "%s %s %d %.1f ms", scope["method"], _shown(scope["path"]), passage.status, took)

    def _admit(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._key is None:
            _refuse_strangers(headers)
        elif scope["path"] not in _OPEN:
            self._check_key(headers.get(b"authorization", b""), scope["path"])
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise too_large(self._max_bytes)

    def _check_key(self, given: bytes, path: str) -> None:
        key, challenge = self._key or b"", None
        kind, _, credentials = given.partition(b" ")
        if path == _PAGE:
            # A browser can send a name and a password, and nothing else; the key is the password.
            challenge = {"www-authenticate": 'Basic realm="finetune-pricer"'}
            if kind.lower() == b"basic":
                with contextlib.suppress(binascii.Error):
                    credentials = base64.b64decode(credentials).partition(b":")[2]
                kind = b"Bearer"
        if not given:
            message = "You didn't provide an API key, in an Authorization header of the form 'Bearer KEY'."
            raise ApiError(401, message, code="invalid_api_key", headers=challenge)
        if not hmac.compare_digest(credentials.strip(), key) or kind.lower() != b"bearer":
            message = "Incorrect API key provided."
            raise ApiError(401, message, code="invalid_api_key", headers=challenge)

    async def _strike(self, scope: Scope, passage: _Passage) -> None:
        faults = self._weather.faults
        if scope["path"].startswith(_NEVER_STRUCK) or scope["path"] == _PAGE:
            return
        if faults.latency:
            await asyncio.sleep(faults.latency)
        if self._weather.strikes(faults.server_error_rate):
            status = self._weather.chosen(list(_BROKEN))
            message = "The server had an error while processing your request (a fault)."
            raise ApiError(status, message, type_="server_error")
        passage.lost = scope["method"] == "POST" and self._weather.strikes(faults.lost_answer_rate)


class _Passage:
    """One request and its answer on their way through the gate."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._read = 0
        self.status = 0
        self.lost = False
        """Whether the answer is to be lost: the request takes effect, and the connection is cut."""

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._max_bytes:
            raise too_large(self._max_bytes)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", new_id("req_").encode())]
            if self.lost:
                # A body that never comes makes uvicorn cut the connection, as a broken network would.
                message["headers"] = [(b"content-length", b"1000000")]
        if not self.lost or message["type"] == "http.response.start":
            await self._send(message)


def _refuse_strangers(headers: dict[bytes, bytes]) -> None:
    """Without a key, keep out what only a web page of others would send through a browser on this machine."""
    for name in (b"host", b"origin"):
        given = headers.get(name)
        if given and not names_neighbour(given.decode("latin-1")):
            message = (
                f"This server has no key, and so answers this machine only: the {name.decode().title()} "
                "header must name localhost or 127.0.0.1. Start it with a key to use another name."
            )
            raise ApiError(403, message, code="host_not_allowed")


async def _drain(receive: Receive) -> None:
    """Read some of a body that is refused: a client that is cut off while it sends never sees the answer."""
    read = 0
    while read < READ_ON:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _shown(path: str) -> str:
    # From outside: neither a line of its own in the log nor a page of it.
    return path[:120].encode("unicode_escape").decode()
