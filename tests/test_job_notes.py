"""What a user notes on a job goes to the service within the protocol's limits, and buys no second job."""

import asyncio
from typing import Any

import pytest

from finetune_pricer import FineTuneJob, JsonlWriter, TrainingFile
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import DataError, WrongArgument
from finetune_pricer.providers import Provider
from finetune_pricer.testing import CannedService
from finetune_pricer.tune import JobSpec
from finetune_pricer.tune.spec import OUR_KEYS
from helpers import priced

WANDB = {"type": "wandb", "wandb": {"project": "prices", "api_key": "sk-secret"}}


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(priced(20), "train.jsonl")


def test_notes_and_integrations_reach_the_service_and_come_back(training: TrainingFile) -> None:
    with CannedService() as service, service.client() as client:
        notes = {"team": "blue", "commit": "a1b2c3"}
        job = FineTuneJob.create(client, training, model="m", metadata=notes, integrations=[WANDB])
        assert job.metadata == notes
        assert set(OUR_KEYS) <= job.record.metadata.keys()
        assert job.record.integrations == [WANDB]
        assert FineTuneJob.attach(client, job.id).metadata == notes


def test_other_notes_buy_no_second_job(training: TrainingFile) -> None:
    with CannedService() as service, service.client() as client:
        first = FineTuneJob.create(client, training, model="m", metadata={"run": "1"})
        second = FineTuneJob.create(client, training, model="m", metadata={"run": "2"}, integrations=[WANDB])
        assert (second.id, second.metadata) == (first.id, {"run": "1"})
        assert FineTuneJob.find(client, training, model="m").id == first.id


def test_notes_go_through_the_async_door_too(training: TrainingFile) -> None:
    async def create(options: dict[str, Any]) -> AsyncFineTuneJob:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(**options) as client:
            return await AsyncFineTuneJob.create(
                client, training, model="m", metadata={"team": "blue"}, integrations=[WANDB]
            )

    with CannedService() as service:
        job = asyncio.run(create(service.client_options))
    assert job.metadata == {"team": "blue"}
    assert job.record.integrations == [WANDB]


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key {number}": "x" for number in range(13)},
        {"k" * 64: "v" * 512},
        {"empty": ""},
        {},
    ],
    ids=["as many as there is room for", "as long as they may be", "an empty text", "none"],
)
def test_what_the_protocol_allows_is_taken(metadata: dict[str, str], training: TrainingFile) -> None:
    spec = JobSpec.make(training, model="m", metadata=metadata, provider=Provider(name="x"))
    sent = spec.request("file-1", None, "token")[0]["metadata"]
    assert sent.items() >= metadata.items()
    assert len(sent) <= 16


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({f"key {number}": "x" for number in range(14)}, "may have 13 names, not 14"),
        ({"k" * 65: "x"}, "1 to 64 characters, not 65"),
        ({"": "x"}, "1 to 64 characters, not 0"),
        ({"k": "v" * 513}, "at most 512 characters, not 513"),
        ({"finetune_pricer_spec": "x"}, "are this library's"),
        ({"run": 7}, r"metadata\['run'\] must be a text, not 7; write it as one"),
        ({7: "x"}, "a name in metadata must be a text"),
        ("team=blue", "metadata must be names and texts"),
    ],
)
def test_notes_beyond_the_limits_are_refused_before_anything_is_sent(
    metadata: Any, words: str, training: TrainingFile
) -> None:
    with CannedService() as service, service.client() as client:
        with pytest.raises(DataError, match=words):
            FineTuneJob.create(client, training, model="m", metadata=metadata)
        assert not service.requests


@pytest.mark.parametrize(
    ("integrations", "words"),
    [
        ({"type": "wandb", "wandb": {"project": "p"}}, "integrations must be a list"),
        ("wandb", "integrations must be a list"),
        (["wandb"], "an integration must be a dictionary with its type"),
        ([{"type": "wandb", "project": "p"}], "and the settings of that"),
        ([{"wandb": {"project": "p"}}], "an integration must be"),
        ([WANDB] * 6, "may be 5 integrations, not 6"),
    ],
)
def test_what_is_no_integration_is_refused_without_showing_it(
    integrations: Any, words: str, training: TrainingFile
) -> None:
    with CannedService() as service, service.client() as client:
        with pytest.raises(DataError, match=words) as refused:
            FineTuneJob.create(client, training, model="m", integrations=integrations)
        assert not service.requests
        assert "sk-secret" not in str(refused.value)


def test_a_key_of_an_integration_stands_in_no_repr_and_in_no_question_about_the_cost(
    training: TrainingFile,
) -> None:
    spec = JobSpec.make(training, model="m", integrations=[WANDB], provider=Provider(name="x"))
    assert "sk-secret" not in repr(spec)
    with CannedService() as service, service.client() as client:
        job = FineTuneJob.create(client, training, model="m", integrations=[WANDB])
        assert "sk-secret" not in repr(job.record) + repr(job)
    assert "integrations" not in spec.body_without_metadata("file-1", None)
    with pytest.raises(WrongArgument):
        JobSpec.make(training, model="m", integrations=7, provider=Provider(name="x"))  # type: ignore[arg-type]
