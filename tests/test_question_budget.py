"""A budget for questions: nothing is asked that might not fit in, and what was answered is kept."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import respx

from batch_service import Batches
from finetune_pricer import Prediction, Predictor, TokenPricing
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import DataError, NotFound, OverBudget
from finetune_pricer.predict import engine
from helpers import refusal
from stub_service import Behaviour, StubService
from test_engine import answer, texts

# The stub's answers take 100 tokens to ask and 5 to answer: $1 and $1.
PRICING = TokenPricing(input=10_000, output=200_000)
URL = "https://service.test/v1"
Run = Callable[..., tuple[list[Prediction], float]]


def run_sync(url: str, items: list[str], **settings: Any) -> tuple[list[Prediction], float]:
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        predictor = Predictor(client, "m", pricing=PRICING, **settings)
        return list(predictor.predict_many(items)), predictor.spent or 0.0


def run_async(url: str, items: list[str], **settings: Any) -> tuple[list[Prediction], float]:
    async def run() -> tuple[list[Prediction], float]:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            predictor = AsyncPredictor(client, "m", pricing=PRICING, **settings)
            return list(await predictor.predict_many(items)), predictor.spent or 0.0

    return asyncio.run(run())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_run_stops_before_its_budget_and_keeps_what_was_answered(
    concurrency: int, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with StubService(Behaviour(latency=0.005)) as service:
        found, spent = run(service.url, texts(100), budget=60.0, concurrency=concurrency, store="kept.sqlite")
        asked = service.sent
        assert 20 < asked <= 30  # the most that a question can cost is set aside for it, and some is left
        assert spent == pytest.approx(asked * 2.0)
        assert [each.price is not None for each in found] == [True] * asked + [False] * (100 - asked)
        assert "of the budget of $60.00" in (found[-1].error or "")
        assert caplog.text.count("of the budget of $60.00") == 1
        again, spent = run(service.url, texts(100), budget=1_000.0, store="kept.sqlite")
        assert all(each.price is not None for each in again)
        assert service.sent == 100
        assert spent == pytest.approx((100 - asked) * 2.0)


def test_a_budget_of_nothing_gives_what_is_kept_and_asks_nothing(run: Run) -> None:
    with StubService() as service:
        run(service.url, texts(5), budget=1_000, store="kept.sqlite")
        found, spent = run(service.url, [*texts(5), "a mug", *texts(3)], budget=0, store="kept.sqlite")
        assert service.sent == 5
    assert [each.price is not None for each in found] == [True] * 5 + [False] + [True] * 3
    assert spent == 0


def test_one_question_after_the_other_is_counted_too() -> None:
    with StubService() as service, openai.OpenAI(base_url=service.url, api_key="x") as client:
        predictor = Predictor(client, "m", pricing=PRICING, budget=40.0)
        with pytest.raises(OverBudget, match=r"not asked: of the budget of \$40.00, \$\d+.00 are") as caught:
            list(map(predictor.predict, texts(100)))
        assert predictor.spent == service.sent * 2 <= 40
        assert service.sent > 10
        assert caught.value.cost > 40


def test_threads_share_a_budget() -> None:
    with StubService(Behaviour(latency=0.01)) as service:
        with openai.OpenAI(base_url=service.url, api_key="x") as client:
            predictor = Predictor(client, "m", pricing=PRICING, budget=70.0)
            threads = [
                threading.Thread(
                    target=predictor.predict_many, args=([f"{text} of {name}" for text in texts(40)],)
                )
                for name in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert predictor.spent == pytest.approx(service.sent * 2.0)
        assert service.sent * 2 <= 70


def test_a_run_that_is_cancelled_leaves_the_budget_usable() -> None:
    async def run(url: str) -> tuple[float, list[Prediction]]:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            predictor = AsyncPredictor(client, "m", pricing=PRICING, budget=60.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await predictor.predict_many(texts(100))
            spent = predictor.spent or 0.0
            return spent, list(await predictor.predict_many(texts(100)))

    with StubService(Behaviour(latency=0.3)) as service:
        spent, found = asyncio.run(run(service.url))
    assert spent > 2  # the question that goes first was under way, and may be billed
    assert [each.price for each in found][-1] is None


BATCH_PRICING = TokenPricing(input=10_000, output=200_000, batch_input=5_000, batch_output=100_000)


def test_a_batch_is_counted_at_the_most_that_it_can_cost_and_once(service: respx.MockRouter) -> None:
    batches = Batches(service)
    items = [*texts(10), " ", "thing number 3"]
    with openai.OpenAI(base_url=URL, api_key="x") as client:
        with pytest.raises(OverBudget, match="not asked"):
            Predictor(client, "m", pricing=BATCH_PRICING, budget=5.0).predict_batch(items)
        with pytest.raises(DataError, match="batch_input="):
            Predictor(client, "m", pricing=PRICING, budget=5.0).predict_batch(items)
        assert not batches.asked["POST /files"] + batches.asked["POST /batches"]
        predictor = Predictor(client, "m", pricing=BATCH_PRICING, budget=100.0)
        predictor.predict_batch(items)
        spent = predictor.spent
        assert spent is not None
        assert 10 < spent < 10 * 3
        predictor.predict_batch(items)
        assert predictor.spent == spent
        other = Predictor(client, "m", pricing=BATCH_PRICING, budget=5.0)
        other.predict_batch(items)  # finds what is under way
        assert other.spent == 0
        assert len(batches.batches) == 1


def test_questions_of_a_batch_that_come_later_and_do_not_fit_in_strike_only_their_items(
    service: respx.MockRouter,
) -> None:
    batches = Batches(service)
    with openai.OpenAI(base_url=URL, api_key="x") as client:
        predictor = Predictor(client, "m", pricing=BATCH_PRICING, budget=7.0, samples=5)
        run = predictor.predict_batch(texts(3))
        with pytest.raises(OverBudget):
            run.wait(sleep=lambda _: batches.finish())
        found = run.predictions()
    assert len(batches.batches) == 1
    assert all("not asked: of the budget of $7.00" in (each.error or "") for each in found)


CASES: dict[str, tuple[httpx.Response | Exception, bool]] = {
    "no usage": (answer("$5.00"), True),
    "usage of nothing": (
        httpx.Response(200, json=answer("$5.00").json() | {"usage": {"prompt_tokens": 0}}),
        True,
    ),
    "a connection that broke": (httpx.ReadError("gone"), True),
    "a refused connection": (httpx.ConnectError("refused"), False),
    "a refusal": (refusal(400), False),
    "a fault": (refusal(503), False),
    "a gateway that waited for the answer": (refusal(504), True),
    "a gateway that lost it": (refusal(502), True),
    "a limit": (refusal(429), False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_may_be_billed_is_counted_at_the_most_that_it_can_cost(
    case: str, run: Run, service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ATTEMPTS", 1)
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    outcome, is_counted = CASES[case]
    service.post("/chat/completions").mock(side_effect=itertools.repeat(outcome))
    _, spent = run(URL, ["a mug"], budget=100.0)
    assert (spent > 2) is is_counted


def test_what_the_client_sends_again_by_itself_is_not_sent(service: respx.MockRouter) -> None:
    route = service.post("/chat/completions").mock(return_value=refusal(503))
    with openai.OpenAI(base_url=URL, api_key="x", max_retries=2) as client, pytest.raises(ConnectionError):
        Predictor(client, "m", pricing=PRICING, budget=100.0).predict("a mug")
    assert len(route.calls) == 1


def test_samples_and_long_prompts_cost_more_than_short_ones() -> None:
    with openai.OpenAI(base_url=URL, api_key="x") as client:
        made = Predictor(client, "m", pricing=PRICING, budget=1.0, decoding="median", samples=10)
        dialogue = made._dialogue
        assert dialogue.budget is not None
        costs = [
            dialogue.budget.most_for(dialogue, next(dialogue.questions(text, "1")))
            for text in ("a mug", "a mug " * 1000, "杯" * 1000)
        ]
    single = Predictor(client, "m", pricing=PRICING, budget=1.0)._dialogue
    assert single.budget is not None
    cheap = single.budget.most_for(single, next(single.questions("a mug", "1")))
    assert costs[0] - cheap == pytest.approx(9 * single.reply_tokens * 0.2)
    assert costs[1] > costs[0] + 6_000 * 0.01 - 1
    assert costs[2] - costs[0] == pytest.approx((3_000 - 5) * 0.01)


@pytest.mark.parametrize(
    ("model", "provider", "is_known"),
    [
        ("gpt-4.1-mini-2025-04-14", "openai", True),
        ("ft:gpt-4.1-mini-2025-04-14:mine::abc", "openai", True),
        ("ft:gpt-4.1-mini-2025-04-14:mine::abc:ckpt-step-8", "openai", True),
        ("ft:gpt-9:mine::abc", "openai", False),
        ("some/model", "crusoe", False),
        ("my-deployment", "azure", False),
        ("anything", "local", True),
    ],
)
def test_a_budget_needs_the_price_of_asking(model: str, provider: str, is_known: bool) -> None:
    with openai.OpenAI(base_url=URL, api_key="x") as client:
        if is_known:
            assert Predictor(client, model, provider=provider, budget=1.0).spent == 0
            return
        with pytest.raises(DataError, match=r"hand in pricing=TokenPricing\(input="):
            Predictor(client, model, provider=provider, budget=1.0)
        assert Predictor(client, model, provider=provider, budget=1.0, pricing=PRICING).spent == 0


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf")])
def test_a_budget_that_is_no_amount_is_refused(budget: float) -> None:
    with openai.OpenAI(base_url=URL, api_key="x") as client, pytest.raises(DataError, match="budget must be"):
        Predictor(client, "m", pricing=PRICING, budget=budget)


def test_a_model_that_does_not_exist_is_raised_with_a_budget_too(run: Run, service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(return_value=refusal(404, code="model_not_found"))
    with pytest.raises(NotFound):
        run(URL, texts(30), budget=100.0)
