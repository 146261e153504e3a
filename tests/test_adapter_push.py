"""A job's adapter goes to the Hub with the card of its evaluation, and with nothing else."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import Evaluator, FineTuneJob
from finetune_pricer.aio import AsyncFineTuneJob
from finetune_pricer.errors import DataError, HubError, NotSupported
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import JobRecord
from helpers import priced
from hub_double import Hub, hub_on_loopback

JOB = {"id": "ftjob-1", "status": "succeeded", "model": "smol", "fine_tuned_model": "ft:smol:local::1"}
CONFIG = {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "main", "r": 16}
FILES = {
    "adapter_config.json": json.dumps(CONFIG).encode(),
    "adapter_model.safetensors": b"weights",
    "pricer.json": json.dumps({"version": 1, "base": "HuggingFaceTB/SmolLM2-135M-Instruct@main"}).encode(),
    "chat_template.jinja": b"{{ messages }}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_on_loopback(monkeypatch) as server:
        server.place = "me/pricer"
        yield server


def give(service: respx.MockRouter, files: Mapping[str, bytes]) -> None:
    service.route(host="127.0.0.1").pass_through()
    checkpoint = {"id": "ckpt-1", "step_number": 1, "result_files": list(files)}
    service.get("/fine_tuning/jobs/ftjob-1/checkpoints").respond(json={"data": [checkpoint]})
    for name, content in files.items():
        service.get(f"/files/{name}").respond(json={"id": name, "filename": name, "bytes": len(content)})
        service.get(f"/files/{name}/content").respond(content=content)


def job_at(client: openai.OpenAI, provider: str = "local") -> FineTuneJob:
    return FineTuneJob(client, JobRecord.read(JOB), PROVIDERS[provider])


def folder_base(place: str) -> dict[str, bytes]:
    return FILES | {"adapter_config.json": json.dumps(CONFIG | {"base_model_name_or_path": place}).encode()}


def test_an_adapter_is_pushed_with_its_tokenizer_and_the_card_of_its_evaluation(
    client: openai.OpenAI, service: respx.MockRouter, hub: Hub
) -> None:
    give(service, FILES)
    evaluation = Evaluator(rounds=20).evaluate(lambda item: 12.0, priced(20), name="my pricer")
    job = job_at(client)
    where = job.push_to_hub("me/pricer", evaluation=evaluation, token="hf_secret", licence="apache-2.0")
    assert where == f"{hub.url}/me/pricer"
    assert hub.created[0]["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    card = hub.files.pop("README.md").decode()
    assert hub.files == FILES
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert "license: apache-2.0" in card
    assert "my pricer" in card
    assert "MAE" in card
    assert "hf_secret" not in card


def test_without_an_evaluation_the_card_says_that_nothing_was_measured(
    client: openai.OpenAI, service: respx.MockRouter, hub: Hub
) -> None:
    give(service, FILES)
    job_at(client).push_to_hub("me/pricer", private=False, token="hf_secret")
    assert hub.created[0]["visibility"] == "public"
    assert "were not measured" in hub.files["README.md"].decode()


def test_a_base_that_is_a_folder_goes_by_the_name_that_the_hub_has_for_it(
    client: openai.OpenAI, service: respx.MockRouter, hub: Hub
) -> None:
    give(service, folder_base("/home/me/secret/smol"))
    job = job_at(client)
    with pytest.raises(DataError, match="place on one machine"):
        job.push_to_hub("me/pricer", token="hf_secret")
    assert not hub.created
    job.push_to_hub("me/pricer", base_model="me/smol@v2", token="hf_secret")
    config = json.loads(hub.files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/smol", "v2")
    assert json.loads(hub.files["pricer.json"])["base"] == "me/smol@v2"
    assert all(b"secret" not in content for content in hub.files.values())


def test_what_is_no_adapter_is_not_pushed(client: openai.OpenAI, service: respx.MockRouter, hub: Hub) -> None:
    give(service, {"weights.npz": b"1", "pricer.json": b"{}"})
    with pytest.raises(NotSupported, match="no adapter"):
        job_at(client).push_to_hub("me/pricer", token="hf_secret")
    with pytest.raises(NotSupported, match="gives out no weights"):
        job_at(client, "openai").push_to_hub("me/pricer", token="hf_secret")
    assert not hub.created


def test_a_refusal_of_the_hub_names_no_token(
    client: openai.OpenAI, service: respx.MockRouter, hub: Hub
) -> None:
    give(service, FILES)
    with pytest.raises(HubError, match="token that may write") as caught:
        job_at(client).push_to_hub("me/forbidden", token="hf_secret")
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"evaluation": "report.html"}, {"private": "yes"}, {"token": 5}, {"base_model": ["me/smol"]}]
)
def test_a_wrong_call_is_refused_before_anything_is_downloaded(
    client: openai.OpenAI, service: respx.MockRouter, wrong: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        job_at(client).push_to_hub("me/pricer", **wrong)
    assert not service.calls


def test_async_pushes_the_same(client: openai.OpenAI, service: respx.MockRouter, hub: Hub) -> None:
    give(service, FILES)

    async def push() -> str:
        async with openai.AsyncOpenAI(base_url=str(client.base_url), api_key="x") as other:
            job = AsyncFineTuneJob(other, JobRecord.read(JOB), PROVIDERS["local"])
            return await job.push_to_hub("me/pricer", token="hf_secret")

    assert asyncio.run(push()) == f"{hub.url}/me/pricer"
    assert FILES.items() <= hub.files.items()
