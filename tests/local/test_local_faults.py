from __future__ import annotations

import contextlib
import datetime
from typing import Any

import httpx2
import openai
import pytest

from finetune_pricer.errors import DataError
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.local.faults import PRESETS, FaultInjector
from local_helpers import ask, endless, events_once, eventually, finished, jsonl, products, train, upload

CONTENT = jsonl(products(20))


def test_nothing_goes_wrong_unless_it_is_named() -> None:
    assert Faults().model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_bad_day(name: str) -> None:
    assert Faults.preset(name) != Faults()
    assert Faults.preset(name, seed=3).seed == 3


def test_an_unknown_preset_field_or_value_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="'monday'"):
        Faults.preset("monday")
    with pytest.raises(DataError, match="server_error_rate"):
        Faults.preset("flaky", server_error_rate=2)
    with pytest.raises(DataError, match="faults: "):
        Faults.preset("flaky", server_error_rate=object())
    day = datetime.date(2030, 1, 1)
    assert Faults.preset("wind_down", shutdown_date=day).shutdown_date == day


def test_when_the_service_winds_down_files_are_taken_and_jobs_are_not() -> None:
    with LocalServer(faults=Faults.preset("wind_down")) as server, server.client() as client:
        file = upload(client, CONTENT)
        with pytest.raises(openai.PermissionDeniedError, match="winding down") as refused:
            client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)

        assert refused.value.code == "training_not_available"
        assert str(client.models.retrieve("pricer-base").shutdown_date) == "2027-01-14"


def test_models_are_gone_from_the_day_on_which_they_are_shut_down() -> None:
    faults = Faults(shutdown_date=datetime.date(2020, 1, 1))
    with (
        LocalServer(faults=faults) as server,
        server.client() as client,
        pytest.raises(openai.NotFoundError),
    ):
        ask(client, "pricer-base", "a lamp")
    injector = FaultInjector(Faults(shutdown_date=datetime.date(2027, 1, 14)))
    assert not injector.is_shut_down(datetime.date(2027, 1, 13))
    assert injector.is_shut_down(datetime.date(2027, 1, 14))


def test_a_job_can_fail_at_validation_and_half_way() -> None:
    with LocalServer(faults=Faults(fail_validation=True)) as server, server.client() as client:
        early = train(client, CONTENT)
        server.faults = Faults(fail_half_way=True)
        late = train(client, CONTENT)
        steps = [event for event in client.fine_tuning.jobs.list_events(late.id, limit=1_000) if event.data]
        server.faults = Faults()
        after = train(client, CONTENT)

        assert early.error is not None
        assert (early.status, early.error.code) == ("failed", "invalid_training_file")
        assert late.error is not None
        assert (late.status, late.error.code) == ("failed", "server_error")
        assert steps
        assert after.status == "succeeded"


def test_a_rate_limit_is_told_and_a_patient_client_gets_through() -> None:
    with LocalServer(faults=Faults(requests_per_minute=600)) as server:
        server.faults = Faults(requests_per_minute=60)
        with server.client(max_retries=0) as client:
            for _ in range(60):
                with contextlib.suppress(openai.RateLimitError):
                    ask(client, "pricer-base", "a lamp")
            with pytest.raises(openai.RateLimitError) as refused:
                _ = [ask(client, "pricer-base", "a lamp") for _ in range(10)]
        with server.client(max_retries=5) as patient:
            assert ask(patient, "pricer-base", "a lamp")

        assert refused.value.code == "rate_limit_exceeded"
        assert int(refused.value.response.headers["retry-after-ms"]) <= 1_001


def test_faults_on_the_services_side_strike_the_same_requests_for_the_same_seed() -> None:
    def struck(seed: int) -> list[int]:
        with LocalServer(faults=Faults(server_error_rate=0.5, seed=seed)) as server, httpx2.Client() as http:
            return [http.get(f"{server.url}/models").status_code for _ in range(30)]

    assert struck(1) == struck(1) != struck(2)
    assert {200, 500} < set(struck(1)) <= {200, 500, 502, 503, 504}


def test_an_answer_can_be_lost_after_the_request_was_accepted() -> None:
    with LocalServer(faults=Faults(lost_answer_rate=1)) as server, server.client(max_retries=0) as client:
        with pytest.raises(openai.APIConnectionError):
            upload(client, CONTENT)

        assert len(client.files.list().data) == 1


def test_answers_can_come_late() -> None:
    with LocalServer(faults=Faults(latency=0.2)) as server, httpx2.Client() as http:
        assert http.get(f"{server.url}/models").elapsed.total_seconds() >= 0.2


def test_lists_of_events_can_hold_some_twice_and_out_of_order() -> None:
    with LocalServer() as server, server.client() as client:
        job = train(client, CONTENT)
        server.faults = Faults(duplicate_events=True, reorder_events=True)
        ids = [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=100).data]
        server.faults = Faults()
        straight = [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=100).data]

        assert len(ids) > len(set(ids)) == len(straight)
        assert list(dict.fromkeys(ids)) != straight


def test_habits_of_other_services_can_be_put_on() -> None:
    with LocalServer(faults=Faults.preset("azure_like"), cores=1) as server, server.client() as client:
        file = upload(client, CONTENT)
        blocking = endless(client)
        job = client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)
        eventually(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "pending")  # type: ignore[comparison-overlap]
        shown = client.fine_tuning.jobs.retrieve(job.id)
        client.fine_tuning.jobs.cancel(blocking.id)

        assert "status" not in file.to_dict()
        assert shown.to_dict()["error"] == {"code": None, "message": None, "param": None}
        assert finished(client, job.id).status == "succeeded"
        assert events_once(client, job.id)


def test_faults_are_set_and_shown_over_http_also_in_a_storm() -> None:
    with LocalServer(faults=Faults(server_error_rate=1)) as server, httpx2.Client() as http:
        root = server.url.removesuffix("/v1")
        assert http.get(f"{server.url}/models").status_code >= 500

        def post(body: Any) -> httpx2.Response:
            return http.post(f"{root}/local/faults", json=body)

        assert post({"preset": "rate_limited", "seed": 2}).json()["requests_per_minute"] == 60
        assert http.get(f"{root}/local/faults").json()["seed"] == 2
        assert server.faults == Faults.preset("rate_limited", seed=2)
        assert post({}).json() == Faults().model_dump(mode="json")
        assert http.get(f"{server.url}/models").status_code == 200
        assert post({"requests_per_minute": 60.0, "preset": None}).json()["requests_per_minute"] == 60
        wrongs: list[Any] = [
            *({"preset": "monday"}, {"preset": 5}, {"latency": "long"}, {"latency": "5"}, {"seed": 1e30}),
            *({"seed": False}, {"storms": True}, []),
        ]
        for wrong in wrongs:
            assert post(wrong).status_code == 400


def test_faults_set_before_the_start_hold_and_can_be_changed_while_stopped() -> None:
    server = LocalServer(faults=Faults(latency=0.1))
    assert server.faults.latency == 0.1
    server.faults = Faults(latency=0.2)
    with server:
        assert server.faults.latency == 0.2
