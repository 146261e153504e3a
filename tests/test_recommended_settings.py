"""Settings that nobody named are those that suit short examples.

They are shown, can be switched off, and make nobody buy a job twice.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, TrainingFile, estimate_cost
from finetune_pricer.errors import NotFound, ServiceUnavailable
from finetune_pricer.providers import PROVIDERS, Provider, Recommendation
from finetune_pricer.tune import JobSpec, UploadedFile
from finetune_pricer.tune.spec import SPEC_KEY

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
NEBIUS = PROVIDERS["nebius"]
NOTHING_RECOMMENDED = NEBIUS.model_copy(update={"recommended": None})
NAMES = ("epochs", "batch_size", "learning_rate_multiplier")


@pytest.fixture
def training() -> TrainingFile:
    return JsonlWriter().write(MadeUpCatalogue().splits(train=12, validation=1, test=1).train, "train.jsonl")


class Desk:
    """A service that makes jobs, lists them, and can lose an answer."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.loses = False
        router.get(path__regex=r"/models/.*").respond(404, json={"error": {}})
        router.get("/files").respond(json={"data": []})
        router.get("/files/file-1").respond(json={"id": "file-1"})
        router.post("/files").respond(json={"id": "file-1", "object": "file"})
        router.get("/fine_tuning/jobs").mock(side_effect=self._list)
        router.get(path__regex=r"/fine_tuning/jobs/ftjob-\d+$").mock(side_effect=self._job)
        router.post("/fine_tuning/jobs").mock(side_effect=self._make)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The hyperparameters of each job that was made."""
        return [job["hyperparameters"] for job in self.jobs]

    def _make(self, request: httpx2.Request) -> Any:
        self.jobs.append({"id": f"ftjob-{len(self.jobs)}", "status": "running", **json.loads(request.read())})
        if self.loses:
            raise httpx2.ReadTimeout("lost", request=request)
        return httpx2.Response(200, json=self.jobs[-1])

    def _job(self, request: httpx2.Request) -> Any:
        (found,) = [job for job in self.jobs if job["id"] == request.url.path.rpartition("/")[2]]
        return httpx2.Response(200, json=found)

    def _list(self, request: httpx2.Request) -> Any:
        wanted = request.url.params.get(f"metadata[{SPEC_KEY}]")
        shown = [job for job in self.jobs if wanted in (None, job["metadata"][SPEC_KEY])]
        return httpx2.Response(200, json={"data": [] if self.loses else shown[::-1]})


@pytest.fixture
def desk(service: respx.MockRouter) -> Desk:
    return Desk(service)


def buy(client: openai.OpenAI, training: TrainingFile, **more: Any) -> FineTuneJob:
    def no_nap(_: float) -> None:
        """Do not sleep."""

    return FineTuneJob.create(
        client, training, **{"model": LLAMA, "provider": NEBIUS, "sleep": no_nap, **more}
    )


OFF: dict[str, Any] = dict.fromkeys(NAMES)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing is named": ({}, {"batch_size": 1, "learning_rate": 1e-4}),
    "epochs are": ({"epochs": 2}, {"n_epochs": 2, "batch_size": 1, "learning_rate": 1e-4}),
    "one is": ({"batch_size": 16}, {"batch_size": 16, "learning_rate": 1e-4}),
    "both are": (
        {"batch_size": 16, "learning_rate_multiplier": 1},
        {"batch_size": 16, "learning_rate": 1e-5},
    ),
    "None": (OFF, {}),
    "auto": (dict.fromkeys(NAMES, "auto"), {}),
    "one is None": ({"batch_size": None}, {"learning_rate": 1e-4}),
    "by its word": (dict.fromkeys(NAMES, "recommended"), {"batch_size": 1, "learning_rate": 1e-4}),
    "a profile without": ({"provider": NOTHING_RECOMMENDED}, {}),
    "all weights are trained": ({"provider": NEBIUS.model_copy(update={"always": {"lora": False}})}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_nobody_named_is_what_is_recommended(
    client: openai.OpenAI, desk: Desk, training: TrainingFile, name: str
) -> None:
    named, wanted = CASES[name]
    buy(client, training, **named)
    (sent,) = desk.settings
    sent.pop("lora")
    assert sent == wanted


def test_what_is_recommended_is_said_before_anything_is_sent_and_in_the_estimate(
    client: openai.OpenAI, desk: Desk, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "finetune_pricer"):
        buy(client, training, epochs=1)
        said = [record.getMessage() for record in caplog.records if "recommended" in record.getMessage()]
        assert len(said) == 1
        for words in ("batch_size=1, learning_rate_multiplier=10", "None leaves one", "six steps", "2026-"):
            assert words in said[0]
        caplog.clear()
        buy(client, training, epochs=1, batch_size=8, learning_rate_multiplier=1)
        assert "recommended" not in caplog.text
    shown = str(estimate_cost(training, model=LLAMA, epochs=1, provider="nebius"))
    assert "  settings            batch_size=1, learning_rate_multiplier=10, where you name none\n" in shown
    assert "settings" not in str(estimate_cost(training, model=LLAMA, epochs=1, provider="openai"))


def test_long_examples_and_other_services_keep_the_services_own_settings(training: TrainingFile) -> None:
    long = replace(training, bytes=training.examples * 4_001)
    for file, provider in ((long, NEBIUS), (training, PROVIDERS["openai"]), (training, PROVIDERS["crusoe"])):
        assert not JobSpec.make(file, model=LLAMA, provider=provider).recommended
    file_there = UploadedFile(id="file-9")
    assert JobSpec.make(file_there, model=LLAMA, provider=NEBIUS).recommended == {
        "batch_size": 1,
        "learning_rate_multiplier": 10,
    }


def test_the_recommendation_is_within_what_its_service_takes_and_has_day_and_source() -> None:
    for provider in PROVIDERS.values():
        if (found := provider.recommended) is not None:
            assert found.as_of
            assert found.source
            for name, value in found.settings.items():
                provider.settings[name].check(name, value, at="there")


# Nothing is bought twice.


def test_a_job_that_was_bought_before_anything_was_recommended_is_given_back_with_a_warning(
    client: openai.OpenAI, desk: Desk, training: TrainingFile, caplog: pytest.LogCaptureFixture
) -> None:
    before = buy(
        client, training, epochs=1, provider=NOTHING_RECOMMENDED
    )  # what the same call asked for then
    for journal in (None, Path("another.sqlite")):  # also on another machine
        caplog.clear()
        assert buy(client, training, epochs=1, journal=journal).id == before.id
        assert "'ftjob-0' (running) was bought with other settings" in caplog.text
        assert "(batch_size=1, learning_rate_multiplier=10)" in caplog.text
        assert FineTuneJob.find(client, training, model=LLAMA, epochs=1, provider=NEBIUS).id == before.id
    assert len(desk.jobs) == 1
    again = buy(client, training, epochs=1, again=True)
    assert desk.settings[1]["batch_size"] == 1
    caplog.clear()
    assert buy(client, training, epochs=1).id == again.id
    assert "was bought with other settings" not in caplog.text
    assert FineTuneJob.find(client, training, model=LLAMA, epochs=1, provider=NEBIUS).id == again.id


def test_a_request_that_was_lost_before_anything_was_recommended_stops_the_same_call_today(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    desk.loses = True
    with pytest.raises(ServiceUnavailable, match="again=True"):
        buy(client, training, epochs=1, provider=NOTHING_RECOMMENDED)
    with pytest.raises(ServiceUnavailable, match="whether the service made a job is not known"):
        buy(client, training, epochs=1)
    assert len(desk.jobs) == 1
    desk.loses = False
    assert buy(client, training, epochs=1).id == "ftjob-0"
    assert len(desk.jobs) == 1


def test_a_request_with_what_is_recommended_that_was_lost_stops_the_same_call(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    desk.loses = True
    for words in ("again=True", "whether the service made a job is not known"):
        with pytest.raises(ServiceUnavailable, match=words):
            buy(client, training, epochs=1)
    assert len(desk.jobs) == 1


def test_a_job_that_was_bought_by_an_earlier_recommendation_is_given_back(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    first = Recommendation(batch_size=4, why="a test")
    then = NEBIUS.model_copy(update={"recommended": first})
    now = NEBIUS.model_copy(update={"recommended_before": (first,)})
    withdrawn = NEBIUS.model_copy(update={"recommended": None, "recommended_before": (first,)})
    bought = buy(client, training, provider=then)
    assert [buy(client, training, provider=each).id for each in (now, withdrawn)] == [bought.id] * 2
    assert [each["batch_size"] for each in desk.settings] == [4]


def test_settings_that_are_named_are_another_job_than_those_of_the_service(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    recommended = buy(client, training)
    named = buy(client, training, batch_size=1, learning_rate_multiplier=10)
    assert named.id == recommended.id  # the same training
    own = buy(client, training, **OFF)
    assert own.id == buy(client, training, **dict.fromkeys(NAMES, "auto")).id != recommended.id
    assert buy(client, training).id == recommended.id
    assert len(desk.jobs) == 2


def test_a_job_that_came_to_nothing_before_anything_was_recommended_is_asked_for_anew(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    buy(client, training, provider=NOTHING_RECOMMENDED)
    desk.jobs[0]["status"] = "failed"
    assert buy(client, training).id == "ftjob-1"
    assert desk.settings[1]["batch_size"] == 1


def test_where_nothing_is_recommended_what_is_left_out_is_what_the_service_chooses(
    training: TrainingFile,
) -> None:
    plain = Provider(name="own")
    left_out = JobSpec.make(training, model="m", provider=plain)
    assert left_out.hash == JobSpec.make(training, model="m", provider=plain, **OFF).hash
    assert left_out.hash == JobSpec.make(training, model="m", provider=plain, batch_size="auto").hash
    assert left_out.earlier == ()


def test_a_search_finds_nothing_where_nothing_was_bought(
    client: openai.OpenAI, desk: Desk, training: TrainingFile
) -> None:
    with pytest.raises(NotFound):
        FineTuneJob.find(client, training, model=LLAMA, provider=NEBIUS)
