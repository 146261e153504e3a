"""The whole answer has a deadline and a largest size, however a service sends it; sync and async."""

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from finetune_pricer import FineTuneJob, Predictor
from finetune_pricer._service import connections
from finetune_pricer._service.requests import asend, get_file_content, get_job, send
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import ServiceError, ServiceUnavailable
from finetune_pricer.predict import engine

BODY = b'{"choices": [{"message": {"content": "$5.00"}}], "id": "ftjob-1", "object": "x"}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
DRIP = 0.02  # seconds between two pieces

Pieces = Callable[[], Iterator[bytes]]


def drip(text: bytes) -> Iterator[bytes]:
    for place in range(len(text)):
        yield text[place : place + 1]


def drip_body() -> Iterator[bytes]:
    yield HEAD % 100_000
    yield from drip(b" " * 100_000)


def drip_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx-long: "
    yield from drip(b"x" * 100_000)


def drip_continue() -> Iterator[bytes]:
    for _ in range(100_000):
        yield b"HTTP/1.1 100 Continue\r\n\r\n"


def drip_error() -> Iterator[bytes]:
    yield HEAD.replace(b"200 OK", b"503 Busy") % 100_000
    yield from drip(b" " * 100_000)


def whole() -> Iterator[bytes]:
    yield HEAD % len(BODY) + BODY


class Dripping:
    """A service that sends its answer in pieces, with a pause after each."""

    def __init__(self, pieces: Pieces, pause: float = DRIP) -> None:
        self._pieces, self._pause = pieces, pause
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.asked = 0
        self._ended = threading.Event()

    def __enter__(self) -> "Dripping":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            _read_request(connection)
            self.asked += 1
            for piece in self._pieces():
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                if self._ended.wait(self._pause):
                    return


def _read_request(connection: socket.socket) -> None:
    """Read all of it: to close with something unread takes back what was sent."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(100_000)
    head, _, body = read.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < sum(lengths):
        body += connection.recv(100_000)


def client_of(service: Dripping, timeout: Any = 0.25) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url, api_key="x", timeout=timeout, max_retries=0)


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ATTEMPTS", 1)


def run_sync(service: Dripping, items: list[str], timeout: float = 0.25) -> list[Any]:
    with client_of(service, timeout) as client:
        return list(Predictor(client, "m").predict_many(items))


def run_async(service: Dripping, items: list[str], timeout: float = 0.25) -> list[Any]:
    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=service.url, api_key="x", timeout=timeout) as client:
            return list(await AsyncPredictor(client, "m").predict_many(items))

    return asyncio.run(run())


DRIPPING = [drip_body, drip_headers, drip_continue, drip_error]


@pytest.mark.parametrize("run", [run_sync, run_async])
@pytest.mark.parametrize("pieces", DRIPPING)
def test_an_answer_that_drips_is_given_up_at_the_deadline(pieces: Pieces, run: Any) -> None:
    with Dripping(pieces) as service:
        began = time.monotonic()
        found = run(service, ["a mug", "a cup"])
        assert time.monotonic() - began < 10  # each would drip for half an hour
    assert [each.price for each in found] == [None, None]
    assert "no answer from http://127.0.0.1" in found[0].error


@pytest.mark.parametrize("pieces", DRIPPING)
def test_one_question_and_a_job_have_the_deadline_too(pieces: Pieces) -> None:
    with Dripping(pieces) as service, client_of(service) as client:
        with pytest.raises(ServiceUnavailable, match="in time"):
            Predictor(client, "m").predict("a mug")
        with pytest.raises(ServiceUnavailable, match="in time"):
            FineTuneJob.attach(client, "ftjob-1")


def test_an_answer_in_pieces_that_is_whole_in_time_is_taken() -> None:
    def pieces() -> Iterator[bytes]:
        whole_answer = HEAD % len(BODY) + BODY
        yield from (whole_answer[place : place + 40] for place in range(0, len(whole_answer), 40))

    with Dripping(pieces, pause=0.01) as service:
        assert [each.price for each in run_sync(service, ["a mug"], 5)] == [5]
        assert [each.price for each in run_async(service, ["a mug"], 5)] == [5]


def test_who_sets_no_timeout_waits_as_long_as_it_takes() -> None:
    with Dripping(whole) as service, client_of(service, None) as client:
        assert Predictor(client, "m").predict("a mug").price == 5


def test_an_answer_without_end_is_not_read_to_its_end_and_not_paid_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LARGEST_ANSWER", 200_000)
    monkeypatch.setattr(engine, "ATTEMPTS", 7)

    def blanks() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
        for _ in range(10_000):
            yield b" " * 30_000

    with Dripping(blanks, pause=0) as service:
        for run in (run_sync, run_async):
            [found] = run(service, ["a mug"], 20)
            assert "answered with more than" in found.error
        assert service.asked == 2


def test_an_answer_that_is_large_only_when_unpacked_is_not_unpacked_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LARGEST_ANSWER", 2**20)
    packed = gzip.compress(b" " * 50_000_000)

    def bomb() -> Iterator[bytes]:
        yield (HEAD % len(packed))[:-2] + b"content-encoding: gzip\r\n\r\n" + packed

    assert len(packed) < 100_000
    with (
        Dripping(bomb) as service,
        client_of(service, 20) as client,
        pytest.raises(ServiceError, match="answered with more than 1 MiB"),
    ):
        send(client, get_job("ftjob-1"))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_file_may_be_larger_and_take_longer_by_its_bytes(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LARGEST_ANSWER", 10)
    content = b"x" * 600_000

    def pieces() -> Iterator[bytes]:
        yield HEAD % len(content)
        yield from (content[place : place + 20_000] for place in range(0, len(content), 20_000))

    async def fetch(url: str) -> Any:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", timeout=0.3, max_retries=0) as client:
            return await asend(client, get_file_content("file-1"))

    with Dripping(pieces) as service, client_of(service, 0.3) as client:  # half a second of pauses
        request = get_file_content("file-1")
        reply = asyncio.run(fetch(service.url)) if is_async else send(client, request)
    assert reply.answer["content"] == content
