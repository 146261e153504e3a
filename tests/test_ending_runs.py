"""How runs end before their time: by an error, by a Ctrl-C, by being cancelled. What was received is kept."""

import asyncio
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from finetune_pricer import KeptAnswers, Predictor
from finetune_pricer._service import connections
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError
from finetune_pricer.predict import runners
from finetune_pricer.predict.runners import run_in_tasks, run_in_threads
from stub_service import Behaviour, StubService

REPLY: tuple[dict[str, Any], dict[str, str]] = ({"choices": [{"message": {"content": "$5.00"}}]}, {})
URL = "https://service.test/v1"


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


def test_a_call_that_is_refused_leaves_no_thread_and_no_task() -> None:
    with openai.OpenAI(base_url=URL, api_key="x") as client, pytest.raises(DataError):
        Predictor(client, "m").predict_many("one text")
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("dispatcher")]

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=URL, api_key="x") as client:
            with pytest.raises(DataError):
                await AsyncPredictor(client, "m").predict_many("one text")
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_stopping_sends_nothing_more_and_leaves_no_thread() -> None:
    before = threading.active_count()
    behaviour = Behaviour(latency=0.02)
    with StubService(behaviour) as service, openai.OpenAI(base_url=service.url, api_key="x") as client:
        stream = Predictor(client, "m", concurrency=4).iter_predict(texts(500))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        sent = service.sent
        time.sleep(0.05)
        assert service.sent == sent < 30
    assert threading.active_count() == before


def test_an_error_among_the_items_is_raised_and_ends_the_run() -> None:
    def broken() -> Iterator[str]:
        yield "a mug"
        raise OSError("the disk is gone")

    with StubService() as service, openai.OpenAI(base_url=service.url, api_key="x") as client:
        predictor = Predictor(client, "m")
        with pytest.raises(OSError, match="disk is gone"):
            predictor.predict_many(broken())


def test_a_cancelled_task_cancels_what_is_under_way() -> None:
    async def run(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            predictor = AsyncPredictor(client, "m", concurrency=4)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await predictor.predict_many(texts(500))
            assert len(asyncio.all_tasks()) == 1

    with StubService(Behaviour(latency=0.05)) as service:
        asyncio.run(run(service.url))
        assert service.sent < 50


def test_an_answer_that_comes_after_anothers_bug_is_kept() -> None:
    both = threading.Barrier(2, timeout=5)

    def send(sending: Any) -> Any:
        both.wait()
        if "a cup" in str(sending.task.question.messages):
            raise SystemExit("a bug")
        while any(thread.name.endswith("dispatcher") for thread in threading.enumerate()):
            time.sleep(0.001)
        return REPLY

    with openai.OpenAI(base_url=URL, api_key="x") as client:
        engine = Predictor(client, "m", store="kept.sqlite")._make_engine()
        with pytest.raises(SystemExit, match="a bug"):
            list(run_in_threads(engine, ["a mug", "a cup"], send, 2))
    with KeptAnswers("kept.sqlite") as kept:
        assert len(kept) == 1


def test_an_answer_that_comes_as_a_task_is_cancelled_is_kept() -> None:
    async def run() -> int:
        received = 0
        async with openai.AsyncOpenAI(base_url=URL, api_key="x") as client:
            engine = AsyncPredictor(client, "m", store="kept.sqlite")._make_engine()

            async def ask() -> None:
                async for _ in run_in_tasks(engine, texts(50), send, 4):
                    pass

            async def send(_: Any) -> Any:
                nonlocal received
                received += 1
                if received == 7:
                    asking.cancel()
                return REPLY

            asking = asyncio.create_task(ask())
            with pytest.raises(asyncio.CancelledError):
                await asking
        return received

    received = asyncio.run(run())
    with KeptAnswers("kept.sqlite") as kept:
        assert len(kept) == received >= 7


class Late:
    """A queue and a thread that are not ready before the third time; they note how long one waited."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    def get(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        if len(self.waits) < 3:
            raise queue.Empty
        return 7

    def is_alive(self) -> bool:
        return len(self.waits) < 3

    def join(self, timeout: float | None = None) -> None:
        self.waits.append(timeout)


def test_a_wait_is_cut_in_slices_since_on_windows_no_ctrl_c_ends_one() -> None:
    results: Any
    thread: Any
    answers: Any
    results, thread, answers = Late(), Late(), Late()
    request = httpx2.Request("GET", URL, extensions={"timeout": {"read": 60.0}})
    assert runners._get(results) == 7
    runners._join(thread, None)
    assert connections._wait(answers, connections._Deadline(request)) == 7
    waits = results.waits + thread.waits + answers.waits
    assert len(waits) == 9
    assert all(wait is not None and 0 < wait <= 0.5 for wait in waits)


INTERRUPTED = """
import signal, sys, openai
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests in the background ignores
from finetune_pricer import Predictor
from finetune_pricer.predict import engine, runners
runners._PATIENCE = 0.3
engine._ALONE = 0.1
client = openai.OpenAI(base_url=sys.argv[1], api_key="x")
Predictor(client, "m", store="kept.sqlite").predict_many(f"thing {number}" for number in range(5_000))
"""


@pytest.mark.parametrize("hangs", [0.0, 0.3, 1.0])
def test_an_interrupted_run_ends_soon_and_keeps_what_was_answered(hangs: float) -> None:
    with StubService(Behaviour(latency=0.02, hangs=hangs)) as stub:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, stub.url], stderr=subprocess.PIPE, text=True
        )
        while stub.sent < 32 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
        assert "KeyboardInterrupt" in said
        assert "the same call again asks only for the rest" in said
        with KeptAnswers("kept.sqlite") as kept:
            assert len(kept) == stub.answered.total()
