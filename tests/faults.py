"""A network that lies in one chosen way, for the sync and the async client alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Fault:
    """What happens to a request: whether the service sees it, and what comes back instead of its answer."""

    sent: bool = True
    error: type[httpx2.TransportError] | None = None
    status: int = 200
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    change: Change | None = None
    """Changes the JSON of the service's answer."""
    cut: bool = False
    """Ends the answer half-way."""


@dataclass
class Faulty(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Sends everything, but for some requests of one kind, to which a fault happens."""

    fault: Fault
    where: str
    """`METHOD path`, as a regular expression."""
    times: int = 1
    """How many of them."""
    more: dict[str, int] = field(default_factory=dict)
    """Further kinds of requests, each with how many of them."""
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of every request."""

    def __post_init__(self) -> None:
        self._sync = httpx2.HTTPTransport(verify=False)
        self._async = httpx2.AsyncHTTPTransport(verify=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self._is_struck(request):
            return self._sync.handle_request(request)
        answer = None
        if self.fault.sent:
            answer = self._sync.handle_request(request)
            answer.read()
            answer.close()
        return self._instead(request, answer)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self._is_struck(request):
            return await self._async.handle_async_request(request)
        answer = None
        if self.fault.sent:
            answer = await self._async.handle_async_request(request)
            await answer.aread()
            await answer.aclose()
        return self._instead(request, answer)

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()

    def _is_struck(self, request: httpx2.Request) -> bool:
        line = f"{request.method} {request.url.path.removeprefix('/v1')}"
        self.asked.append(line)
        if self.times and re.fullmatch(self.where, line):
            self.times -= 1
            return True
        for where, times in self.more.items():
            if times and re.fullmatch(where, line):
                self.more[where] -= 1
                return True
        return False

    def _instead(self, request: httpx2.Request, answer: httpx2.Response | None) -> httpx2.Response:
        fault = self.fault
        if fault.error is not None:
            raise fault.error("made up", request=request)
        if answer is None or fault.content is not None:
            return httpx2.Response(fault.status, content=fault.content or b"", headers=fault.headers)
        if fault.change is not None:
            return httpx2.Response(answer.status_code, json=fault.change(json.loads(answer.content)))
        content = answer.content[: len(answer.content) // 2] if fault.cut else answer.content
        status = answer.status_code if fault.status == 200 else fault.status
        headers = {"content-type": "application/json", **fault.headers}
        return httpx2.Response(status, content=content, headers=headers)


HTML = b"<html><body>Bad gateway</body></html>"
_HTML = {"content-type": "text/html"}

LOST: dict[str, Fault] = {
    "timeout before it arrives": Fault(sent=False, error=httpx2.ReadTimeout),
    "timeout after it arrived": Fault(error=httpx2.ReadTimeout),
    "no connection": Fault(sent=False, error=httpx2.ConnectError),
    "no connection in time": Fault(sent=False, error=httpx2.ConnectTimeout),
    "reset before it arrives": Fault(sent=False, error=httpx2.WriteError),
    "reset after it arrived": Fault(error=httpx2.ReadError),
    "the answer is cut off": Fault(error=httpx2.RemoteProtocolError),
    "the answer is half a JSON": Fault(cut=True),
    "429": Fault(sent=False, status=429),
    "429 with Retry-After": Fault(sent=False, status=429, headers={"retry-after": "7"}),
    "500": Fault(sent=False, status=500),
    "500 after it was done": Fault(status=500),
    "502 in HTML": Fault(sent=False, status=502, content=HTML, headers=_HTML),
    "502 in HTML after it was done": Fault(status=502, content=HTML, headers=_HTML),
    "503": Fault(sent=False, status=503),
    "504 after it was done": Fault(status=504),
    "HTML instead of JSON": Fault(content=HTML, headers=_HTML),
}
"""Days on which an answer does not come."""
