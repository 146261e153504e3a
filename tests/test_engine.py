"""Many questions at once: order, pace, retries, faults, cancelling; sync and async by the same table."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import ChatFormatter, Item, Prediction, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.chat import COURSE
from finetune_pricer.errors import AccessDenied, ModelNotFound
from finetune_pricer.predict import Predictions, engine
from stub_service import Behaviour, StubService, price_of

Run = Callable[..., list[Prediction]]
COMPLETIONS = "/chat/completions"


def run_sync(
    url: str, items: Any, *, timeout: float | openai.NotGiven = openai.NOT_GIVEN, **settings: Any
) -> list[Prediction]:
    with openai.OpenAI(base_url=url, api_key="sk-x", timeout=timeout) as client:
        return list(Predictor(client, "m", **settings).predict_many(items))


def run_async(
    url: str, items: Any, *, timeout: float | openai.NotGiven = openai.NOT_GIVEN, **settings: Any
) -> list[Prediction]:
    async def run() -> list[Prediction]:
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-x", timeout=timeout) as client:
            return list(await AsyncPredictor(client, "m", **settings).predict_many(items))

    return asyncio.run(run())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(engine, "_ALONE", 0.2)


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


def asked_for(text: str) -> str:
    return f"{COURSE}\n\n{text}"


def expected(items: Sequence[str]) -> list[float]:
    return [price_of(asked_for(item)) for item in items]


def test_many_items_are_priced_in_order_within_the_concurrency(run: Run) -> None:
    items = texts(150)
    with StubService(Behaviour(latency=0.005)) as service:
        found = run(service.url, items, concurrency=7)
        assert [prediction.price for prediction in found] == pytest.approx(expected(items))
        assert service.most_at_once <= 7
        assert service.stats()["answered_again"] == 0
    assert all(prediction.latency >= 0.005 for prediction in found)


def test_as_many_are_asked_at_once_as_the_concurrency_says(run: Run) -> None:
    # Answers take so long that all seven questions are out before the first comes, on a busy machine too.
    with StubService(Behaviour(latency=1.0)) as service:
        run(service.url, texts(7), concurrency=7)
        assert service.most_at_once == 7


def test_zero_items_ask_nothing(run: Run) -> None:
    with StubService() as service:
        assert run(service.url, []) == []
        assert service.sent == 0


def test_faults_and_dropped_connections_are_asked_again_and_answers_are_not(run: Run) -> None:
    items = texts(300)
    with StubService(Behaviour(errors=0.1, drops=0.1)) as service:
        found = run(service.url, items, concurrency=16)
        assert [prediction.price for prediction in found] == pytest.approx(expected(items))
        assert service.broken > 10
        assert service.dropped > 10
        assert service.answered == {asked_for(item): 1 for item in items}
        assert service.sent == 300 + service.broken + service.dropped


def test_questions_that_are_never_answered_are_asked_again(run: Run) -> None:
    items = texts(200)
    with StubService(Behaviour(hangs=0.05)) as service:
        # So long that a busy machine gives every other answer in time.
        found = run(service.url, items, concurrency=16, timeout=1.5)
    assert [prediction.price for prediction in found] == expected(items)
    assert service.hung > 3
    assert service.stats()["answered_again"] == 0


def test_a_service_that_never_answers_ends_in_errors_and_not_in_waiting_for_ever(run: Run) -> None:
    with StubService(Behaviour(hangs=1)) as service:
        (found,) = run(service.url, ["a mug"], timeout=0.1)
    assert found.price is None
    assert "no answer from http://127.0.0.1" in (found.error or "")
    assert service.hung == engine.ATTEMPTS


@pytest.mark.parametrize(("chosen", "used"), [(openai.NOT_GIVEN, 60), (7, 7)])
def test_a_question_waits_a_minute_for_its_answer_unless_the_client_says_otherwise(
    chosen: Any, used: float, service: respx.MockRouter
) -> None:
    route = service.post(COMPLETIONS).mock(return_value=answer("$5"))
    with openai.OpenAI(base_url="https://service.test/v1", api_key="sk-x", timeout=chosen) as client:
        Predictor(client, "m").predict_many(["a mug"])
    assert route.calls.last.request.extensions["timeout"]["read"] == used


def test_a_limit_unknown_in_advance_is_found_with_few_refusals(run: Run) -> None:
    """A second's worth at once, then 20 a second: fewer than a busy machine asks."""
    with StubService(Behaviour(latency=0.1, requests_per_minute=1_200)) as service:
        found = run(service.url, texts(60), concurrency=32)
        assert all(prediction.price is not None for prediction in found)
        assert 0 < service.refused < 30


