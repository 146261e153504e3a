"""As much of the Hugging Face Hub as pushing needs, on loopback."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub.constants
import pytest


class Hub(ThreadingHTTPServer):
    """As much of the Hub as pushing needs: it keeps the files of the last commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[Any] = []
        self.tokens: set[str | None] = set()
        self.place = "datasets/me/shop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        # The files that an earlier push left there.
        if "forbidden" in self.path:
            return self.answer({"error": "Not found"}, 404)
        if "/tree/" in self.path:
            return self.answer([{"type": "file", "path": "data/old.parquet", "oid": "0", "size": 1}])
        return self.answer({"id": "me/shop", "sha": "0"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            if self.server.created[-1]["name"] == "forbidden":
                return self.answer({"error": "You don't have the rights"}, 403)
            return self.answer({"url": f"{self.server.url}/{self.server.place}"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            kept = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.answer(
                {"files": [kept | {"path": each["path"]} for each in json.loads(body)["files"]]}
            )
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                self.server.files[entry["value"]["path"]] = b"deleted"
        return self.answer({"commitUrl": f"{self.server.url}/{self.server.place}/commit/1", "commitOid": "1"})

    def answer(self, content: Any, status: int = 200) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hub_on_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Send what would go to the Hub to a double of it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        yield server
        server.shutdown()
        thread.join()
