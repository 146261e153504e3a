"""Answers kept on disk: a run that was killed goes on where it was, and asks for nothing twice."""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import respx

from finetune_pricer import ChatFormatter, Item, KeptAnswers, Predictor
from finetune_pricer.aio import AsyncPredictor
from finetune_pricer.errors import FileAccessError
from finetune_pricer.predict import engine
from stub_service import Behaviour, StubService

KEY = "sk-secret-of-mine"
ROOT = Path(__file__).parents[1]
DOCUMENTED_QUERY = "SELECT item_id, reply FROM answers WHERE model = 'm' ORDER BY received_at"


@pytest.fixture
def stub() -> Iterator[StubService]:
    with StubService() as service:
        yield service


@pytest.fixture
def asking(stub: StubService) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stub.url, api_key=KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FIRST_PAUSE", 0.001)


def texts(count: int) -> list[str]:
    return [f"thing number {number}" for number in range(count)]


def test_what_was_answered_is_not_asked_again(stub: StubService, asking: openai.OpenAI) -> None:
    first = Predictor(asking, "m", store="kept.sqlite").predict_many(texts(30))
    again = Predictor(asking, "m", store="kept.sqlite").predict_many(texts(40))
    assert list(again[:30]) == list(first)
    assert stub.stats()["asked"] == 40


def test_one_item_at_a_time_and_async_use_the_same_answers(stub: StubService, asking: openai.OpenAI) -> None:
    one = Predictor(asking, "m", store="kept.sqlite").predict("a mug")

    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=stub.url, api_key=KEY) as client:
            predictor = AsyncPredictor(client, "m", store="kept.sqlite")
            return await predictor.predict("a mug"), list(await predictor.predict_many(["a mug"]))

    assert asyncio.run(run()) == (one, [one])
    assert Predictor(asking, "m", store="kept.sqlite").predict("a mug") == one
    assert stub.sent == 1


def test_the_same_item_twice_is_asked_once(stub: StubService, asking: openai.OpenAI) -> None:
    items = [Item(title="a mug", id="1"), Item(title="a mug", id="2"), *[Item(title="a cup")] * 20]
    found = Predictor(asking, "m", store="kept.sqlite").predict_many(items)
    assert [prediction.item_id for prediction in found[:2]] == ["1", "2"]
    assert found[0].price == found[1].price is not None
    assert len({prediction.price for prediction in found[2:]}) == 1
    assert stub.sent == 2


@pytest.mark.parametrize(
    "other",
    [
        {"model": "another"},
        {"formatter": ChatFormatter("How much?")},
        {"decoding": "greedy"},
        {"decoding": "median", "samples": 3},
        {"highest": 500},
    ],
    ids=str,
)
def test_other_models_words_and_parameters_are_other_questions(
    other: dict[str, Any], stub: StubService, asking: openai.OpenAI
) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict("a mug")
    Predictor(asking, **({"model": "m", "store": "kept.sqlite"} | other)).predict("a mug")
    assert stub.sent == 2


