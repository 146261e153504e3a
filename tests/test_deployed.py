"""A model that is deployed for a while: taken down whatever happens, listed meanwhile, and checked first."""

import asyncio
import json
import logging
import math
import random
import threading
from typing import Any

import httpx2
import openai
import pytest

from desk import CRUSOE, JOB, Desk, record
from finetune_pricer import ChatFormatter, FineTuneJob, aio
from finetune_pricer.errors import DataError, NotSupported, ServiceUnavailable
from finetune_pricer.providers import PROVIDERS
from finetune_pricer.tune import deployments
from shop import DOORS, Door, Killed

KINDS = ["nebius", "crusoe"]


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRUSOE_PROJECT_ID", "project-7")


def use(desk: Desk, door: Door, *, error: BaseException | None = None, **options: Any) -> float | None:
    """Ask for one price inside the block, and raise an error in it."""
    options = {"max_hours": 2.0, **options}

    async def go() -> float | None:
        async with desk.ajob() as job, job.deployed(sleep=desk.asleep, **options) as predictor:
            price = await predictor("a lamp")
            if error is not None:
                raise error
        return price

    if door == "async":
        return asyncio.run(go())
    with desk.job() as job, job.deployed(sleep=desk.naps.append, **options) as predictor:
        price = predictor("a lamp")
        if error is not None:
            raise error
    return price


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_in_the_block_it_answers_and_after_it_nothing_is_deployed(kind: str, door: Door) -> None:
    desk = Desk(kind, statuses=[None, "loading"])
    assert use(desk, door) == 7
    assert len(desk.bodies) == 1
    assert not desk.rows


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(1), Killed()], ids=repr
)
def test_whatever_ends_the_block_takes_it_down(door: Door, error: BaseException) -> None:
    desk = Desk("nebius")
    with pytest.raises(type(error)):
        use(desk, door, error=error)
    assert desk.bodies
    assert not desk.rows


@pytest.mark.parametrize("door", DOORS)
def test_one_that_never_gets_ready_is_taken_down_too(door: Door) -> None:
    desk = Desk("crusoe", statuses=["loading"] * 500)
    with pytest.raises(ServiceUnavailable, match="is not ready"):
        use(desk, door)
    assert not desk.rows


@pytest.mark.parametrize("door", DOORS)
def test_what_a_killed_process_left_is_used_and_taken_down_by_the_next(door: Door) -> None:
    desk = Desk("nebius", outcomes=["made and killed"])
    answer = Desk.answer

    def die_at_the_desk(request: httpx2.Request) -> httpx2.Response:
        if desk.rows:  # nothing can be sent any more
            raise Killed
        return answer(desk, request)

    desk.answer = die_at_the_desk  # type: ignore[method-assign]
    with pytest.raises(Killed):
        use(desk, door)
    assert len(desk.rows) == 1
    del desk.answer
    assert use(desk, door) == 7
    assert len(desk.bodies) == 1
    assert not desk.rows