@pytest.mark.parametrize("told", ["by the user", "by headers"])
def test_a_limit_that_was_told_is_kept(told: str, run: Run) -> None:
    stated = {"requests_per_minute": 6_000} if told == "by the user" else {}
    behaviour = Behaviour(latency=0.01, requests_per_minute=6_000, shows_limit=not stated)
    with StubService(behaviour) as service:
        run(service.url, texts(120), concurrency=32, **stated)
        assert service.refused == 0


def test_a_fault_that_does_not_end_strikes_only_its_item(run: Run, service: respx.MockRouter) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if b"number 3" in request.content:
            return httpx.Response(503, json={"error": {"message": "Overloaded."}})
        return answer("$5.00")

    route = service.post(COMPLETIONS).mock(side_effect=reply)
    found = run("https://service.test/v1", texts(6))
    assert [prediction.price for prediction in found] == [5, 5, 5, None, 5, 5]
    assert "Overloaded" in (found[3].error or "")
    assert len(route.calls) == 5 + engine.ATTEMPTS


def test_a_storm_of_refusals_ends_in_errors_and_not_in_waiting_for_ever(
    run: Run, service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    refusal = httpx.Response(429, json={"error": {"message": "Slow down."}}, headers={"retry-after": "0.02"})
    service.post(COMPLETIONS).mock(return_value=refusal)
    found = run("https://service.test/v1", texts(5))
    assert [prediction.price for prediction in found] == [None] * 5
    assert all("Slow down" in (prediction.error or "") for prediction in found)


def test_a_wait_of_a_day_ends_in_errors_and_not_in_a_day(run: Run, service: respx.MockRouter) -> None:
    refusal = httpx.Response(
        429, json={"error": {"message": "Come again."}}, headers={"retry-after": "86400"}
    )
    route = service.post(COMPLETIONS).mock(return_value=refusal)
    found = run("https://service.test/v1", texts(1_000))
    assert [prediction.price for prediction in found] == [None] * 1_000
    assert "Come again" in (found[-1].error or "")
    assert len(route.calls) <= 64


@pytest.mark.parametrize("asked", ["86400", "1e300", "99999999999999999999", "24h"])
@pytest.mark.parametrize("is_always", [False, True])
def test_a_fault_that_asks_for_a_day_strikes_only_its_item_and_at_once(
    asked: str, is_always: bool, run: Run, service: respx.MockRouter
) -> None:
    struck: list[bytes] = []

    def reply(request: httpx.Request) -> httpx.Response:
        if b"number 3" not in request.content or (struck and not is_always):
            return answer("$5.00")
        struck.append(request.content)
        return httpx.Response(503, json={"error": {"message": "Away."}}, headers={"retry-after": asked})

    service.post(COMPLETIONS).mock(side_effect=reply)
    began = time.monotonic()
    found = run("https://service.test/v1", texts(6))
    assert time.monotonic() - began < 10
    assert [prediction.price for prediction in found] == [5, 5, 5, None, 5, 5]
    assert "Away" in (found[3].error or "")


@pytest.mark.parametrize("status", [429, 503])
def test_a_header_that_takes_long_to_read_is_not_read(
    status: int, run: Run, service: respx.MockRouter
) -> None:
    long = {"retry-after": "1" * 20_000, "x-ratelimit-reset-requests": "1" * 20_000}
    limits = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "90"}
    refusals = iter([httpx.Response(status, json={}, headers=long)])
    service.post(COMPLETIONS).mock(
        side_effect=lambda _: next(
            refusals, httpx.Response(200, json=answer("$5.00").json(), headers=long | limits)
        )
    )
    began = time.monotonic()
    assert [each.price for each in run("https://service.test/v1", texts(2))] == [5, 5]
    assert time.monotonic() - began < 10  # it was 12 s for each header


