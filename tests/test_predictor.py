"""An item becomes a price, or a prediction that says why there is none."""

import csv
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pandas as pd
import pytest
import respx

from finetune_pricer import ChatFormatter, Item, Prediction, Predictions, Predictor
from finetune_pricer.errors import (
    AccessDenied,
    DataError,
    FileAccessError,
    InvalidItem,
    ModelNotFound,
    NotFound,
    ServiceUnavailable,
)
from finetune_pricer.predict import engine
from helpers import answering, asked_for, body_of, completion, priced, refusal, reply

LAMP = Item(id="lamp", title="Lamp", price=20)


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def chat(service: respx.MockRouter) -> respx.Route:
    return service.post("/chat/completions")


def test_the_request_is_the_formatters_prompt_and_the_most_likely_short_reply(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    chat.mock(reply("$20.00"))
    formatter = ChatFormatter("How much?", system="s")
    Predictor(client, "ft:x", formatter=formatter).predict(LAMP)
    sent = body_of(chat.calls.last.request)
    assert (sent.pop("model"), sent.pop("messages")) == ("ft:x", formatter.prompt(LAMP))
    assert sent == {"temperature": 0, "max_tokens": 13, "logprobs": True, "top_logprobs": 20}


@pytest.mark.parametrize(
    "item", [LAMP, Item(id="lamp", title="Lamp"), "Lamp"], ids=["priced", "unpriced", "text"]
)
def test_an_item_or_a_text_gets_a_price(client: openai.OpenAI, chat: respx.Route, item: Item | str) -> None:
    chat.mock(reply("It costs **$1,299.00**"))
    found = Predictor(client, "m").predict(item)
    assert (found.price, found.text, found.error) == (1299.0, "It costs **$1,299.00**", None)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (30, 4)
    assert found.item_id == (item.id if isinstance(item, Item) else Item(title="Lamp").id)
    assert found.latency > 0


def test_a_predictor_is_a_function_from_an_item_to_its_price(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    chat.mock(side_effect=[reply("$20"), reply("no idea")])
    predictor = Predictor(client, "m")
    assert (predictor(LAMP), predictor(LAMP)) == (20.0, None)


UNPRICED: dict[str, tuple[httpx.Response, str | None, str]] = {
    "no price": (reply("I cannot tell"), "I cannot tell", "no price in 'I cannot tell'"),
    "refusal": (reply(None, refusal="I must not"), None, "I must not"),
    "empty": (reply(""), "", "the reply is empty"),
    "blank": (reply(" \n", finish="length"), " \n", "the reply is empty"),
    "null": (reply(None), None, "the reply is empty"),
    "no message": (completion(choices=[{"index": 0, "message": None}]), None, "the reply is empty"),
    "cut": (reply("$1,29", finish="length"), "$1,29", "cut inside a number"),
    "cut at the comma": (reply("$1,", finish="length"), "$1,", "cut inside a number"),
    "foreign": (reply("20 €"), "20 €", "in EUR, not in USD"),
    "another type": (completion(choices=[{"message": {"content": 5}}]), None, "the reply is empty"),
}


@pytest.mark.parametrize(("answer", "text", "error"), UNPRICED.values(), ids=UNPRICED)
def test_a_reply_without_a_price_is_kept_and_says_why(
    client: openai.OpenAI, chat: respx.Route, answer: httpx.Response, text: str | None, error: str
) -> None:
    chat.mock(answer)
    found = Predictor(client, "m").predict(LAMP)
    assert (found.price, found.text) == (None, text)
    assert error in (found.error or "")


def test_a_reply_that_was_cut_after_its_price_is_read(client: openai.OpenAI, chat: respx.Route) -> None:
    chat.mock(reply("$20.00 is what I would", finish="length"))
    assert Predictor(client, "m").predict(LAMP).price == 20.0


@pytest.mark.parametrize("model", [None, ""])
def test_a_model_that_is_not_there_yet_is_refused_at_once(client: openai.OpenAI, model: str | None) -> None:
    with pytest.raises(DataError, match=r"job\.fine_tuned_model is None until job\.wait\(\)"):
        Predictor(client, model)


def test_a_concurrency_below_one_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(DataError, match="at least 1, not 0"):
        Predictor(client, "m", concurrency=0)


def test_an_empty_text_is_refused_before_anything_is_asked(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    with pytest.raises(InvalidItem, match="an empty text"):
        Predictor(client, "m").predict(" ")
    assert not service.calls


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(404, "no such model", code="model_not_found"), ModelNotFound),
        (refusal(401), AccessDenied),
        (refusal(503), ServiceUnavailable),
    ],
)
def test_one_question_that_is_refused_raises(
    client: openai.OpenAI, chat: respx.Route, answer: httpx.Response, kind: type[Exception]
) -> None:
    chat.mock(answer)
    with pytest.raises(kind):
        Predictor(client, "m").predict(LAMP)