def test_what_a_service_calls_its_parameters_is_no_other_question(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    """A refusal that was learned from in one run costs the next run no answer."""

    def reply(request: httpx.Request) -> httpx.Response:
        if b'"max_tokens"' in request.content:
            return httpx.Response(400, json={"error": {"message": "No.", "param": "max_tokens"}})
        return httpx.Response(200, json={"choices": [{"message": {"content": "$5.00"}}]})

    route = service.post("/chat/completions").mock(side_effect=reply)
    assert Predictor(client, "m", store="kept.sqlite").predict("a mug").price == 5
    assert Predictor(client, "m", store="kept.sqlite").predict("a mug").price == 5
    assert len(route.calls) == 2


def test_failures_are_not_kept(client: openai.OpenAI, service: respx.MockRouter) -> None:
    route = service.post("/chat/completions")
    route.mock(return_value=httpx.Response(400, json={"error": {"message": "Not now."}}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price is None
    route.mock(return_value=httpx.Response(200, json={"choices": []}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price is None
    route.mock(return_value=httpx.Response(200, json={"choices": [{"message": {"content": "$5.00"}}]}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price == 5


UNREAL = {
    "cut before it began": {"message": {"content": None}, "finish_reason": "length"},
    "cut inside the number": {"message": {"content": "$1,2"}, "finish_reason": "length"},
    "filtered": {"message": {"content": ""}, "finish_reason": "content_filter"},
    "filtered after a number": {"message": {"content": "$12"}, "finish_reason": "content_filter"},
    "empty": {"message": {"content": ""}, "finish_reason": "stop"},
}


@pytest.mark.parametrize("case", UNREAL)
def test_what_is_cut_filtered_or_empty_is_asked_for_again_in_another_run(
    case: str, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions")
    route.mock(return_value=httpx.Response(200, json={"choices": [UNREAL[case]]}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price is None
    with KeptAnswers("kept.sqlite") as kept:
        assert len(kept) == 0
    route.mock(return_value=httpx.Response(200, json={"choices": [{"message": {"content": "$5.00"}}]}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price == 5


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "I cannot tell."}, "finish_reason": "stop"},
        {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"},
        {"message": {"content": "$20.00 is what I would"}, "finish_reason": "length"},
    ],
    ids=["no price", "a refusal", "cut after the price"],
)
def test_a_whole_reply_and_a_price_are_not_bought_again(
    choice: Any, client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(
        return_value=httpx.Response(200, json={"choices": [choice]})
    )
    for _ in range(2):
        Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])
    assert route.call_count == 1


def test_a_store_that_holds_what_is_no_answer_heals(stub: StubService, asking: openai.OpenAI) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict("a mug")
    cut = json.dumps({"choices": [UNREAL["cut before it began"]]}).encode()
    with sqlite3.connect("kept.sqlite") as database:
        database.execute("UPDATE answers SET answer = ?", (zlib.compress(cut),))
    database.close()
    for _ in range(2):
        assert Predictor(asking, "m", store="kept.sqlite").predict("a mug").price is not None
    assert stub.sent == 2


def test_kept_answers_are_read_by_one_query_and_as_a_frame(asking: openai.OpenAI) -> None:
    items = [Item(title=text, id=str(number)) for number, text in enumerate(texts(5))]
    found = Predictor(asking, "m", store="kept.sqlite").predict_many(items)
    database = sqlite3.connect("kept.sqlite")
    rows = dict(database.execute(DOCUMENTED_QUERY).fetchall())
    database.close()
    assert rows == {prediction.item_id: prediction.text for prediction in found}
    with KeptAnswers("kept.sqlite") as kept:
        frame = kept.to_frame()
        assert len(kept) == len(frame) == 5
    assert list(frame["prompt_tokens"]) == [100] * 5
    assert frame["received_at"].dt.tz is not None


def test_no_key_and_no_prompt_is_kept(asking: openai.OpenAI) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict_many(["a very secret mug"])
    written = b"".join(path.read_bytes() for path in Path().glob("kept.sqlite*"))
    assert b"secret" not in written


def test_a_store_that_cannot_be_opened_is_said_before_anything_is_asked(asking: openai.OpenAI) -> None:
    Path("folder").mkdir()
    with pytest.raises(FileAccessError, match="folder"):
        Predictor(asking, "m", store="folder")


def test_an_answer_that_cannot_be_read_any_more_is_asked_for_again(
    stub: StubService, asking: openai.OpenAI
) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict_many(texts(3))
    with sqlite3.connect("kept.sqlite") as database:
        database.execute("UPDATE answers SET answer = x'00' WHERE key = (SELECT min(key) FROM answers)")
    database.close()
    for _ in range(2):
        found = Predictor(asking, "m", store="kept.sqlite").predict_many(texts(3))
        assert all(prediction.price is not None for prediction in found)
    assert stub.sent == 4


@pytest.mark.parametrize(
    "damage",
    [
        "answer = 'text'",
        "answer = '[1, 2]'",
        "answer = 7",
        "answer = x''",
        "answer = zeroblob(1000000)",
        "latency = 'soon'",
        "latency = -1",
        "received_at = 'once'",
    ],
)
def test_a_row_that_somebody_has_edited_ends_no_run(
    damage: str, stub: StubService, asking: openai.OpenAI
) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict_many(texts(3))
    with sqlite3.connect("kept.sqlite") as database:
        database.execute(f"UPDATE answers SET {damage} WHERE key = (SELECT min(key) FROM answers)")
    database.close()
    found = Predictor(asking, "m", store="kept.sqlite").predict_many(texts(3))
    assert all(prediction.price is not None for prediction in found)
    assert stub.sent == (3 if "received" in damage else 4)


@pytest.mark.parametrize("kept", [[1, 2], {"choices": 3}, {}, None, "text"])
def test_a_row_that_holds_no_answer_is_asked_for_again(
    kept: Any, stub: StubService, asking: openai.OpenAI
) -> None:
    Predictor(asking, "m", store="kept.sqlite").predict("a mug")
    with sqlite3.connect("kept.sqlite") as database:
        database.execute("UPDATE answers SET answer = ?", (zlib.compress(json.dumps(kept).encode()),))
    database.close()
    assert Predictor(asking, "m", store="kept.sqlite").predict("a mug").price is not None
    assert stub.sent == 2


CHILD = """
import sys, openai
from finetune_pricer import Predictor
url, count, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with openai.OpenAI(base_url=url, api_key="x") as client:
    predictor = Predictor(client, "m", store="kept.sqlite", concurrency=concurrency)
    found = predictor.predict_many(f"thing number {number}" for number in range(count))
print(sum(prediction.price is not None for prediction in found))
"""


def survive(stub: StubService, *, count: int, concurrency: int, kills: int, seed: int) -> None:
    """Kill the run at random instants of its asking, and let it end the last time."""
    command = [sys.executable, "-c", CHILD, stub.url, str(count), str(concurrency)]
    random_ = random.Random(seed)
    for kill in range(kills):
        goal = stub.sent + random_.randint(1, max(1, (count - stub.answered.total()) // (kills - kill)))
        process = subprocess.Popen(command)
        while stub.sent < goal and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == count
    assert len(stub.answered) == count
    print(f"{kills} kills, {stub.stats()}")
    assert stub.stats()["answered_again"] <= kills * concurrency


def test_a_killed_run_goes_on_where_it_was() -> None:
    with StubService(Behaviour(latency=0.01)) as stub:
        survive(stub, count=200, concurrency=4, kills=3, seed=1)


@pytest.mark.acceptance
def test_a_run_of_2000_items_killed_20_times_repeats_at_most_what_was_under_way() -> None:
    with StubService(Behaviour(latency=0.05, errors=0.02)) as stub:
        survive(stub, count=2_000, concurrency=16, kills=20, seed=2)


LEAVING = """
import sys, openai
from finetune_pricer import Predictor
client = openai.OpenAI(base_url=sys.argv[1], api_key="x")
predictor = Predictor(client, "m", store="kept.sqlite", concurrency=8)
stream = predictor.iter_predict(f"thing number {number}" for number in range(int(sys.argv[2])))
print(next(stream).price)
"""


@pytest.mark.parametrize("count", [3, 2_000])
def test_a_program_that_leaves_a_stream_half_read_ends_and_keeps_what_was_answered(count: int) -> None:
    command = [sys.executable, "-c", LEAVING]
    with StubService(Behaviour(latency=0.05)) as stub:
        command += [stub.url, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert not done.stderr
        assert 1 <= stub.answered.total() == stub.sent < 200
        database = sqlite3.connect("kept.sqlite")
        assert database.execute("SELECT count(*) FROM answers").fetchone()[0] == stub.sent
        database.close()


def test_an_answer_is_on_disk_before_its_prediction_is_given(asking: openai.OpenAI) -> None:
    predictor = Predictor(asking, "m", store="kept.sqlite")
    for number, _ in enumerate(predictor.iter_predict(texts(50)), start=1):
        database = sqlite3.connect("kept.sqlite")
        kept = database.execute("SELECT count(*) FROM answers").fetchone()[0]
        database.close()
        assert kept >= number


def test_a_repeated_fault_is_asked_again_in_the_next_run(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    route = service.post("/chat/completions").mock(return_value=httpx.Response(500, json={}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug", "a mug"])[1].price is None
    route.mock(return_value=httpx.Response(200, json={"choices": [{"message": {"content": "$5.00"}}]}))
    assert Predictor(client, "m", store="kept.sqlite").predict_many(["a mug"])[0].price == 5