@pytest.mark.parametrize("door", DOORS)
def test_what_cannot_be_taken_down_is_said_and_hides_no_error(door: Door) -> None:
    desk = Desk("nebius")
    answer = Desk.answer

    def keep(request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            return httpx2.Response(503, json={"error": {"message": "later"}})
        return answer(desk, request)

    desk.answer = keep  # type: ignore[method-assign]
    with pytest.raises(ServiceUnavailable, match=r"may be billed: call job\.undeploy\(\)"):
        use(desk, door)
    assert sum(desk.naps) <= 125
    with pytest.raises(ValueError, match="a bug") as caught:
        use(desk, door, error=ValueError("a bug"))
    assert "may be billed" in caught.value.__notes__[0]


@pytest.mark.parametrize("door", DOORS)
def test_when_the_hours_are_up_it_is_taken_down_though_the_block_goes_on(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    desk, gone = Desk("nebius"), threading.Event()
    answer = Desk.answer

    def watch(request: httpx2.Request) -> httpx2.Response:
        found = answer(desk, request)
        if request.method == "DELETE":
            gone.set()
        return found

    desk.answer = watch  # type: ignore[method-assign]
    moment = 0.3 / 3600

    async def go() -> None:
        async with desk.ajob() as job, job.deployed(max_hours=moment, sleep=desk.asleep):
            await asyncio.to_thread(gone.wait, 30)

    if door == "async":
        asyncio.run(go())
    else:
        with desk.job() as job, job.deployed(max_hours=moment, sleep=desk.naps.append):
            gone.wait(30)
    assert gone.is_set()
    assert not desk.rows
    assert "it is taken down" in caplog.text


def test_hours_must_be_hours_and_what_is_made_by_hand_is_refused() -> None:
    desk = Desk("nebius")
    for hours in (0, -1, math.nan, math.inf):
        with desk.job() as job, pytest.raises(DataError, match="max_hours"), job.deployed(max_hours=hours):
            pass
    with openai.OpenAI(api_key="x", base_url="https://shop.openai.azure.com/openai/v1/") as client:
        job = FineTuneJob(client, record(), PROVIDERS["azure"])
        with pytest.raises(NotSupported, match=r"print\(job\.deploy\(\)\)"), job.deployed(max_hours=1):
            pass
    assert not desk.asked


@pytest.mark.parametrize("door", DOORS)
def test_what_is_deployed_now_is_listed_with_what_it_costs(door: Door) -> None:
    desk = Desk("crusoe")
    desk.rows = [
        {"id": "lora-1", "name": "a", "model_id": "ftmodel-1", "status": "ready"},
        {"id": "lora-2", "name": "b", "model_id": "ftmodel-2", "status": "failed"},
    ]
    desk.machines = [
        {"id": "dep-1", "deployment_name": "shop", "status": "ready", "hourly_cost": 5.5},
        {"id": "dep-2", "deployment_name": "old", "status": "deleted", "hourly_cost": 5.5},
    ]
    if door == "sync":
        with desk.job() as job:
            found = deployments(job.client)
    else:

        async def go() -> Any:
            async with desk.ajob() as job:
                return await aio.deployments(job.client)

        found = asyncio.run(go())
    assert [(each.name, each.model, each.status) for each in found] == [
        ("lora-1", "ftmodel-1", "ready"),
        ("shop", "shop", "ready"),
    ]
    assert found[1].idle_cost_per_hour == 5.5


def test_nebius_lists_its_models_and_machines_and_others_say_that_they_cannot() -> None:
    desk = Desk("nebius", machines=[{"id": "ep-1", "routing_key": "me/shop", "status": "running"}])
    served = desk.deploy().name
    with desk.job() as job:
        tuned, machine = deployments(job.client)
    assert (tuned.name, tuned.idle_cost_per_hour) == (served, 0.0)
    assert (machine.name, machine.model, machine.idle_cost_per_hour) == ("ep-1", "me/shop", None)
    with openai.OpenAI(api_key="x", base_url="https://shop.test/v1") as client:
        assert deployments(client) == []
        with pytest.raises(NotSupported, match="console"):
            deployments(client, provider="azure")
        with pytest.raises(DataError, match="not sent to another address"):
            deployments(client, provider="crusoe")
    assert CRUSOE not in {str(request.url) for request in desk.asked}


# The round trip.


def validation(count: int = 30, *, seed: int = 1) -> tuple[list[bytes], dict[str, float]]:
    rng, words = random.Random(seed), ChatFormatter("Price?")
    lines, prices = list[bytes](), dict[str, float]()
    for number in range(count):
        price = float(round(math.exp(rng.uniform(2, 6))))
        question = words.prompt(f"thing {number}")
        answer = {"role": "assistant", "content": f"${price:.2f}"}
        lines.append(json.dumps({"messages": [*question, answer]}).encode() + b"\n")
        prices[question[0]["content"]] = price
    return lines, prices


def checked(
    caplog: pytest.LogCaptureFixture, door: Door, miss: float | str, *, loss: float | None = 0.8, **more: Any
) -> tuple[Desk, str]:
    """Deploy a model whose prices miss by a factor, or that says something else; give what is warned of."""
    lines, prices = validation()
    rng = random.Random(2)

    def say(body: dict[str, Any]) -> str:
        price = prices.get(body["messages"][-1]["content"])
        if isinstance(miss, str) or price is None:
            return str(miss)
        return f"${price * miss ** rng.choice((-1, 1)):.2f}"

    metrics = {} if loss is None else {"full_valid_loss": loss}
    desk = Desk("nebius", say=say, validation=[b"no line\n", *lines], metrics=metrics, **more)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        if door == "sync":
            with desk.job(validation_file="file-v") as job:
                job.deploy(sleep=desk.naps.append)
        else:

            async def go() -> None:
                async with desk.ajob(validation_file="file-v") as job:
                    await job.deploy(sleep=desk.asleep)

            asyncio.run(go())
    return desk, " ".join(r.getMessage() for r in caplog.records if "does not look like" in r.getMessage())


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("miss", "loss", "words"),
    [
        (1.2, 0.8, None),
        (1.2, None, None),
        (6.0, 0.8, "miss by a factor of 6.00 or more, where the job's validation loss of 0.8 lets expect"),
        (20.0, None, "one price for all"),
        ("Look at the thing", 0.8, "20 of 20 replies hold no price"),
        ("Thinking Process: 1. Look", 0.8, "thinks before it answers"),
    ],
    ids=["as trained", "as trained, no loss", "far off", "far off, no loss", "another template", "it thinks"],
)
def test_after_a_deployment_twenty_examples_are_asked_and_what_is_far_off_is_said(
    caplog: pytest.LogCaptureFixture, door: Door, miss: float | str, loss: float | None, words: str | None
) -> None:
    desk, said = checked(caplog, door, miss, loss=loss)
    # One is for the name. Of a model that thinks, three are bought with all that is known to help.
    assert len(desk.questions) == (6 if words == "thinks before it answers" else 21)
    assert desk.questions[-1]["messages"][0]["content"].startswith("Price?")
    assert (words in said) if words else not said
    assert "thing 1" not in caplog.text
    assert "Look" not in caplog.text


@pytest.mark.parametrize(
    ("name", "is_said"),
    [
        (None, False),
        ("Meta-Llama/meta-llama-3.1-8b-instruct-LORA:pricer-456789ab-Ju1N", False),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", True),
        ("unknown", True),
    ],
)
def test_a_served_model_that_answers_by_another_name_is_said(
    caplog: pytest.LogCaptureFixture, name: str | None, *, is_said: bool
) -> None:
    _, said = checked(caplog, "sync", 1.1, answers_as=name)
    assert (f"and {name!r} answers: where that is the base model" in said) == is_said


@pytest.mark.parametrize("door", DOORS)
def test_a_served_model_that_cannot_be_asked_is_deployed_all_the_same(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk("nebius", validation=validation()[0])
    answer = Desk.answer

    def refuse(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/chat/completions"):
            return httpx2.Response(401, json={"error": {"message": "no such key"}})
        return answer(desk, request)

    desk.answer = refuse  # type: ignore[method-assign]

    async def go() -> None:
        async with desk.ajob(validation_file="file-v") as job:
            await job.deploy(sleep=desk.asleep)

    if door == "async":
        asyncio.run(go())
    else:
        with desk.job(validation_file="file-v") as job:
            job.deploy(sleep=desk.naps.append)
    assert "could not be checked: " in caplog.text


@pytest.mark.parametrize("door", DOORS)
def test_without_a_validation_file_only_the_name_is_asked_and_check_is_off_when_told(door: Door) -> None:
    desk = Desk("nebius")
    desk.deploy(door)
    assert len(desk.questions) == 1
    desk.deploy(door, check=False)
    assert len(desk.questions) == 1
    assert {row["job_id"] for row in desk.rows} == {JOB}
