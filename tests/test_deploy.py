"""A tuned model answers: by itself, after one request, or after steps that are given exactly."""

import json
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob
from finetune_pricer.errors import JobError, NotSupported, RequestRejected
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import JobRecord

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MODELS = "https://service.test/v0/models"


def done_job(client: openai.OpenAI, provider: str, *, model: str = LLAMA) -> FineTuneJob:
    record = JobRecord(id="ftjob-0123456789AB", status="succeeded", model=model, fine_tuned_model="ft-abc")
    return FineTuneJob(client, record, PROVIDERS[provider])


def test_where_a_tuned_model_answers_by_itself_there_is_nothing_to_do(client: openai.OpenAI) -> None:
    deployment = done_job(client, "openai").deploy()
    assert deployment.model == "ft-abc"
    assert str(deployment) == "ft-abc answers"
    done_job(client, "openai").undeploy()


@pytest.fixture
def custom_models(service: respx.MockRouter) -> respx.MockRouter:
    service.get("/fine_tuning/jobs/ftjob-0123456789AB/checkpoints").respond(
        json={"data": [{"id": "ftckpt_2", "step_number": 20}, {"id": "ftckpt_1", "step_number": 10}]}
    )
    return service


def state(http: int, **body: Any) -> Any:
    return httpx2.Response(http, json=body)


def test_nebius_is_asked_for_the_last_checkpoint_and_the_cost_is_said_first(
    client: openai.OpenAI,
    custom_models: respx.MockRouter,
    naps: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = custom_models.get(f"{MODELS}/pricer-456789ab")
    place.side_effect = [
        state(404),
        state(200, status="validating"),
        state(200, status="active", name=f"{LLAMA}-LoRa:pricer-456789ab-x1"),
    ]
    said: list[str] = []

    def create(request: Any) -> Any:
        said.append(caplog.text)
        return state(200, name="pricer-456789ab", status="validating")

    route = custom_models.post(MODELS).mock(side_effect=create)
    deployment = done_job(client, "nebius").deploy(sleep=naps.append)
    assert json.loads(route.calls.last.request.content) == {
        "name": "pricer-456789ab",
        "base_model": "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "source": "ftjob-0123456789AB:ftckpt_2",
        "description": "fine-tuned by job ftjob-0123456789AB",
    }
    assert route.calls.last.request.headers["authorization"] == f"Bearer {client.api_key}"
    assert "nothing while idle" in said[0]
    assert deployment.model == f"{LLAMA}-LoRa:pricer-456789ab-x1"
    assert deployment.idle_cost_per_hour == 0.0
    assert len(naps) == 1


def test_a_model_that_is_deployed_already_is_not_deployed_twice(
    client: openai.OpenAI, custom_models: respx.MockRouter
) -> None:
    custom_models.get(f"{MODELS}/shop").respond(json={"name": "served:shop", "status": "active"})
    route = custom_models.post(MODELS)
    assert done_job(client, "nebius").deploy("shop").model == "served:shop"
    assert not route.called


def test_a_base_that_nebius_does_not_serve_is_refused_before_anything_is_sent(client: openai.OpenAI) -> None:
    with pytest.raises(NotSupported, match="serves tuned models of meta-llama"):
        done_job(client, "nebius", model="Qwen/Qwen3-32B").deploy()


def test_a_deployment_that_failed_is_an_error_with_the_reason(
    client: openai.OpenAI, custom_models: respx.MockRouter
) -> None:
    custom_models.get(f"{MODELS}/shop").respond(json={"status": "error", "status_reason": "rank too high"})
    with pytest.raises(RequestRejected, match="rank too high"):
        done_job(client, "nebius").deploy("shop")


def test_undeploying_is_one_request_and_twice_is_fine(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.delete(f"{MODELS}/shop")
    route.side_effect = [state(200, status="deleted"), state(404)]
    done_job(client, "nebius").undeploy("shop")
    done_job(client, "nebius").undeploy("shop")
    assert route.call_count == 2


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("azure", ["--deployment-name shop", "--model-name 'ft-abc'", "1.70", "Predictor(client, 'shop'"]),
        (
            "crusoe",
            ["/foundry/loras", '"model_id": "ft-abc"', "api.inference.crusoecloud.com", "$CRUSOE_API_KEY"],
        ),
    ],
)
def test_where_the_step_lies_outside_the_protocol_it_is_given_exactly(
    client: openai.OpenAI, provider: str, words: list[str]
) -> None:
    deployment = done_job(client, provider).deploy("shop")
    assert deployment.model is None
    for word in words:
        assert word in str(deployment)
    assert client.api_key not in str(deployment)
    with pytest.raises(NotSupported, match="control plane"):
        done_job(client, provider).undeploy("shop")


def test_a_job_that_has_not_succeeded_is_not_deployed(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get("/fine_tuning/jobs/ftjob-1").respond(json={"id": "ftjob-1", "status": "running"})
    running = FineTuneJob(client, JobRecord(id="ftjob-1", status="running"), PROVIDERS["nebius"])
    with pytest.raises(JobError, match="nothing to deploy"):
        running.deploy()
