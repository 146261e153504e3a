"""What services answer, and what it means to us."""

import inspect
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob
from finetune_pricer._service import requests
from finetune_pricer._service.error_mapping import make_error, may_have_been_taken, translate_errors
from finetune_pricer._service.problem import Problem
from finetune_pricer.errors import (
    AccessDenied,
    FileAccessError,
    ModelNotFound,
    NotFound,
    PricerError,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)
from helpers import HTML, job_body, page, refusal

KEY = "sk-test-0123456789"
REQUEST = httpx.Request("GET", "https://service.test/v1")
THEIRS = [
    kind
    for _, kind in inspect.getmembers(openai, inspect.isclass)
    if issubclass(kind, openai.OpenAIError) and kind.__module__.startswith("openai")
]


def made(kind: type[openai.OpenAIError]) -> openai.OpenAIError:
    """One of a kind, whatever its constructor asks for."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"said by the service about {KEY}")
    for name, value in {
        "message": f"said by the service about {KEY}",
        "request": REQUEST,
        "body": None,
        "code": None,
        "param": None,
        "type": None,
        "response": httpx.Response(getattr(kind, "status_code", 400), request=REQUEST),
        "status_code": getattr(kind, "status_code", 400),
        "request_id": None,
    }.items():
        if issubclass(kind, openai.APIError):
            setattr(error, name, value)
    return error


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_becomes_one_of_ours_without_the_key(
    client: openai.OpenAI, kind: type[openai.OpenAIError]
) -> None:
    error = made(kind)
    with pytest.raises(ServiceError) as caught, translate_errors(client):
        raise error
    assert caught.value.__cause__ is None  # the traceback would show the key
    assert KEY not in str(caught.value)


def test_the_cause_is_kept_where_the_key_does_not_stand_in_it(client: openai.OpenAI) -> None:
    error = openai.OpenAIError("no room left")
    with pytest.raises(ServiceError) as caught, translate_errors(client):
        raise error
    assert caught.value.__cause__ is error


def test_a_short_word_for_a_key_is_not_cut_out_of_the_language(service: respx.MockRouter) -> None:
    service.get("/files/f-1").mock(refusal(404, "no local file f-1"))
    with (
        openai.OpenAI(api_key="local", base_url="https://service.test/v1", max_retries=0) as client,
        pytest.raises(NotFound, match="no local file"),
    ):
        requests.send(client, requests.get_file("f-1"))


@pytest.mark.parametrize("key", ["hunter2", "a-b-c", "pass word 1"])
def test_a_short_key_that_is_no_word_is_cut_out_where_it_stands_alone(
    service: respx.MockRouter, key: str
) -> None:
    service.get("/files/f-1").mock(refusal(404, f"key {key!r} may not read {key}s"))
    with (
        openai.OpenAI(api_key=key, base_url="https://service.test/v1", max_retries=0) as client,
        pytest.raises(NotFound, match=rf"key '\*\*\*' may not read {key}s"),
    ):
        requests.send(client, requests.get_file("f-1"))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://me:secret@service.test/v1",
        "https://service.test/v1?api_key=secret",
        "https://service.test/v1/?token=secret&team=a#secret",
    ],
)
def test_a_secret_in_the_address_is_not_shown(base_url: str) -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with (
        openai.OpenAI(
            api_key=KEY,
            base_url=base_url,
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(refuse)),
        ) as client,
        pytest.raises(ServiceUnavailable, match=r"cannot reach https://service\.test/v1") as caught,
    ):
        requests.send(client, requests.get_file("f-1"))
    assert "secret" not in str(caught.value)


def test_the_list_of_the_clients_errors_is_not_empty() -> None:
    assert {openai.RateLimitError, openai.APITimeoutError, openai.OpenAIError} <= set(THEIRS)


STATUSES = {
    "400": (refusal(400, "bad"), RequestRejected),
    "401": (refusal(401), AccessDenied),
    "403": (refusal(403), AccessDenied),
    "404": (refusal(404), NotFound),
    "404 model": (refusal(404, code="model_not_found"), ModelNotFound),
    "404 model param": (refusal(404, param="model"), ModelNotFound),
    "408": (refusal(408), ServiceUnavailable),
    "409": (refusal(409), ServiceUnavailable),
    "413": (refusal(413), RequestRejected),
    "422": (refusal(422), RequestRejected),
    "429": (refusal(429, code="rate_limit_exceeded"), ServiceUnavailable),
    "429 no credit": (refusal(429, code="insufficient_quota"), AccessDenied),
    "500": (refusal(500), ServiceUnavailable),
    "503 page": (httpx.Response(503, html="<html>busy</html>"), ServiceUnavailable),
}


@pytest.mark.parametrize(("answer", "kind"), STATUSES.values(), ids=STATUSES)
def test_a_status_says_who_must_act(
    client: openai.OpenAI, service: respx.MockRouter, answer: httpx.Response, kind: type[ServiceError]
) -> None:
    service.get("/files/f-1").mock(answer)
    with pytest.raises(ServiceError) as caught:
        requests.send(client, requests.get_file("f-1"))
    assert type(caught.value) is kind
    assert caught.value.status == answer.status_code


def test_the_services_own_words_are_kept(client: openai.OpenAI, service: respx.MockRouter) -> None:
    answer = refusal(400, f"invalid n_epochs for {KEY}", code="invalid_value", param="n_epochs")
    answer.headers["x-request-id"] = "req-7"
    service.get("/files/f-1").mock(answer)
    with pytest.raises(RequestRejected) as caught:
        requests.send(client, requests.get_file("f-1"))
    error = caught.value
    assert str(error) == "invalid n_epochs for ***"
    assert (error.code, error.param, error.request_id) == ("invalid_value", "n_epochs", "req-7")


@pytest.mark.parametrize(
    "body", [{"error": "out of tokens"}, {"detail": [{"msg": "out of tokens"}]}, ["out of tokens"]], ids=str
)
def test_words_in_another_form_than_openais_are_shown_too(
    client: openai.OpenAI, service: respx.MockRouter, body: Any
) -> None:
    service.get("/files/f-1").mock(httpx.Response(422, json=body))
    with pytest.raises(RequestRejected, match="out of tokens"):
        requests.send(client, requests.get_file("f-1"))


NO_JSON = {
    "a page": HTML,
    "nothing": httpx.Response(200, content=b"", headers={"content-type": "application/json"}),
    "half": httpx.Response(200, content=b'{"id": ', headers={"content-type": "application/json"}),
    "null": httpx.Response(200, json=None),
    "a list": httpx.Response(200, json=[]),
}
CALLS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "retrieve": lambda client: requests.send(client, requests.get_job("ftjob-1")),
    "list": lambda client: requests.send(client, requests.list_jobs(None, limit=3)),
    "events": lambda client: requests.send(client, requests.list_events("ftjob-1", None)),
    "chat": lambda client: requests.send(
        client, requests.ask_model("m", [{"role": "user", "content": "?"}], {})
    ),
}


NOT_READ = [
    pytest.param(answer, call, id=f"{name}-{what}")
    for name, answer in NO_JSON.items()
    for what, call in CALLS.items()
    if name != "a list" or what not in {"list", "events"}
]


@pytest.mark.parametrize(("answer", "call"), NOT_READ)
def test_an_answer_that_is_not_what_was_asked_for_is_named_with_the_address(
    client: openai.OpenAI,
    service: respx.MockRouter,
    answer: httpx.Response,
    call: Callable[[openai.OpenAI], Any],
) -> None:
    service.route().mock(answer)
    with pytest.raises(ServiceUnavailable, match=r"service\.test/v1/ answered with something that is no"):
        call(client)


LISTS: list[Any] = [
    [{"id": "1"}],
    {"data": [{"id": "1"}]},
    {"jobs": [{"id": "1"}], "has_more": False},
    {"items": [{"id": "1"}]},
    {"object": "list", "data": {"data": [{"id": "1"}]}},
]


@pytest.mark.parametrize("answer", LISTS, ids=str)
@pytest.mark.parametrize(
    "request_", [requests.list_jobs(None), requests.list_files(None)], ids=["jobs", "files"]
)
def test_a_list_is_read_wherever_its_rows_are(
    client: openai.OpenAI, service: respx.MockRouter, answer: Any, request_: requests.Request
) -> None:
    service.route().respond(json=answer)
    assert requests.send(client, request_).answer["data"] == [{"id": "1"}]


@pytest.mark.parametrize("answer", [{"data": []}, {"data": None}, [], {"jobs": []}], ids=str)
def test_an_empty_list_is_one(client: openai.OpenAI, service: respx.MockRouter, answer: Any) -> None:
    service.route().respond(json=answer)
    assert requests.send(client, requests.list_jobs(None)).answer["data"] == []


@pytest.mark.parametrize("answer", [{}, {"error": "overloaded"}, {"data": "text"}, {"id": "1"}], ids=str)
def test_what_has_no_rows_is_no_empty_list(
    client: openai.OpenAI, service: respx.MockRouter, answer: Any
) -> None:
    """Or something would be bought again that the list holds."""
    service.route().respond(json=answer)
    with pytest.raises(ServiceUnavailable, match=r"something that is no list|with an error: overloaded"):
        requests.send(client, requests.list_jobs(None))


def test_a_service_that_cannot_be_reached_is_named_without_the_key(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get("/files/f-1").mock(side_effect=httpx.ConnectError(f"refused {KEY}"))
    with pytest.raises(ServiceUnavailable, match=r"cannot reach https://service\.test.*refused \*\*\*"):
        requests.send(client, requests.get_file("f-1"))


def test_a_service_that_does_not_answer_in_time_is_named(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get("/files/f-1").mock(side_effect=httpx.ReadTimeout("slow"))
    with pytest.raises(ServiceUnavailable, match=r"no answer from .* in time"):
        requests.send(client, requests.get_file("f-1"))


@pytest.fixture
def patient(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> openai.OpenAI:
    """A client that asks three times, and does not sleep between."""
    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *_: 0)
    return client.with_options(max_retries=2)


@pytest.mark.parametrize(
    "outcome",
    [refusal(500), refusal(429), refusal(409), httpx.ReadTimeout("slow"), httpx.ConnectError("refused")],
    ids=["500", "429", "409", "timeout", "connection"],
)
def test_a_job_is_asked_for_once_whatever_happens(
    patient: openai.OpenAI, service: respx.MockRouter, outcome: Any
) -> None:
    route = service.post("/fine_tuning/jobs").mock(side_effect=[outcome] * 3)
    with pytest.raises(ServiceUnavailable):
        requests.send(patient, requests.create_job({"model": "base", "training_file": "f-1"}, {}, "token"))
    assert route.call_count == 1


def test_other_questions_are_asked_again_by_the_client(
    patient: openai.OpenAI, service: respx.MockRouter
) -> None:
    answers = [refusal(500), refusal(429), httpx.Response(200, json=job_body())]
    route = service.get("/fine_tuning/jobs/ftjob-1").mock(side_effect=answers)
    assert requests.send(patient, requests.get_job("ftjob-1")).answer["status"] == "running"
    assert route.call_count == 3


def test_nulls_new_words_and_further_fields_come_through_as_they_are(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    body = job_body("paused", error=None, hyperparameters=None, shade="blue", result_files=None)
    service.get("/fine_tuning/jobs/ftjob-1").mock(httpx.Response(200, json=body))
    assert requests.send(client, requests.get_job("ftjob-1")).answer == body


def test_a_service_that_sends_one_page_for_ever_is_not_followed_for_ever(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.get("/fine_tuning/jobs").mock(page([job_body()], more=True))
    assert [job.id for job in FineTuneJob.list(client)] == ["ftjob-1"]


def test_our_own_errors_pass_through_untouched(client: openai.OpenAI) -> None:
    error = PricerError("ours")
    with pytest.raises(PricerError) as caught, translate_errors(client):
        raise error
    assert caught.value is error


# Whether a request that failed may have been carried out all the same.
OUTCOMES: list[tuple[PricerError, bool]] = [
    (ServiceUnavailable("no answer in time"), True),
    (ServiceUnavailable("no connection", reached=False), False),
    (ServiceError("more than 16 MiB"), True),
    (FileAccessError("the file to send cannot be read"), False),
    *((make_error(Problem("x"), status=status), True) for status in (408, 409, 500, 502, 503, 504, 524)),
    *((make_error(Problem("x"), status=status), False) for status in (400, 401, 403, 404, 413, 422, 429)),
]


@pytest.mark.parametrize(("error", "may"), OUTCOMES, ids=lambda value: repr(value)[:40])
def test_what_may_have_been_carried_out_is_told_from_what_surely_was_not(
    error: PricerError, *, may: bool
) -> None:
    assert may_have_been_taken(error) is may
