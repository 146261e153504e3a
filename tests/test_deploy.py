"""A tuned model answers: by itself, after one request, or after steps that are given exactly."""

import asyncio
from typing import Any

import openai
import pytest
import respx

from desk import CONTROL, JOB, SERVED, Desk, record
from finetune_pricer import FineTuneJob
from finetune_pricer.errors import (
    DataError,
    JobError,
    NotConfigured,
    NotFound,
    NotSupported,
    RequestRejected,
    ServiceUnavailable,
)
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import Deployment, JobRecord
from shop import DOORS, Door, Killed


def done_job(client: openai.OpenAI, provider: str) -> FineTuneJob:
    return FineTuneJob(client, record(fine_tuned_model="ft-abc"), PROVIDERS[provider])


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRUSOE_PROJECT_ID", "project-7")


KINDS = ["nebius", "crusoe"]
NAMES = {"nebius": "meta-llama/Meta-Llama-3.1-8B-Instruct-LoRa:pricer-456789ab-Ju1N", "crusoe": "lora-1"}
MODELS = {"nebius": NAMES["nebius"], "crusoe": "ftmodel-2"}


def test_where_a_tuned_model_answers_by_itself_there_is_nothing_to_do(client: openai.OpenAI) -> None:
    deployment = done_job(client, "openai").deploy()
    assert deployment.model == "ft-abc"
    assert str(deployment) == "ft-abc answers"
    done_job(client, "openai").undeploy()


@pytest.mark.parametrize("door", DOORS)
def test_nebius_is_asked_for_the_last_checkpoint_and_its_own_name_for_it_is_kept(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk("nebius", statuses=[None, 404, "validating"])
    deployment = desk.deploy(door)
    assert desk.bodies == [
        {
            "name": "pricer-456789ab",
            "base_model": "meta-llama/Meta-Llama-3.1-8B-Instruct",
            "source": f"{JOB}:ftckpt_2",
            "description": f"fine-tuned by job {JOB}",
        }
    ]
    assert (deployment.name, deployment.model) == (NAMES["nebius"], NAMES["nebius"])
    assert (deployment.status, deployment.base_url, deployment.idle_cost_per_hour) == ("active", None, 0.0)
    assert "nothing while idle" in caplog.text
    assert len(desk.naps) == 3
    looked = [request for request in desk.asked if "LoRa" in str(request.url)]
    assert {request.url.path for request in looked} == {f"/v0/models/{NAMES['nebius']}"}
    assert {request.headers["authorization"] for request in desk.asked} == {"Bearer sk-x"}


@pytest.mark.parametrize("door", DOORS)
def test_crusoe_loads_the_adapter_in_its_project_and_says_where_it_answers(door: Door) -> None:
    desk = Desk("crusoe", statuses=["pending", "downloading", "loading"])
    deployment = desk.deploy(door)
    assert desk.bodies == [{"model_id": "ftmodel-2"}]
    posted = [request for request in desk.asked if request.method == "POST"]
    assert [str(request.url) for request in posted] == [f"{CONTROL}/loras", f"{SERVED}/chat/completions"]
    assert (deployment.name, deployment.model, deployment.base_url) == ("lora-1", "ftmodel-2", SERVED)
    assert f"ftmodel-2 answers at {SERVED}" in str(deployment)
    assert deployment.status == "ready"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [None, "shop"])
def test_called_twice_it_makes_one_deployment(kind: str, door: Door, name: str | None) -> None:
    desk = Desk(kind)
    first = desk.deploy(door)
    assert desk.deploy(door, name=name) == first
    assert len(desk.bodies) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_that_deploy_at_once_make_one_deployment(kind: str) -> None:
    desk = Desk(kind)

    async def together() -> set[Deployment]:
        async def deploy() -> Deployment:
            async with desk.ajob() as job:
                return await job.deploy(check=False)

        return {*await asyncio.gather(*(deploy() for _ in range(4)))}

    assert len(asyncio.run(together())) == 1
    assert len(desk.bodies) == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [0, 3])
def test_a_process_that_is_killed_between_request_and_answer_leaves_one_deployment(
    kind: str, door: Door, late: int
) -> None:
    desk = Desk(kind, outcomes=["made and killed"])
    with pytest.raises(Killed):
        desk.deploy(door)
    desk.looks_before_listed = late
    assert desk.deploy(door).model == MODELS[kind]
    assert len(desk.made) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_lost_is_looked_for(kind: str) -> None:
    desk = Desk(kind, outcomes=["made and lost"], looks_before_listed=3)
    assert desk.deploy().model == MODELS[kind]
    assert len(desk.bodies) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", ["lost", "killed"])
def test_a_request_that_made_nothing_is_sent_again_by_the_next_call(kind: str, outcome: str) -> None:
    desk = Desk(kind, outcomes=[outcome])
    with pytest.raises((ServiceUnavailable, Killed)) as caught:
        desk.deploy()
    assert outcome == "killed" or "call again with the same arguments" in str(caught.value)
    assert desk.deploy().model == MODELS[kind]
    assert len(desk.made) == 1
    assert len(desk.bodies) == 2


