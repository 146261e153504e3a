"""A process that is forked shares nothing with its parent: no connection, no stream, no database."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from finetune_pricer import AnswerStore, FineTuneJob, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError
from stub_service import Behaviour, StubService
from test_engine import expected, texts

if sys.platform == "win32":
    pytest.skip("there is no fork", allow_module_level=True)


def fork(work: Callable[[], Any]) -> int:
    """Do some work in a forked child, and return the child's id; it exits with 0 where the work is done."""
    child = os.fork()
    if child:
        return child
    status = 1
    signal.alarm(60)  # ends it where it hangs
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - the child must never get into pytest
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def end_of(child: int) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@pytest.fixture
def stub() -> Iterator[StubService]:
    with StubService(Behaviour(latency=0.001)) as service:
        yield service


# Python 3.12 and later warn that a process of several threads is forked, which is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.mark.parametrize("store", [None, "kept.sqlite"])
def test_forked_processes_are_given_their_own_answers(store: str | None, stub: StubService) -> None:
    with openai.OpenAI(base_url=stub.url, api_key="x") as client:
        predictor = Predictor(client, "m", store=store, concurrency=16)
        predictor.predict_many(texts(32))  # opens connections that a child would share

        def price(start: int) -> None:
            items = [f"thing of {start}, number {number}" for number in range(150)]
            found = [each.price for each in predictor.iter_predict(items)]
            assert found == pytest.approx(expected(items))
            again = [predictor.predict(item).price for item in items[:3]]
            assert again == pytest.approx(expected(items)[:3])

        children = [fork(lambda start=start: price(start)) for start in range(3)]  # type: ignore[misc]
        price(3)
        assert [end_of(child) for child in children] == [0, 0, 0]
    if store is not None:
        with AnswerStore(store) as kept:
            assert len(kept) == 32 + 4 * 150


def test_a_client_that_was_used_before_we_saw_it_is_not_shared_either(stub: StubService) -> None:
    with openai.OpenAI(base_url=stub.url, api_key="x") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])

        def price() -> None:
            predictor = Predictor(client, "m")
            guarded: Any = predictor._clients_for_many()()
            assert guarded._client.inner is client._client
            assert predictor.predict("a mug").price is not None
            assert not is_open_in_child(client)

        assert end_of(fork(price)) == 0


def is_open_in_child(client: openai.OpenAI) -> bool:
    """Whether a client's own pool has sent more than the one request of the parent."""
    [connection] = client._client._transport._pool.connections  # type: ignore[attr-defined]
    return "Request Count: 1" not in connection.info()


def test_an_async_predictor_is_not_shared_either(stub: StubService) -> None:
    import asyncio

    client = openai.AsyncOpenAI(base_url=stub.url, api_key="x")
    predictor = AsyncPredictor(client, "m", concurrency=8)

    async def price() -> list[float | None]:
        return [each.price for each in await predictor.predict_many(texts(30))]

    async def price_and_close() -> list[float | None]:
        async with client:
            return await price()

    assert asyncio.run(price_and_close()) == pytest.approx(expected(texts(30)))

    def price_in_child() -> None:
        assert asyncio.run(price()) == pytest.approx(expected(texts(30)))

    assert end_of(fork(price_in_child)) == 0


def test_a_client_whose_connections_cannot_be_made_anew_is_refused(stub: StubService) -> None:
    with openai.OpenAI(base_url=stub.url, api_key="x", http_client=httpx2.Client()) as client:
        predictor = Predictor(client, "m")
        job = FineTuneJob(client, made_up_record())
        assert predictor.predict("a mug").price is not None

        def ask() -> None:
            with pytest.raises(DataError, match="make the client in the worker"):
                predictor.predict("a cup")
            with pytest.raises(DataError, match="make the client in the worker"):
                predictor.predict_many(["a cup"])
            with pytest.raises(DataError, match="make the client in the worker"):
                job.refresh()
            with openai.OpenAI(base_url=stub.url, api_key="x", http_client=httpx2.Client()) as own:
                assert Predictor(own, "m").predict("a cup").price is not None

        assert end_of(fork(ask)) == 0
        assert predictor.predict("a jug").price is not None


def made_up_record() -> Any:
    from finetune_pricer.tune import JobRecord

    return JobRecord(id="ftjob-1", status="running", model="m")


def test_a_stream_that_was_begun_before_a_fork_is_the_parents(stub: StubService) -> None:
    with openai.OpenAI(base_url=stub.url, api_key="x") as client:
        stream = Predictor(client, "m", store="kept.sqlite", concurrency=4).iter_predict(texts(100))
        first = next(stream)

        def go_on() -> None:
            with pytest.raises(DataError, match="of the process that this one was forked from"):
                next(stream)

        assert end_of(fork(go_on)) == 0
        found = [first, *stream]
    assert [each.price for each in found] == pytest.approx(expected(texts(100)))
    assert stub.stats()["answered_again"] == 0


def test_a_child_that_exits_leaves_the_parents_run_alone(stub: StubService) -> None:
    with openai.OpenAI(base_url=stub.url, api_key="x") as client:
        predictor = Predictor(client, "m", store="kept.sqlite", concurrency=4)
        stream = predictor.iter_predict(texts(60))
        next(stream)

        def leave() -> None:
            import atexit

            atexit._run_exitfuncs()  # what `sys.exit` does last

        assert end_of(fork(leave)) == 0
        assert len(list(stream)) == 59
    with AnswerStore("kept.sqlite") as kept:
        assert len(kept) == 60