def test_the_order_is_kept_when_answers_come_out_of_order(client: openai.OpenAI, chat: respx.Route) -> None:
    last_came = threading.Event()

    def answer(text: str) -> httpx.Response:
        if text == "thing 0":
            assert last_came.wait(5)
        elif text == "thing 3":
            last_came.set()
        return reply(f"${text.rsplit(maxsplit=1)[-1]}")

    chat.mock(side_effect=answering(answer))
    found = Predictor(client, "m", concurrency=4).predict_many(priced(4))
    assert [prediction.price for prediction in found] == [0, 1, 2, 3]
    assert [prediction.item_id for prediction in found] == [item.id for item in priced(4)]


def test_an_item_that_fails_carries_its_error_and_does_not_touch_the_others(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    chat.mock(side_effect=answering(lambda text: refusal(500, "broken") if "1" in text else reply("$5")))
    found = Predictor(client, "m").predict_many([*priced(3), "", "a text"])
    assert [prediction.price for prediction in found] == [5, None, 5, None, 5]
    assert "broken" in (found[1].error or "")
    assert "an empty text" in (found[3].error or "")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(404, code="model_not_found"), ModelNotFound),
        (refusal(404, "The model `m` does not exist.", code=404), NotFound),
        (refusal(403), AccessDenied),
    ],
    ids=["model", "another word for it", "key"],
)
def test_what_no_item_can_survive_raises_soon_when_nothing_was_received(
    client: openai.OpenAI, chat: respx.Route, answer: httpx.Response, kind: type[Exception]
) -> None:
    chat.mock(answer)
    with pytest.raises(kind):
        Predictor(client, "m", concurrency=2).predict_many(priced(100))
    assert chat.call_count <= 8


