"""The async door: the same names, the same parameters, the same decisions."""

import asyncio
import inspect
import logging
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile, upload
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import DataError, JobTimeout
from finetune_pricer.local import LocalServer
from finetune_pricer.tune import JobRecord

PUBLIC = [name for name in dir(FineTuneJob) if not name.startswith("_")]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def training(request: pytest.FixtureRequest) -> TrainingFile:
    seed = abs(hash(request.node.name)) % 2**31
    return JsonlWriter().write(
        MadeUpCatalogue(seed=seed).splits(train=12, validation=1, test=1).train, "t.jsonl"
    )


def test_both_doors_have_the_same_names() -> None:
    assert [name for name in dir(AsyncFineTuneJob) if not name.startswith("_")] == PUBLIC


@pytest.mark.parametrize(
    "name", [name for name in [*PUBLIC, "__init__"] if callable(getattr(FineTuneJob, name))]
)
def test_both_doors_take_the_same_parameters(name: str) -> None:
    sync, async_ = (inspect.signature(getattr(kind, name)) for kind in (FineTuneJob, AsyncFineTuneJob))
    assert list(sync.parameters) == list(async_.parameters)
    for one, other in zip(sync.parameters.values(), async_.parameters.values(), strict=True):
        assert one.kind == other.kind
        if one.name == "sleep":
            assert (one.default, other.default) == (time.sleep, asyncio.sleep)
        else:
            assert one.default == other.default
        if one.name not in {"sleep", "client"}:
            assert one.annotation == other.annotation


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, training: FineTuneJob.create(client, training, model="pricer-base"),
        lambda client, training: FineTuneJob.find(client, training, model="pricer-base"),
        lambda client, _: FineTuneJob.attach(client, "ftjob-1"),
        lambda client, _: FineTuneJob.list(client),
        lambda client, _: FineTuneJob(client, JobRecord(id="ftjob-1")).refresh(),
        lambda client, _: list(FineTuneJob(client, JobRecord(id="ftjob-1")).stream_events()),
        lambda client, _: FineTuneJob(client, JobRecord(id="ftjob-1")).metrics(),
        lambda client, _: FineTuneJob(client, JobRecord(id="ftjob-1")).delete(),
        upload,
    ],
    ids=["create", "find", "attach", "list", "refresh", "stream_events", "metrics", "delete", "upload"],
)
def test_a_client_of_the_other_kind_is_refused_before_anything_is_sent(
    server: LocalServer, training: TrainingFile, ask: Any
) -> None:
    client = openai.AsyncOpenAI(**server.client_options)
    with pytest.raises(DataError, match=r"openai\.OpenAI(, not an|; this is) AsyncOpenAI"):
        ask(client, training)


def test_an_async_job_refuses_a_sync_client(server: LocalServer) -> None:
    with server.client() as client, pytest.raises(DataError, match="not an OpenAI"):
        asyncio.run(AsyncFineTuneJob.attach(client, "ftjob-1"))  # type: ignore[arg-type]


async def quick(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.01))


def test_many_tasks_that_ask_for_the_same_at_once_buy_one_job(
    server: LocalServer, training: TrainingFile
) -> None:
    async def together() -> set[str]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            asked = [
                AsyncFineTuneJob.create(client, training, model="pricer-base", epochs=1, sleep=quick)
                for _ in range(8)
            ]
            return {job.id for job in await asyncio.gather(*asked)}

    with server.client() as client:
        before = len(list(client.fine_tuning.jobs.list(limit=100)))
        assert len(asyncio.run(together())) == 1
        assert len(list(client.fine_tuning.jobs.list(limit=100))) == before + 1


def test_everything_that_one_can_ask_is_answered(server: LocalServer, training: TrainingFile) -> None:
    async def life() -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            made = await AsyncFineTuneJob.create(client, training, model="pricer-base", epochs=1, sleep=quick)
            job = await AsyncFineTuneJob.attach(client, made.id)
            streamed = [event.id async for event in job.stream_events(sleep=quick)]
            await job.wait(sleep=quick)
            assert streamed == [event.id for event in await job.events()]
            rest = [event.id async for event in job.stream_events(after=streamed[2], sleep=quick)]
            assert rest == streamed[3:]
            found = await AsyncFineTuneJob.find(client, training, model="pricer-base", epochs=1)
            assert found.id == job.id
            assert job.id in {each.id for each in await AsyncFineTuneJob.list(client)}
            assert (await job.metrics())[-1].train_loss is not None
            assert isinstance(await job.checkpoints(), list)
            assert (await job.result_files())[0].content.startswith(b"step")
            assert (await job.deploy()).model == job.fine_tuned_model
            await job.undeploy()
            assert job.fine_tuned_model in await job.delete()
            assert (await job.refresh()).is_final

    asyncio.run(life())


def test_the_waiting_can_be_cancelled_or_run_out_and_the_job_goes_on(
    server: LocalServer, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    async def short() -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            job = await AsyncFineTuneJob.create(
                client, training, model="pricer-base", epochs=50, batch_size=1, again=True, sleep=quick
            )
            with pytest.raises(JobTimeout, match=r"AsyncFineTuneJob\.attach"):
                await job.wait(timeout=0, sleep=quick)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job.wait(), 0.02)
            assert (await job.cancel()).status == "cancelled"

    with caplog.at_level(logging.WARNING):
        asyncio.run(short())
    assert "AsyncFineTuneJob.attach(client" in caplog.text


def test_a_stream_that_is_left_early_is_tidied_up(server: LocalServer, training: TrainingFile) -> None:
    async def first() -> str:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            job = await AsyncFineTuneJob.create(client, training, model="pricer-base", epochs=1, sleep=quick)
            async for event in job.stream_events(sleep=quick):
                return event.message
        return ""

    assert asyncio.run(first()).startswith("Created")
