"""A small chat service with set latency, limits and faults; it counts what it is asked.

In a process of its own it is `python tests/stub_service.py '{"latency": 0.3}'`; it prints its base URL, and
ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    latency: float = 0.0
    """Seconds from question to answer."""
    requests_per_minute: float | None = None
    """Enforced by 429s, with a second's worth of requests that may come at once."""
    refusal_latency: float = 0.02
    """Seconds to a 429 or a 500."""
    shows_limit: bool = False
    """Whether x-ratelimit headers tell the limit."""
    errors: float = 0.0
    """Share of requests answered with 500."""
    drops: float = 0.0
    """Share of connections dropped instead of an answer."""
    hangs: float = 0.0
    """Share of requests that are taken and never answered, on a connection that stays open."""
    seed: int = 0


class StubService:
    """Answers each text with the price that `price_of` says; `with StubService() as service: service.url`."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.refused = self.broken = self.dropped = self.hung = self.at_once = self.most_at_once = 0
        self._random = random.Random(self.behaviour.seed)
        self._level = self._burst = (self.behaviour.requests_per_minute or 0) / 60
        self._filled_at = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def sent(self) -> int:
        return self.asked.total()

    def stats(self) -> dict[str, Any]:
        again = sum(count - 1 for count in self.answered.values())
        return {
            "asked": self.sent,
            "answered": self.answered.total(),
            "answered_again": again,
            "refused": self.refused,
            "broken": self.broken,
            "dropped": self.dropped,
            "hung": self.hung,
            "most_at_once": self.most_at_once,
        }

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        for writer in list(self._connections):
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line[15:])
                        for line in head.split(b"\r\n")
                        if line[:15].lower() == b"content-length:"
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                answer = await self._answer(head, body)
                if answer is None:
                    return
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _answer(self, head: bytes, body: bytes) -> bytes | None:
        if head.startswith(b"GET"):
            return http(200, self.stats())
        request = json.loads(body)
        text = request["messages"][-1]["content"]
        self.asked[text] += 1
        refusal = self._refusal()
        if refusal is not None:
            await asyncio.sleep(self.behaviour.refusal_latency)
            return refusal
        chance = self._random.random()
        if chance < self.behaviour.errors:
            self.broken += 1
            await asyncio.sleep(self.behaviour.refusal_latency)
            return http(500, {"error": {"message": "The server had an error.", "type": "server_error"}})
        if chance > 1 - self.behaviour.hangs:
            self.hung += 1
            await asyncio.sleep(3_600)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.behaviour.latency)
        self.at_once -= 1
        if chance < self.behaviour.errors + self.behaviour.drops:
            self.dropped += 1
            return None
        self.answered[text] += 1
        return http(200, completion(request, f"${price_of(text):.2f}"), self._limits())

    def _refusal(self) -> bytes | None:
        if not self._burst:
            return None
        now = time.monotonic()
        self._level = min(max(self._burst, 1), self._level + (now - self._filled_at) * self._burst)
        self._filled_at = now
        if self._level >= 1:
            self._level -= 1
            return None
        self.refused += 1
        wait = (1 - self._level) / self._burst
        headers = self._limits() + f"retry-after-ms: {wait * 1000:.0f}\r\nretry-after: {wait:.3f}\r\n"
        return http(
            429, {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}, headers
        )

    def _limits(self) -> str:
        if not self.behaviour.shows_limit:
            return ""
        told = {
            "limit": f"{self._burst * 60:.0f}",
            "remaining": f"{self._level:.0f}",
            "reset": f"{(self._burst - self._level) / self._burst * 1000:.0f}ms",
        }
        return "".join(f"x-ratelimit-{word}-requests: {value}\r\n" for word, value in told.items())


def price_of(text: str) -> float:
    return 1 + zlib.crc32(text.encode()) % 90_000 / 100


def completion(request: dict[str, Any], reply: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": request.get("model"),
        "choices": [choice | {"index": index} for index in range(request.get("n") or 1)],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
    }


def http(status: int, value: Any, headers: str = "") -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


if __name__ == "__main__":
    with StubService(Behaviour(**json.loads(sys.argv[1]))) as stub:
        print(stub.url, flush=True)
        sys.stdin.read()