def test_after_an_answer_such_an_error_is_kept_with_the_items_that_it_struck(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    chat.mock(side_effect=[reply("$5"), *[refusal(404, "gone", code="model_not_found")] * 9])
    found = Predictor(client, "m", concurrency=1).predict_many(priced(10))
    assert [prediction.price for prediction in found] == [5, *[None] * 9]
    assert {prediction.error for prediction in found[1:]} == {"gone"}


def test_no_answer_is_thrown_away_because_the_first_item_was_refused(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    both = threading.Barrier(2, timeout=5)

    def answer(text: str) -> httpx.Response:
        both.wait()
        return refusal(403, "not this one") if text == "thing 0" else reply("$5")

    chat.mock(side_effect=answering(answer))
    found = Predictor(client, "m", concurrency=2).predict_many(priced(2))
    assert [prediction.price for prediction in found] == [None, 5]


def test_items_are_taken_only_a_little_ahead_of_the_answers(client: openai.OpenAI, chat: respx.Route) -> None:
    taken = itertools.count()

    def stream() -> Iterator[Item]:
        for item in priced(1000):
            next(taken)
            yield item

    chat.mock(reply("$5"))
    answers = Predictor(client, "m", concurrency=2).iter_predict(stream())
    assert next(answers).price == 5
    assert next(taken) <= 16
    assert [next(answers).price for _ in range(10)] == [5] * 10
    assert next(taken) <= 16 + 11


def test_stopping_early_asks_nothing_more(client: openai.OpenAI, chat: respx.Route) -> None:
    chat.mock(reply("$5"))
    answers = Predictor(client, "m", concurrency=1).iter_predict(priced(100))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert chat.call_count <= 5


@pytest.mark.parametrize("thing", [None, float("nan"), {"title": "a lamp"}, b"a lamp", "half \ud800"])
def test_a_thing_that_is_no_item_strikes_only_itself(
    client: openai.OpenAI, chat: respx.Route, thing: Any
) -> None:
    chat.mock(reply("$5"))
    items: list[Any] = [LAMP, thing, LAMP]
    found = Predictor(client, "m").predict_many(items)
    assert [prediction.price for prediction in found] == [5, None, 5]
    assert any(why in (found[1].error or "") for why in ("must be an Item or a text", "half a character"))
    with pytest.raises(InvalidItem):
        Predictor(client, "m").predict(thing)


def test_no_items_make_no_predictions(client: openai.OpenAI, service: respx.MockRouter) -> None:
    assert len(Predictor(client, "m").predict_many([])) == 0
    assert not service.calls


MADE = Predictions(
    [
        Prediction(item_id="a", price=5.0, text="$5", latency=0.5),
        Prediction(item_id="b", price=None, text='say "é",\nno', error="no price"),
        Prediction(item_id="c", price=7.0, text="$7"),
    ]
)


def test_predictions_are_a_sequence_whose_slices_are_predictions() -> None:
    assert isinstance(MADE[1:], Predictions)
    assert [prediction.item_id for prediction in MADE[1:]] == ["b", "c"]
    assert (MADE[-1].item_id, len(MADE)) == ("c", 3)
    assert repr(MADE) == "Predictions(3 items, 1 without a price)"


def test_predictions_become_a_frame() -> None:
    frame = MADE.to_frame()
    assert list(frame["item_id"]) == ["a", "b", "c"]
    assert frame["price"].isna().tolist() == [False, True, False]
    assert {"reply", "low", "high", "prompt_tokens", "completion_tokens", "error"} <= set(frame.columns)
    assert list(Predictions([]).to_frame().columns) == list(frame.columns)


def test_predictions_become_a_csv_in_which_a_missing_price_is_an_empty_cell(tmp_path: Path) -> None:
    path = tmp_path / "new" / "priced.csv"
    MADE.to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["price"] for row in rows] == ["5.0", "", "7.0"]
    assert rows[1]["reply"] == 'say "é",\nno'
    assert list(rows[0]) == list(MADE.to_frame().columns)


@pytest.mark.parametrize(
    ("price", "written"),
    [(86.72093963623047, "86.72"), (1199.0, "1199.0"), (0.004, "0.004"), (1e300, "1e+300"), (None, "")],
)
def test_prices_are_written_in_hundredths_unless_they_are_smaller(price: float | None, written: str) -> None:
    predictions = Predictions([Prediction(item_id="a", price=price)])
    predictions.to_csv("prices.csv")
    with Path("prices.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert row["price"] == written
    assert predictions[0].price == price


def test_an_unwritable_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot write"):
        MADE.to_csv(tmp_path)


def test_the_text_of_a_request_is_what_the_helper_takes_it_for(
    client: openai.OpenAI, chat: respx.Route
) -> None:
    chat.mock(reply("$5"))
    Predictor(client, "m").predict("a blue lamp")
    assert asked_for(chat.calls.last.request) == "a blue lamp"


@pytest.mark.parametrize("things", ["a lamp", pd.DataFrame({"title": ["a lamp"]})], ids=["a text", "a frame"])
def test_what_is_no_sequence_of_items_is_refused_before_anything_is_asked(
    client: openai.OpenAI, service: respx.MockRouter, things: Any
) -> None:
    with pytest.raises(DataError, match="items must be items or texts"):
        Predictor(client, "m").predict_many(things)
    assert not service.calls


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (12.345678, 20.001, ("12.34", "20.01")),
        (np.float64(19.99), 19.99, ("19.99", "19.99")),
        (1e300, None, ("1e+300", "")),
        (-1.005, float("inf"), ("-1.01", "inf")),
    ],
)
def test_ends_of_ranges_are_written_in_hundredths_and_never_nearer(
    low: float, high: float | None, written: tuple[str, str]
) -> None:
    predictions = Predictions([Prediction(item_id="a", price=19.99, low=low, high=high)])
    predictions.to_csv("prices.csv")
    with Path("prices.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["low"], row["high"]) == written
    assert predictions.to_frame()["low"][0] == low
