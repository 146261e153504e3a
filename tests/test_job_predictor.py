"""From a job to its predictor: the right name, the words that it was trained on, and a warning for others."""

import asyncio
import inspect
import warnings
from pathlib import Path
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import (
    ChatFormatter,
    FineTuneJob,
    Item,
    JsonlWriter,
    MadeUpCatalogue,
    Predictor,
    TrainingFile,
    aconnect,
    connect,
)
from finetune_pricer.aio import AsyncFineTuneJob, AsyncPredictor
from finetune_pricer.errors import DataError, JobError
from finetune_pricer.local import LocalServer
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import JobRecord
from finetune_pricer.tune.spec import FORMATTER_KEY
from helpers import body_of, job_body, reply

OURS = ChatFormatter("How much is it?")
OTHER = ChatFormatter("Price?")


def done(client: openai.OpenAI, *, provider: str = "openai", **more: Any) -> FineTuneJob:
    record = JobRecord.read(job_body("succeeded", fine_tuned_model="ft:base:1", **more))
    return FineTuneJob(client, record, PROVIDERS[provider])


def test_a_jobs_predictor_asks_the_tuned_model_in_its_words(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(reply("$7.00"))
    predictor = done(client, metadata={FORMATTER_KEY: OURS.fingerprint}).predictor(OURS, decoding="greedy")
    assert predictor(Item(title="Lamp", price=1)) == 7
    body = body_of(route.calls.last.request)
    assert body["model"] == "ft:base:1"
    assert body["messages"] == OURS.prompt("Lamp")
    assert "logprobs" not in body


@pytest.mark.parametrize(
    ("metadata", "formatter", "is_warned"),
    [
        ({FORMATTER_KEY: OURS.fingerprint}, OURS, False),
        ({FORMATTER_KEY: OURS.fingerprint}, OTHER, True),
        ({FORMATTER_KEY: OURS.fingerprint}, None, True),
        ({FORMATTER_KEY: ChatFormatter().fingerprint}, None, False),
        ({}, OTHER, False),  # nothing is known of it
    ],
    ids=["the same", "another", "none given", "the usual one", "unknown"],
)
def test_a_formatter_that_did_not_write_the_training_file_is_warned_of(
    client: openai.OpenAI, metadata: dict[str, str], formatter: ChatFormatter | None, *, is_warned: bool
) -> None:
    job = done(client, metadata=metadata)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = job.predictor(formatter)
    assert [("other words" in str(each.message)) for each in caught] == [True] * is_warned
    assert not is_warned or caught[0].filename == __file__
    assert predictor.formatter == (formatter or ChatFormatter())


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> TrainingFile:
    items = MadeUpCatalogue(seed=77).splits(train=12, validation=1, test=1).train
    return JsonlWriter(OURS).write(items, tmp_path_factory.mktemp("words") / "train.jsonl")


def test_the_words_of_training_are_known_at_the_service_and_in_another_process(
    training: TrainingFile, blink: Any
) -> None:
    with LocalServer() as server, server.client() as client:
        job = FineTuneJob.create(client, training, model="pricer-base", epochs=1, sleep=blink).wait(
            sleep=blink
        )
        for known in (job, FineTuneJob.attach(client, job.id), FineTuneJob.list(client)[0]):
            assert known.record.metadata[FORMATTER_KEY] == OURS.fingerprint
            assert known.predictor(OURS).model == job.fine_tuned_model
            with pytest.warns(UserWarning, match=f"{OURS.fingerprint}, and this one has {OTHER.fingerprint}"):
                known.predictor(OTHER)

        async def ask() -> None:
            async with openai.AsyncOpenAI(**server.client_options) as aclient:
                twin = await AsyncFineTuneJob.attach(aclient, job.id)
                assert isinstance(twin.predictor(OURS), AsyncPredictor)
                assert (await twin.predictor(OURS)("a lamp") or 0) > 0
                with pytest.warns(UserWarning, match="other words"):
                    twin.predictor(OTHER)

        asyncio.run(ask())


def test_where_metadata_is_dropped_the_job_that_was_asked_for_knows_its_words(
    training: TrainingFile, blink: Any
) -> None:
    with LocalServer() as server, server.client() as client:
        ask: dict[str, Any] = {"model": "pricer-base", "epochs": 1}
        job = FineTuneJob.create(client, training, sleep=blink, **ask).wait(sleep=blink)
        for made in (job, FineTuneJob.find(client, training, **ask)):
            made.record = made.record.model_copy(update={"metadata": {}})
            with pytest.warns(UserWarning, match="other words"):
                made.predictor(OTHER)


def test_before_there_is_a_model_the_error_says_what_to_do(client: openai.OpenAI) -> None:
    running = FineTuneJob(client, JobRecord.read(job_body()))
    with pytest.raises(JobError, match=r"'running'.*job\.wait\(\)"):
        running.predictor()
    with pytest.raises(JobError, match=r"call job\.deploy\(\) first"):
        done(client, provider="nebius").predictor()
    assert done(client, provider="nebius").predictor(model="by-hand").model == "by-hand"
    with pytest.raises(DataError, match="samples"):
        done(client).predictor(samples=0)


def test_the_attributes_of_a_job_are_what_the_service_says(client: openai.OpenAI) -> None:
    job = FineTuneJob(client, JobRecord.read(job_body(created_at=7, hyperparameters={"n_epochs": 3})))
    assert (job.model, job.created_at, job.hyperparameters) == ("base", 7, {"n_epochs": 3})
    nested = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    job = FineTuneJob(client, JobRecord.read(job_body(method=nested)))
    assert job.hyperparameters == {"n_epochs": 2}
    assert FineTuneJob(client, JobRecord(id="ftjob-1")).hyperparameters == {}


def test_both_clients_of_the_local_service_reach_one_server() -> None:
    async def count() -> int:
        async with aconnect("local") as client:
            return len([job async for job in client.fine_tuning.jobs.list()])

    with connect("local") as client:
        assert len(list(client.fine_tuning.jobs.list())) == asyncio.run(count())


def test_both_ways_to_connect_take_the_same() -> None:
    assert [*inspect.signature(connect).parameters] == [*inspect.signature(aconnect).parameters]
    assert isinstance(Predictor, type)


def test_whoever_stops_waiting_hears_that_a_job_of_this_process_ends_with_it(
    client: openai.OpenAI, tmp_path: Path
) -> None:
    def told(at: openai.OpenAI) -> str:
        return FineTuneJob(at, JobRecord(id="ftjob-1", status="running"))._how_to_attach()

    assert "its server ends with it, and connect('local', dir=...) keeps it" in told(connect("local"))
    for lasting in (client, connect("local", dir=tmp_path)):
        assert told(lasting) == "find it again with FineTuneJob.attach(client, 'ftjob-1')"