def test_without_a_job_in_its_row_a_model_is_known_by_its_name() -> None:
    desk = Desk("nebius", shows_job=False)
    desk.rows = [{"name": "meta-llama/X-LoRa:pricer-456789ab-other-Ju1N", "job_id": None, "status": "active"}]
    first = desk.deploy()
    assert desk.deploy() == first
    assert len(desk.bodies) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"job_id": "ftjob-2", "checkpoint_id": "ftckpt_2", "status": "active"},
        {"job_id": JOB, "checkpoint_id": "ftckpt_1", "status": "active"},
        {"job_id": JOB, "checkpoint_id": "ftckpt_2", "status": "error"},
        {"job_id": JOB, "checkpoint_id": "ftckpt_2", "status": "deleted"},
    ],
    ids=["another job", "an earlier checkpoint", "failed", "deleted"],
)
def test_what_is_not_this_job_or_is_dead_is_not_taken_for_it(row: dict[str, Any]) -> None:
    desk = Desk("nebius", rows=[{"name": "meta-llama/X-LoRa:old-abcd", **row}])
    assert desk.deploy().model != "meta-llama/X-LoRa:old-abcd"
    assert len(desk.bodies) == 1


def test_a_base_that_nebius_is_not_known_to_serve_is_tried_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk("nebius")
    with desk.job(model="Qwen/Qwen3-32B") as job:
        job.deploy(sleep=desk.naps.append)
    assert desk.bodies[0]["base_model"] == "Qwen/Qwen3-32B"
    assert "it may refuse" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_deployment_that_failed_is_an_error_with_the_reason(kind: str) -> None:
    desk = Desk(kind, statuses=["error"])
    with desk.job() as job:
        desk.rows = [{"id": "lora-1", "name": "x-LoRa:x-1", "job_id": JOB, "model_id": "ftmodel-2"}]
        desk.rows[0] |= {"status_reason": "rank too high", "last_error": "rank too high"}
        with pytest.raises(RequestRejected, match=r"rank too high; undeploy\(\) removes it"):
            job.deploy(sleep=desk.naps.append)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("statuses", "error", "words"),
    [
        (["loading"] * 500, ServiceUnavailable, r"not ready .* after 1800 s; deploy\(\) again goes on"),
        ([None] * 500, NotFound, "says nothing of its state; .*undeploy"),
        ([404] * 500, NotFound, "says nothing of its state"),
    ],
    ids=["never ready", "without status", "not there"],
)
def test_a_deployment_that_never_gets_ready_ends_with_what_to_do(
    kind: str, statuses: list[str | int | None], error: type[Exception], words: str
) -> None:
    desk = Desk(kind, statuses=statuses)
    with pytest.raises(error, match=words):
        desk.deploy()
    assert sum(desk.naps) <= 1800
    desk.statuses = []
    assert desk.deploy().model == MODELS[kind]
    assert len(desk.bodies) == 1


def test_without_a_timeout_it_is_waited_for_a_day_and_no_longer() -> None:
    desk = Desk("nebius", statuses=["validating"] * 10_000)
    with pytest.raises(ServiceUnavailable, match="after 86400 s"):
        desk.deploy(timeout=None)
    assert 86_000 < sum(desk.naps) <= 86_400


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [None, "pricer-456789ab", "served"])
def test_undeploying_takes_down_what_is_there_by_any_of_its_names(kind: str, name: str | None) -> None:
    desk = Desk(kind)
    served = desk.deploy().name
    if kind == "crusoe" and name == "pricer-456789ab":
        name = "ftmodel-2"
    other = {"id": "lora-9", "name": "x-LoRa:other-1", "job_id": "ftjob-2", "model_id": "ftmodel-9"}
    desk.rows.append(other)
    with desk.job() as job:
        job.undeploy(served if name == "served" else name)
        job.undeploy()  # nothing is left of it
    assert desk.rows == [other]


def test_all_that_earlier_calls_left_is_taken_down() -> None:
    rows = [{"name": f"x-LoRa:p-{n}", "job_id": JOB, "checkpoint_id": "ftckpt_2"} for n in range(3)]
    desk = Desk("nebius", rows=rows)
    with desk.job() as job:
        job.undeploy()
    assert not desk.rows


def test_crusoe_wants_a_project_and_the_key_stays_with_its_service(
    client: openai.OpenAI, service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRUSOE_PROJECT_ID")
    with pytest.raises(NotConfigured, match="set CRUSOE_PROJECT_ID"):
        Desk("crusoe").deploy()
    # `client` is at another address, such as a proxy: its key is none of Crusoe's.
    with pytest.raises(DataError, match="its key is not sent to another address"):
        done_job(client, "crusoe").deploy()
    assert not service.calls


def test_the_predictor_of_a_deployed_job_asks_where_it_answers() -> None:
    desk = Desk("crusoe")
    with desk.job() as job:
        job.deploy(sleep=desk.naps.append, check=False)
        assert job.predictor()("a lamp") == 7
        job.undeploy()
        with pytest.raises(JobError, match=r"call job\.deploy\(\)"):
            job.predictor()
    asked = [str(request.url) for request in desk.asked if "chat" in request.url.path]
    assert asked == [f"{SERVED}/chat/completions"]
    assert [body["model"] for body in desk.questions] == ["ftmodel-2"]


@pytest.mark.parametrize(
    ("provider", "words"),
    [("azure", ["--deployment-name shop", "--model-name 'ft-abc'", "1.70", "Predictor(client, 'shop'"])],
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