def test_a_service_that_is_away_is_not_asked_for_every_item(run: Run, service: respx.MockRouter) -> None:
    route = service.post(COMPLETIONS).mock(return_value=httpx.Response(503, json={}))
    found = run("https://service.test/v1", texts(2_000), concurrency=8)
    assert [prediction.price for prediction in found] == [None] * 2_000
    assert len(route.calls) < 32 * engine.ATTEMPTS + 8


def test_items_wait_while_the_service_is_away(
    run: Run, service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_FIRST_PAUSE", 0.02)
    struck: Counter[bytes] = Counter()

    def reply(request: httpx.Request) -> httpx.Response:
        # Away from the 50th item on, until one has been asked about six times.
        if max(struck.values(), default=0) < 6 and (struck or b"number 50" in request.content):
            struck[request.content] += 1
            return httpx.Response(503, json={})
        return answer("$5.00")

    service.post(COMPLETIONS).mock(side_effect=reply)
    found = run("https://service.test/v1", texts(600), concurrency=8)
    assert [prediction.price for prediction in found] == [5] * 600
    assert len(struck) < 50


def test_one_item_that_is_forbidden_does_not_end_the_others(run: Run, service: respx.MockRouter) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if b"number 20 " in request.content.replace(b'"', b" "):
            return httpx.Response(403, json={"error": {"message": "Flagged by the filter."}})
        return answer("$5.00")

    service.post(COMPLETIONS).mock(side_effect=reply)
    found = run("https://service.test/v1", texts(200), concurrency=4)
    assert [place for place, each in enumerate(found) if each.price is None] == [20]
    assert "Flagged" in (found[20].error or "")


def test_a_prompt_that_is_too_long_teaches_nothing_about_the_others(
    run: Run, service: respx.MockRouter
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if b"number 0" in request.content:
            message = "'max_tokens' or 'max_completion_tokens' is too large: 12; the context has 4096 tokens."
            return httpx.Response(400, json={"error": {"message": message, "param": "max_tokens"}})
        known = b'"max_tokens"' in request.content
        return answer("$5.00") if known else httpx.Response(400, json={"error": {"message": "max_tokens!"}})

    service.post(COMPLETIONS).mock(side_effect=reply)
    found = run("https://service.test/v1", texts(5), concurrency=1)
    assert [prediction.price for prediction in found] == [None, 5, 5, 5, 5]


def test_a_refused_request_waits_out_what_the_service_asks(run: Run, service: respx.MockRouter) -> None:
    times: list[float] = []

    def reply(_: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return httpx.Response(429, json={}, headers={"retry-after": "9", "retry-after-ms": "150"})
        return answer("$5.00")

    service.post(COMPLETIONS).mock(side_effect=reply)
    assert run("https://service.test/v1", ["a mug"])[0].price == 5
    assert 0.15 <= times[1] - times[0] < 3


def answer(reply: Any, **choice: Any) -> httpx.Response:
    message = {"role": "assistant", "content": reply}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"} | choice]})


STRANGE: dict[str, tuple[httpx.Response, str]] = {
    "an empty reply": (answer(""), "the reply is empty"),
    "no content": (answer(None), "the reply is empty"),
    "a refusal": (answer(None, message={"content": None, "refusal": "I will not."}), "I will not."),
    "several prices but no dollar": (answer("between 3 and 5 of 7"), "no price"),
    "another currency": (answer("€19.99"), "EUR"),
    "a cut price": (answer("$1,1", finish_reason="length"), "cut inside a number"),
    "nothing before the cut": (answer("", finish_reason="length"), "cut before it began"),
    "ten megabytes of text": (answer("9" * 10_000_000), "not read as a price"),
    "no choices": (httpx.Response(200, json={"choices": []}), "the reply is empty"),
    "choices of a wrong type": (
        httpx.Response(200, json={"choices": "none", "usage": 3}),
        "the reply is empty",
    ),
    "a wrong message": (httpx.Response(200, json={"choices": [{"message": "hi"}]}), "the reply is empty"),
    "an error in place of the answer": (
        httpx.Response(200, json={"error": {"message": "Provider failed.", "code": 502}}),
        "Provider failed.",
    ),
    "JSON that is no object": (httpx.Response(200, json=[1, 2]), "not JSON"),
    "no JSON": (httpx.Response(200, text="<html>busy</html>"), "not JSON"),
    "half of the JSON": (httpx.Response(200, text='{"choices": [{"mess'), "not JSON"),
    "a context that is too small": (
        httpx.Response(400, json={"error": {"message": "Too long.", "code": "context_length_exceeded"}}),
        "Too long.",
    ),
}


WHOLE = {
    "half an emoji": "$5.00 \\ud83d",
    "two halves of one": "$5.00 \\ud83d\\ude00",
    "no UTF-8": "$5.00 \xff",
}


@pytest.mark.parametrize("case", WHOLE)
def test_an_answer_with_a_broken_letter_is_read_and_not_paid_for_again(
    case: str, run: Run, service: respx.MockRouter
) -> None:
    content = b'{"choices": [{"message": {"content": "%s"}}]}' % WHOLE[case].encode("latin-1")
    route = service.post(COMPLETIONS).mock(return_value=httpx.Response(200, content=content))
    [found] = run("https://service.test/v1", ["a mug"], store="kept.sqlite")
    assert found.price == 5
    assert len(route.calls) == 1
    (found.text or "").encode()
    again = run("https://service.test/v1", ["a mug"], store="kept.sqlite")
    assert again == [found]
    assert len(route.calls) == 1


def test_a_number_that_is_none_in_an_answer_strikes_no_run(run: Run, service: respx.MockRouter) -> None:
    tokens = b'[{"token": "$5", "logprob": NaN, "top_logprobs": [{"token": "$5", "logprob": -Infinity}]}]'
    content = b'{"choices": [{"message": {"content": "$5"}, "logprobs": {"content": %s}}]}' % tokens
    service.post(COMPLETIONS).mock(return_value=httpx.Response(200, content=content))
    assert [each.price for each in run("https://service.test/v1", texts(2))] == [5, 5]


@pytest.mark.parametrize("tokens", [2**63, 2**70, 10**40, -1, "many", True, None, 1e300])
def test_tokens_that_no_answer_can_have_are_not_counted(
    tokens: Any, run: Run, service: respx.MockRouter
) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": 3}
    body = {"choices": [{"message": {"content": "$5"}}], "usage": usage}
    service.post(COMPLETIONS).mock(side_effect=lambda _: httpx.Response(200, content=json.dumps(body)))
    found = run("https://service.test/v1", texts(3), store="kept.sqlite")
    assert [each.price for each in found] == [5, 5, 5]
    assert found[0].usage.prompt_tokens in {0, 1}
    assert found[0].usage.completion_tokens == 3


HALF = Item(title="a mug", id="whole")
object.__setattr__(HALF, "id", "half \ud83d of an id")  # however it came by it
POISON: list[Any] = [
    HALF,
    "half \ud83d of a text",
    " ",
    None,
    5,
    object(),
]


@pytest.mark.parametrize("store", [None, "kept.sqlite"])
def test_poison_among_the_items_strikes_only_itself(store: str | None, run: Run) -> None:
    items: list[Any] = [*texts(20), *POISON, *[f"further {number}" for number in range(20)]]
    with StubService() as service:
        found = run(service.url, items, store=store)
        assert service.sent == 41
    unpriced = [place for place, each in enumerate(found) if each.price is None]
    assert unpriced == list(range(21, 26))
    assert "lone surrogate" in (found[21].error or "")
    assert all(each.error for each in found if each.price is None)
    Predictions(found).to_csv("found.csv")
    assert len(Path("found.csv").read_text("utf-8").splitlines()) >= 47


def test_a_formatter_that_fails_on_an_item_strikes_only_that(run: Run) -> None:
    class Picky(ChatFormatter):
        def prompt(self, item: Any) -> list[dict[str, str]]:
            if "number 3" in str(item):
                raise KeyError("no such category")
            return super().prompt(item)

    with StubService() as service:
        found = run(service.url, texts(6), formatter=Picky())
    assert [each.price is None for each in found] == [False, False, False, True, False, False]
    assert "KeyError" in (found[3].error or "")


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_answer_strikes_only_its_item_and_says_why(
    case: str, run: Run, service: respx.MockRouter
) -> None:
    strange, why = STRANGE[case]

    def reply(request: httpx.Request) -> httpx.Response:
        return strange if b"number 1" in request.content else answer("$5.00")

    service.post(COMPLETIONS).mock(side_effect=reply)
    first, struck, last = run("https://service.test/v1", texts(3))
    assert (first.price, struck.price, last.price) == (5, None, 5)
    assert why in (struck.error or "")
    assert len(struck.error or "") < 300


def test_an_empty_item_strikes_only_itself(run: Run) -> None:
    with StubService() as service:
        found = run(service.url, ["a mug", " ", "a cup"])
        assert [prediction.price is None for prediction in found] == [False, True, False]
        assert service.sent == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AccessDenied), (403, AccessDenied), (404, ModelNotFound), (429, AccessDenied)],
)
def test_a_refused_key_or_model_is_raised_when_nothing_was_answered(
    status: int, error: type[Exception], run: Run, service: respx.MockRouter
) -> None:
    code = {404: "model_not_found", 429: "insufficient_quota"}.get(status)
    route = service.post(COMPLETIONS)
    route.mock(return_value=httpx.Response(status, json={"error": {"message": "No.", "code": code}}))
    with pytest.raises(error):
        run("https://service.test/v1", texts(500))
    assert len(route.calls) < 100


