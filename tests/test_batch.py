"""The Batch API: submitted once, found again, merged, and asked again only for what is missing."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, Prediction, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import JobTimeout, NotSupported, RequestRejected, ServiceUnavailable
from finetune_pricer.local import LocalServer
from finetune_pricer.providers import Provider


class Batches:
    """A Batch API that respx answers for: keeps files and batches, and answers when told to."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: ok("$5.00")
        self.away = False
        self.headers: dict[str, str] = {}
        """What it says while it is away."""
        self.lost = ""
        """A file or a batch that is not there any more."""
        self.after: Callable[[], httpx.Response | None] = lambda: None
        router.post("/files").mock(side_effect=self.upload)
        router.get(url__regex=r"/files/(?P<name>[^/]+)/content").mock(side_effect=self.content)
        router.post("/batches").mock(side_effect=self.create)
        router.get(url__regex=r"/batches/(?P<name>[^/?]+)$").mock(side_effect=self.retrieve)
        router.get(url__regex=r"/batches(\?.*)?$").mock(side_effect=self.page)
        router.post(url__regex=r"/batches/(?P<name>[^/]+)/cancel").mock(side_effect=self.cancel)

    def upload(self, request: httpx.Request) -> httpx.Response:
        name = f"file-{len(self.files)}"
        content = request.read()
        found = re.search(rb"application/\S+\r\n\r\n(.*?)\r\n--", content, re.DOTALL)
        assert found
        self.files[name] = found[1]
        return httpx.Response(200, json={"id": name, "object": "file"})

    def content(self, _: httpx.Request, name: str) -> httpx.Response:
        if name == self.lost:
            return httpx.Response(404, json={"error": {"message": "No such file."}})
        return httpx.Response(200, content=self.files[name])

    def create(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        made = {"id": f"batch_{len(self.batches)}", "status": "in_progress", "metadata": body["metadata"]}
        self.batches.append(made | {"input_file_id": body["input_file_id"]})
        return self.after() or httpx.Response(200, json=made)

    def page(self, _: httpx.Request) -> httpx.Response:
        data = self.batches[::-1]
        return httpx.Response(200, json={"object": "list", "data": data, "has_more": False, "last_id": None})

    def retrieve(self, _: httpx.Request, name: str) -> httpx.Response:
        if self.away:
            return httpx.Response(503, json={}, headers=self.headers)
        if name == self.lost:
            return httpx.Response(404, json={"error": {"message": "No batch found."}})
        return httpx.Response(200, json=self.batches[int(name[6:])])

    def cancel(self, _: httpx.Request, name: str) -> httpx.Response:
        self.batches[int(name[6:])]["status"] = "cancelled"
        return httpx.Response(200, json=self.batches[int(name[6:])])

    def lines(self, number: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[self.batches[number]["input_file_id"]].splitlines()]

    def finish(self, status: str = "completed") -> None:
        for number, batch in enumerate(self.batches):
            if batch["status"] != "in_progress":
                continue
            output: list[Any] = []
            errors: list[Any] = []
            for line in self.lines(number):
                row = self.answer(line)
                if row is not None:
                    (output if row.get("response") else errors).append({"custom_id": line["custom_id"]} | row)
            batch["status"] = status
            for name, rows in (("output_file_id", output), ("error_file_id", errors)):
                batch[name] = f"{name}-{number}"
                self.files[batch[name]] = "\n".join(map(json.dumps, reversed(rows))).encode()


def ok(reply: str) -> dict[str, Any]:
    body = {"choices": [{"message": {"content": reply}, "finish_reason": "stop"}]}
    return {"response": {"status_code": 200, "body": body}, "error": None}


def bad(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    return {"response": {"status_code": status, "body": {"error": {"message": message, "param": param}}}}


def asked(line: dict[str, Any]) -> str:
    text: str = line["body"]["messages"][-1]["content"]
    return text


@pytest.fixture
def batches(service: respx.MockRouter) -> Batches:
    return Batches(service)


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


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
    batches.after = lambda: httpx.Response(502, json={})
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
