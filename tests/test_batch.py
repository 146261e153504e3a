"""The Batch API: submitted once, found again, merged, and asked again only for what is missing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import respx

from batch_service import Batches, asked, bad, ok, texts
from finetune_pricer import (
    ChatFormatter,
    FineTuneJob,
    Item,
    JsonlWriter,
    MadeUpCatalogue,
    Prediction,
    Predictor,
)
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import JobTimeout, NotSupported, RequestRejected, ServiceUnavailable
from finetune_pricer.local import LocalServer
from finetune_pricer.providers import Provider


@pytest.fixture
def batches(service: respx.MockRouter) -> Batches:
    return Batches(service)


def test_answers_come_back_in_the_order_of_the_items(client: openai.OpenAI, batches: Batches) -> None:
    batches.answer = lambda line: ok(f"${asked(line).split()[-1]}.00")
    run = Predictor(client, "m").predict_batch(texts(20))
    assert run.ids == ("batch_0",)
    assert {found.error for found in run.refresh().predictions()} == {"not answered yet"}
    batches.finish()
    assert [found.price for found in run.wait()] == list(range(20))
    line = batches.lines(0)[0]
    assert (line["method"], line["url"], line["body"]["model"]) == ("POST", "/v1/chat/completions", "m")


def test_the_same_item_twice_is_sent_once(client: openai.OpenAI, batches: Batches) -> None:
    run = Predictor(client, "m").predict_batch(["a mug", "a mug", "a cup"])
    batches.finish()
    assert [found.price for found in run.wait()] == [5, 5, 5]
    assert len(batches.lines(0)) == 2


def test_files_are_split_under_the_limits(client: openai.OpenAI, batches: Batches) -> None:
    few = Provider(name="few", batch_requests=8)
    run = Predictor(client, "m", provider=few).predict_batch(texts(20))
    assert [len(batches.lines(number)) for number in range(3)] == [8, 8, 4]
    small = Provider(name="small", batch_bytes=1_000)
    Predictor(client, "m", provider=small).predict_batch([f"other {number}" for number in range(20)])
    assert all(len(content) <= 1_000 for name, content in list(batches.files.items())[3:])
    batches.finish()
    assert len(run.wait()) == 20


def test_a_run_started_again_finds_its_batches_and_buys_nothing(
    client: openai.OpenAI, batches: Batches
) -> None:
    first = Predictor(client, "m").predict_batch(texts(5))
    assert Predictor(client, "m").predict_batch(texts(5)).ids == first.ids
    batches.finish()
    assert [found.price for found in Predictor(client, "m").predict_batch(texts(5)).wait()] == [5] * 5
    assert len(batches.batches) == 1


def test_a_create_whose_answer_was_lost_is_found_and_not_repeated(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.outcomes = ["made and lost"]
    run = Predictor(client, "m").predict_batch(texts(5))
    assert run.ids == ("batch_0",)
    assert len(batches.batches) == 1


def test_what_is_missing_or_expired_is_asked_again_and_nothing_else(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    expired = {"response": None, "error": {"code": "batch_expired", "message": "Too late."}}
    first_time: dict[str, dict[str, Any] | None] = {"1": None, "2": expired, "3": bad(500, "Oh no.")}
    batches.answer = lambda line: first_time.get(asked(line).split()[-1], ok("$5.00"))
    run = Predictor(client, "m").predict_batch(texts(6))

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        batches.answer = lambda _: ok("$7.00")
        batches.finish()

    batches.finish("expired")
    assert [found.price for found in run.wait(sleep=sleep)] == [5, 7, 7, 7, 5, 5]
    assert [len(batches.lines(number)) for number in range(2)] == [6, 3]
    assert len(naps) == 1


def test_an_item_that_cannot_be_asked_about_strikes_only_itself(
    client: openai.OpenAI, batches: Batches
) -> None:
    class Picky(ChatFormatter):
        def prompt(self, item: Item | str) -> list[dict[str, str]]:
            if "1" in str(item):
                raise KeyError("no such field")
            return super().prompt(item)

    run = Predictor(client, "m", formatter=Picky()).predict_batch(texts(3))
    batches.finish()
    found = run.wait(sleep=lambda _: None)
    assert [each.price for each in found] == [5, None, 5]
    assert found[1].error == "KeyError: 'no such field'"


def test_what_is_never_answered_ends_as_an_error_after_three_batches(
    client: openai.OpenAI, batches: Batches
) -> None:
    batches.answer = lambda line: None if "number 1" in asked(line) else ok("$5.00")
    run = Predictor(client, "m").predict_batch(texts(3))
    found = run.wait(sleep=lambda _: batches.finish())
    assert [each.price for each in found] == [5, None, 5]
    assert "no answer in 3 batches" in (found[1].error or "")
    assert len(batches.batches) == 3


def test_a_refused_line_is_its_items_error(client: openai.OpenAI, batches: Batches) -> None:
    batches.answer = lambda line: bad(400, "Too long.") if "number 1" in asked(line) else ok("$5.00")
    run = Predictor(client, "m").predict_batch(texts(3))
    batches.finish()
    found = run.wait()
    assert [(each.price, each.error) for each in found] == [(5, None), (None, "Too long."), (5, None)]


def test_a_refusal_of_token_probabilities_is_learned_and_asked_otherwise(
    client: openai.OpenAI, batches: Batches
) -> None:
    def reply(line: dict[str, Any]) -> dict[str, Any]:
        return bad(400, "No.", "logprobs") if "logprobs" in line["body"] else ok("$5.00")

    batches.answer = reply
    run = Predictor(client, "m").predict_batch(texts(3))
    assert [each.price for each in run.wait(sleep=lambda _: batches.finish())] == [5, 5, 5]
    assert len(batches.batches) == 2


def test_kept_answers_are_not_asked_and_answers_are_kept(client: openai.OpenAI, batches: Batches) -> None:
    run = Predictor(client, "m", store="kept.sqlite").predict_batch(texts(3))
    batches.finish()
    run.wait()
    again = Predictor(client, "m", store="kept.sqlite").predict_batch(texts(4))
    assert len(batches.lines(1)) == 1
    batches.finish()
    assert [found.price for found in again.wait()] == [5] * 4
    assert list(Predictor(client, "m", store="kept.sqlite").predict_batch(texts(4)).wait()) == list(
        again.wait()
    )
    assert len(batches.batches) == 2


def test_waiting_ends_at_its_time_and_survives_a_service_that_is_away(
    client: openai.OpenAI, batches: Batches, naps: list[float]
) -> None:
    run = Predictor(client, "m").predict_batch(texts(3))
    with pytest.raises(JobTimeout, match="predict_batch with the same items"):
        run.wait(timeout=100, sleep=naps.append)
    assert sum(naps) == pytest.approx(100)
    batches.away = True
    with pytest.raises(JobTimeout):
        run.wait(timeout=10, sleep=naps.append)
    with pytest.raises(ServiceUnavailable):
        run.refresh()


def test_a_batch_that_is_not_accepted_says_why(client: openai.OpenAI, batches: Batches) -> None:
    run = Predictor(client, "m").predict_batch(texts(3))
    batches.batches[0] |= {"status": "failed", "errors": {"data": [{"message": "Token limit.", "code": "x"}]}}
    with pytest.raises(RequestRejected, match=r"batch_0.*Token limit"):
        run.wait()


def test_a_cancelled_run_is_cancelled_at_the_service(client: openai.OpenAI, batches: Batches) -> None:
    run = Predictor(client, "m").predict_batch(texts(3)).cancel()
    assert batches.batches[0]["status"] == "cancelled"
    assert all(found.price is None for found in run.refresh().predictions())


def test_a_service_without_a_batch_api_is_not_asked(service: respx.MockRouter) -> None:
    with (
        openai.OpenAI(base_url="https://api.intelligence.crusoecloud.com/v1", api_key="x") as crusoe,
        pytest.raises(NotSupported, match="'crusoe' has no Batch API; ask with predict_many"),
    ):
        Predictor(crusoe, "m").predict_batch(["a mug"])


def test_zero_items_ask_for_nothing(client: openai.OpenAI, batches: Batches) -> None:
    assert len(Predictor(client, "m").predict_batch([]).wait()) == 0
    assert not batches.batches


def test_samples_are_bought_in_a_second_batch_for_items_without_evidence(
    client: openai.OpenAI, batches: Batches
) -> None:
    run = Predictor(client, "m", samples=3).predict_batch(texts(2))
    found = run.wait(sleep=lambda _: batches.finish())
    assert [each.price for each in found] == [5, 5]
    assert [line["body"].get("n") for line in batches.lines(1)] == [3, 3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, str]]:
    path = tmp_path_factory.mktemp("batch") / "train.jsonl"
    with LocalServer() as server, server.client() as client:
        train = MadeUpCatalogue().items(300)
        job = FineTuneJob.create(client, JsonlWriter().write(train, path), model="pricer-base").wait()
        assert job.fine_tuned_model
        yield server, job.fine_tuned_model


def essence(found: Prediction) -> tuple[object, ...]:
    return found.item_id, found.price, found.text, found.decoding, found.distribution


def test_a_batch_gives_what_asking_one_by_one_gives(trained: tuple[LocalServer, str]) -> None:
    server, model = trained
    items = list(MadeUpCatalogue(seed=2).items(50))

    async def by_async() -> list[Prediction]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x") as client:
            run = await AsyncPredictor(client, model).predict_batch(items)
            return list(await run.wait(sleep=lambda _: asyncio.sleep(0.05)))

    with server.client() as client:
        predictor = Predictor(client, model)
        one_by_one = list(map(essence, predictor.predict_many(items)))
        batch = predictor.predict_batch(items)
        assert list(map(essence, batch.wait())) == one_by_one
        assert list(map(essence, asyncio.run(by_async()))) == one_by_one
        assert len(client.batches.list().data) == 1
