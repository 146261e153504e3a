"""ASGI middleware that every request passes: key, host check, size of the body, faults, request id, log."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import ipaddress
import logging
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from ..records import new_id, printable
from .requests import MAX_DRAINED
from .responses import ApiError, body_too_large

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, MutableMapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..faults import FaultInjector

log: logging.Logger = logging.getLogger("finetune_pricer.local")

_WITHOUT_KEY = frozenset({"/health"})
_PAGES = ("/", "/ask")
_PAGES_OF_JOBS = "/jobs/"
_SERVER_ERRORS = (500, 502, 503, 504)
_WITHOUT_FAULTS = ("/health", "/local/")  # or faults could not be ended while every request fails
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# What a browser says of requests that no page of others has made.
_OWN_SITES = (b"same-origin", b"none")


class Middleware:
    """Wraps the application.

    Args:
        app: The application.
        injector: The faults in force.
        key: What a request must carry; without one, requests must come from this machine and its own pages.
        max_bytes: How many bytes the body of a request may have.
        names: Further names of this machine for requests without a key.
    """

    def __init__(
        self, app: ASGIApp, injector: FaultInjector, *, key: str | None, max_bytes: int, names: Iterable[str]
    ) -> None:
        self._app = app
        self._injector = injector
        self._key = None if key is None else key.encode()
        self._max_bytes = max_bytes
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it here."""
        if scope["type"] != "http":
            return
        started, exchange = time.perf_counter(), _Exchange(receive, send, self._max_bytes)
        try:
            await self._let_through(scope, exchange)
        except asyncio.CancelledError:
            # A server that stops has waited long enough for this request.
            if exchange.status:
                raise
            await _stopping().response()(scope, receive, exchange.send)
        took = 1_000 * (time.perf_counter() - started)
        level = logging.DEBUG if exchange.status < 400 else logging.INFO
        path = printable(scope["path"])
        log.log(level, "%s %s %d %.1f ms", scope["method"], path, exchange.status, took)

    async def _let_through(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            self._check_access(scope)
            await self._inject_fault(scope, exchange)
        except ApiError as error:
            await _drain(exchange.receive_any)
            await error.response()(scope, exchange.receive_any, exchange.send)
        else:
            # An unforeseen error of a handler is answered and logged there, and raised once more by
            # starlette; uvicorn would log its message, which may hold a piece of a prompt.
            with contextlib.suppress(Exception):
                await self._app(scope, exchange.receive, exchange.send)

    def _check_access(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._key is None:
            _check_names(headers, self._names)
            _check_page(headers, scope["method"])
        elif scope["path"] not in _WITHOUT_KEY:
            self._check_key(headers.get(b"authorization", b""), scope["path"])
            _check_form(headers, scope["method"])
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise body_too_large(self._max_bytes)

    def _check_key(self, given: bytes, path: str) -> None:
        key, challenge = self._key or b"", None
        kind, _, credentials = given.partition(b" ")
        if _is_page(path):
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

    async def _inject_fault(self, scope: Scope, exchange: _Exchange) -> None:
        faults = self._injector.faults
        if scope["path"].startswith(_WITHOUT_FAULTS) or _is_page(scope["path"]):
            return
        if faults.latency:
            await asyncio.sleep(faults.latency)
        if self._injector.happens(faults.server_error_rate):
            status = self._injector.choose(_SERVER_ERRORS)
            message = "The server had an error while processing your request (a fault)."
            raise ApiError(status, message, type_="server_error")
        exchange.is_lost = scope["method"] == "POST" and self._injector.happens(faults.lost_answer_rate)


class _Exchange:
    """One request and its answer on their way through the middleware."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self.receive_any = receive
        """Receives without a limit on bytes."""
        self._send = send
        self._max_bytes = max_bytes
        self._read = 0
        self.status = 0
        self.is_lost = False
        """Whether the answer is to be lost: the request takes effect, and the connection is cut."""

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self.receive_any()
        self._read += len(message.get("body", b""))
        if self._read > self._max_bytes:
            raise body_too_large(self._max_bytes)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", new_id("req_").encode())]
            if self.is_lost:
                # A body that never comes makes uvicorn cut the connection, as a broken network would.
                message["headers"] = [(b"content-length", b"1000000")]
        if not self.is_lost or message["type"] == "http.response.start":
            await self._send(message)


def _stopping() -> ApiError:
    message = "The server stops, and did not wait for this request: whether it had an effect is not known."
    return ApiError(503, message, type_="server_error", code="server_stopping")


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from this machine only."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local_name(given: str, names: Collection[str] = ()) -> bool:
    """Return whether a Host or Origin header names this machine: by a loopback name or one of `names`.

    Not by a name that the network answers for, such as `pricer.local`: there a stranger could answer.
    """
    try:
        host = urllib.parse.urlsplit(given if "//" in given else f"//{given}").hostname
    except ValueError:
        return False
    return host is not None and (is_loopback(host) or host.endswith(".localhost") or host in names)


def _is_page(path: str) -> bool:
    """Return whether a path is that of a page for people, who have a browser and no client."""
    return path in _PAGES or path.startswith(_PAGES_OF_JOBS)


def _check_form(headers: dict[bytes, bytes], method: str) -> None:
    """With a key, refuse a form of another origin: a browser adds the password by itself."""
    is_basic = headers.get(b"authorization", b"").lower().startswith(b"basic")
    site = headers.get(b"sec-fetch-site", b"none")
    host = headers.get(b"origin", b"").rpartition(b"//")[2]
    is_foreign = site not in _OWN_SITES or host.lower() not in (b"", headers.get(b"host", b"").lower())
    if is_basic and method not in _READING and is_foreign:
        message = "This page takes no forms from web pages of other origins."
        raise ApiError(403, message, code="origin_not_allowed")


def _check_names(headers: dict[bytes, bytes], names: Collection[str]) -> None:
    """Without a key, refuse requests that a foreign web page sends through a browser on this machine."""
    for name in (b"host", b"origin"):
        given = headers.get(name)
        if given and not is_local_name(given.decode("latin-1"), names):
            message = (
                f"This server has no key, and so answers this machine only: the {name.decode().title()} "
                "header must name localhost or 127.0.0.1. Start it with a key, or with --name for another "
                "name of this machine."
            )
            raise ApiError(403, message, code="host_not_allowed")


def _check_page(headers: dict[bytes, bytes], method: str) -> None:
    """Without a key, refuse what a page of another origin sends, also one of another port of this machine."""
    site, origin = headers.get(b"sec-fetch-site", b"none"), headers.get(b"origin")
    if method in _READING:
        # A link to the dashboard may stand anywhere; what a page reads in itself may not.
        is_foreign = site == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate"
    else:
        own = b"http://" + headers.get(b"host", b"")
        is_foreign = site not in _OWN_SITES or (origin is not None and origin.lower() != own.lower())
    if is_foreign:
        message = (
            "This server has no key, and so takes no requests from web pages of other origins. "
            "Start it with a key, and let the page send that."
        )
        raise ApiError(403, message, code="origin_not_allowed")


async def _drain(receive: Receive) -> None:
    """Read some of a rejected body: a client that is cut off while it sends never sees the answer."""
    read = 0
    while read < MAX_DRAINED:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