@pytest.mark.parametrize(("status", "code"), [(401, None), (404, "model_not_found")])
def test_a_key_or_model_that_is_gone_half_way_leaves_what_was_answered(
    status: int, code: str | None, run: Run, service: respx.MockRouter
) -> None:
    numbers = itertools.count(1)

    def reply(_: httpx.Request) -> httpx.Response:
        if next(numbers) <= 50:
            return answer("$5.00")
        return httpx.Response(status, json={"error": {"message": "Gone.", "code": code}})

    route = service.post(COMPLETIONS).mock(side_effect=reply)
    found = run("https://service.test/v1", texts(2_000), concurrency=4)
    assert len(found) == 2_000
    assert sum(prediction.price == 5 for prediction in found) == 50
    assert all("Gone" in (prediction.error or "") for prediction in found if prediction.price is None)
    assert len(route.calls) <= 60


def test_the_clients_own_retries_are_off(service: respx.MockRouter) -> None:
    route = service.post(COMPLETIONS).mock(return_value=httpx.Response(500, json={}))
    with openai.OpenAI(base_url="https://service.test/v1", api_key="sk-x", max_retries=5) as client:
        Predictor(client, "m").predict_many(["a mug"])
    assert len(route.calls) == engine.ATTEMPTS


def test_predictions_stream_while_items_still_come() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield f"thing number {number}"

    with StubService() as service, openai.OpenAI(base_url=service.url, api_key="x") as client:
        stream = Predictor(client, "m", concurrency=4).iter_predict(endless())
        found = list(itertools.islice(stream, 1_000))
        stream.close()  # type: ignore[attr-defined]
        assert len(found) == 1_000
        assert len(taken) <= 1_000 + 8 * 4
        assert service.sent <= len(taken)


def test_the_sync_predictor_works_inside_a_running_loop() -> None:
    async def notebook_cell(url: str) -> list[Prediction]:
        with openai.OpenAI(base_url=url, api_key="x") as client:
            return list(Predictor(client, "m").predict_many(texts(20)))

    with StubService() as service:
        assert len(asyncio.run(notebook_cell(service.url))) == 20


def test_a_bug_in_the_client_is_raised_and_not_swallowed() -> None:
    class Broken:
        base_url, api_key, timeout = "https://service.test/v1", "x", 1.0

        def with_options(self, **_: Any) -> "Broken":
            return self

    broken: Any = Broken()
    with pytest.raises(AttributeError):
        Predictor(broken, "m").predict_many(texts(3))
