"""Clients that send half a request, or read no answer, keep no connection for long."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.parse
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.local.api import connections
from finetune_pricer.local.api.connections import PATIENCE, SLOWEST, Watch, find_limit
from local_helpers import eventually, upload

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"


class Client:
    """A connection as the watch sees it."""

    def __init__(self) -> None:
        self.phase, self.answered, self.received, self.unread = "head", 0, 0, 0
        self.flow = SimpleNamespace(read_paused=False)
        self.is_cut = False
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.is_cut = True


class Scene:
    """A watch with a clock that is put forward by hand, looked at each half second."""

    def __init__(self, count: int = 1, limit: int = 100) -> None:
        self.clock = 0.0
        self.clients = [Client() for _ in range(count)]
        self.watch = Watch(limit=limit, clock=lambda: self.clock)

    def let_pass(self, seconds: float) -> Iterator[Client]:
        """Yield the first client before each look."""
        end = self.clock + seconds
        while self.clock < end:
            yield self.clients[0]
            self.watch.look([client for client in self.clients if not client.is_cut])
            self.clock += 0.5

    def wait(self, seconds: float) -> bool:
        """Let a time pass in which nothing happens; return whether the first client is still there."""
        for _ in self.let_pass(seconds):
            pass
        return not self.clients[0].is_cut


def test_a_head_must_come_in_time_however_it_dribbles() -> None:
    scene = Scene()
    for client in scene.let_pass(PATIENCE):
        client.received += 1
    assert not scene.clients[0].is_cut
    assert not scene.wait(2)


def test_each_request_of_a_connection_has_its_own_time() -> None:
    scene = Scene()
    for _ in range(10):
        assert scene.wait(PATIENCE - 1)
        scene.clients[0].answered += 1


def test_a_body_may_take_as_long_as_it_brings_something() -> None:
    scene = Scene()
    scene.clients[0].phase = "body"
    for client in scene.let_pass(20 * PATIENCE):
        client.received += SLOWEST // 2 + 1
    assert not scene.clients[0].is_cut
    assert scene.wait(PATIENCE - 1)
    assert not scene.wait(3)


def test_a_body_that_dribbles_is_cut() -> None:
    scene = Scene()
    scene.clients[0].phase = "body"
    for client in scene.let_pass(PATIENCE + 3):
        client.received += 10
    assert scene.clients[0].is_cut


def test_a_client_does_not_wait_for_the_servers_own_rest() -> None:
    """It has stopped reading, since it still works on what has come."""
    scene = Scene()
    scene.clients[0].phase = "body"
    scene.clients[0].flow.read_paused = True
    assert scene.wait(10 * PATIENCE)
    scene.clients[0].flow.read_paused = False
    assert scene.wait(PATIENCE - 1)
    assert not scene.wait(3)


def test_an_answer_may_take_its_time_and_must_be_read() -> None:
    scene = Scene()
    scene.clients[0].phase = "answer"
    assert scene.wait(10 * PATIENCE)
    for client in scene.let_pass(10 * PATIENCE):
        client.unread = 65_536 + int(scene.clock * 10) % 7 * 100
    assert not scene.clients[0].is_cut
    assert scene.wait(PATIENCE - 1)
    assert not scene.wait(3)


def test_above_the_limit_those_that_were_silent_longest_are_cut() -> None:
    scene = Scene(count=5, limit=3)
    scene.clients[0].phase = "answer"
    scene.watch.look(scene.clients[:3])
    scene.clock = 1.0
    scene.clients[1].received = 5
    scene.watch.look(scene.clients[:3])
    scene.clock = 2.0
    scene.watch.look(scene.clients)

    assert [client.is_cut for client in scene.clients] == [False, True, True, False, False]


def test_the_limit_leaves_files_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    found = []
    for soft in (64, 200, 1_024, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        found.append(find_limit())

    assert found == [38, 120, 614, 10_000]


@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod", HEAD, HEAD + b"\r\nhalf a body"])
def test_half_a_request_is_cut_and_others_are_answered(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    with LocalServer() as server:
        where = urllib.parse.urlsplit(server.url)
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as client:
            client.sendall(sent)
            assert httpx2.get(f"{server.url}/models").status_code == 200
            assert client.recv(9_999) == b""


def test_an_answer_that_nobody_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    with LocalServer() as server, server.client() as client:
        file = upload(client, b"x" * 20_000_000)
        where = urllib.parse.urlsplit(server.url)
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as reader:
            request = f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n"
            reader.sendall(request.encode())
            assert server._runtime is not None
            present = server._runtime._server.server_state.connections
            eventually(lambda: any(each.phase == "answer" for each in present))  # type: ignore[union-attr]
            eventually(lambda: not any(each.phase == "answer" for each in present))  # type: ignore[union-attr]


def test_more_half_requests_than_files_keep_nobody_out() -> None:
    pytest.importorskip("resource")
    code = """if True:
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        from finetune_pricer.local import LocalServer
        with LocalServer(cores=1) as server:
            print(server.url, flush=True)
            input()
    """
    command: list[Any] = [sys.executable, "-c", code]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
        ExitStack() as open_sockets,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        url = process.stdout.readline().strip()
        where = urllib.parse.urlsplit(url)
        for _ in range(200):
            client = open_sockets.enter_context(
                socket.create_connection((where.hostname or "", where.port or 0), timeout=20)
            )
            client.sendall(HEAD)

        assert httpx2.get(f"{url.removesuffix('/v1')}/health", timeout=15).status_code == 200
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(20) == 0


def test_a_stop_that_does_not_wait_for_a_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections._SETTINGS, "timeout_graceful_shutdown", 0.1)
    answers: list[httpx2.Response] = []
    with LocalServer(faults=Faults(latency=60)) as server:
        asking = threading.Thread(
            target=lambda: answers.append(httpx2.get(f"{server.url}/models", timeout=30))
        )
        asking.start()
        assert server._runtime is not None
        state = server._runtime._server.server_state
        eventually(lambda: bool(state.tasks))
    asking.join()
    assert answers[0].status_code == 503
    assert answers[0].json()["error"]["code"] == "server_stopping"
    assert "x-request-id" in answers[0].headers
