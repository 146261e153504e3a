"""One currency from the items to the report, and prices of 0 that nobody explained."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import respx

from finetune_pricer import (
    ChatFormatter,
    Evaluation,
    Evaluator,
    FineTuneJob,
    Item,
    ItemDataset,
    JsonlWriter,
    Leaderboard,
    Prediction,
    Predictor,
    audit,
    best_checkpoint,
    check_jsonl,
    compare,
    forecast,
)
from finetune_pricer.errors import DataError, InvalidItem
from finetune_pricer.evaluate import MedianBaseline, choose
from finetune_pricer.evaluate.report.content import difference_table
from finetune_pricer.predict import Ranges
from finetune_pricer.prices import parse_price
from finetune_pricer.tune import JobRecord
from helpers import reply


def shop(count: int = 40, *, currency: str = "EUR") -> ItemDataset:
    """Items of a shop that has its prices in euros."""
    rows = [
        {"id": n, "title": f"Lampe aus Messing {n}", "price": 10 + n % 7, "category": "ab"[n % 2]}
        for n in range(count)
    ]
    return ItemDataset.from_records(rows, currency=currency)


def evaluated(error: float, name: str, *, currency: str = "EUR", begin: int = 0) -> Evaluation:
    items = shop(currency=currency)
    return Evaluator(baselines=items, rounds=50).evaluate(
        lambda item: (item.price or 0) + error * (1 + (begin + int(item.id)) % 3), items, name=name
    )


def silent() -> Evaluation:
    """A model that gives no price for every third item."""
    items = shop()
    return Evaluator(baselines=items, rounds=50).evaluate(
        lambda item: (item.price or 0) + 2 if int(item.id) % 3 else None, items, name="silent"
    )


def priced() -> Ranges:
    """Price ranges by bands of prices."""
    items = shop()
    answers = [Prediction(item_id=item.id, price=item.price, currency="EUR") for item in items]
    return Ranges.learn(answers, items, by="price")


RENDERED: dict[str, Callable[[], Any]] = {
    "an evaluation": lambda: evaluated(1, "a"),
    "its page in a notebook": lambda: evaluated(1, "a")._repr_html_(),
    "Markdown": lambda: evaluated(1, "a").to_markdown(),
    "a model card": lambda: evaluated(1, "a").model_card(),
    "a comparison": lambda: compare(evaluated(1, "a"), evaluated(3, "b")),
    "models that are alike": lambda: compare(evaluated(1, "a"), evaluated(1, "b", begin=1)),
    "a silent model": silent,
    "a silent model's Markdown": lambda: silent().to_markdown(),
    "a leaderboard with gaps": lambda: Leaderboard([silent(), evaluated(3, "b")]),
    "a comparison's table": lambda: difference_table([compare(silent(), evaluated(3, "b"))]),
    "a choice": lambda: choose([evaluated(1, "a"), evaluated(3, "b")], rounds=50),
    "price ranges": priced,
    "a leaderboard": lambda: Leaderboard([evaluated(1, "a"), evaluated(3, "b")]),
    "a forecast": lambda: forecast(
        {size: evaluated(9 / n, "a") for n, size in enumerate((100, 400, 1600), 1)}
    ),
    "the next rung": lambda: forecast(
        {size: evaluated(9 / n, "a") for n, size in enumerate((100, 400, 1600), 1)}
    ).next_rung(3200),
    "a description": lambda: shop().describe(),
    "an audit": lambda: audit(
        ItemDataset.from_items([Item(title="Lampe, nur 45,00 €", price=45)], currency="EUR")
    ),
    "a scatter plot": lambda: evaluated(1, "a").figure("scatter").to_json(),
    "bands": lambda: evaluated(1, "a").figure("bands").to_json(),
    "categories": lambda: evaluated(1, "a").figure("categories").to_json(),
    "calibration": lambda: evaluated(1, "a").figure("calibration").to_json(),
    "running": lambda: evaluated(1, "a").figure("running").to_json(),
}


@pytest.mark.parametrize("render", RENDERED.values(), ids=RENDERED)
def test_whatever_is_shown_of_euros_has_their_mark(render: Callable[[], Any]) -> None:
    shown = str(render())
    # Costs are the service's, which charges dollars; none are known here.
    assert "€" in shown or "\\u20ac" in shown
    assert not re.search(r"\$[\d%)]", shown)


def test_a_report_of_euros_is_saved_and_loaded_as_one(tmp_path: Path) -> None:
    evaluation = evaluated(1, "a")
    evaluation.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"<b>€{evaluation.mae.value:.2f}</b> off on average" in page
    evaluation.save(tmp_path / "a.json")
    assert str(Evaluation.load(tmp_path / "a.json")) == str(evaluation)
    assert str(evaluation).startswith("MAE €")


def test_a_currency_without_a_mark_is_written_by_its_code() -> None:
    assert str(evaluated(1, "a", currency="CHF")).startswith("MAE CHF ")


def test_texts_are_scored_in_the_items_currency() -> None:
    items = shop(3)
    evaluation = Evaluator().score(items, ["10,00 €", "EUR 11", "$12"])
    assert [record.price for record in evaluation.records] == [10.0, 11.0, None]


def formatter(currency: str) -> ChatFormatter:
    return ChatFormatter(currency=currency)


def test_a_formatter_writes_and_reads_its_currencys_mark(tmp_path: Path) -> None:
    written = JsonlWriter(formatter("EUR")).write(shop(), tmp_path / "a.jsonl")
    assert '"content":"€10.00"' in written.path.read_text("utf-8")
    assert written.currency == "EUR"
    assert check_jsonl(written).ok
    assert formatter("EUR").read("€10.00") == 10
    assert formatter("CHF").example(Item(title="x", price=5))[-1]["content"] == "CHF 5.00"
    # A reply in dollars is none in euros, however plain it looks.
    assert "price" in {problem.code for problem in check_jsonl_of_dollars(tmp_path).problems}


def check_jsonl_of_dollars(folder: Path) -> Any:
    written = JsonlWriter().write(shop(currency="USD"), folder / "dollars.jsonl")
    return check_jsonl(written.path, currency="EUR")


def calibrated(client: openai.OpenAI) -> None:
    Predictor(client, "ft:x").calibrate(shop())


REFUSED: dict[str, Callable[[openai.OpenAI], Any]] = {
    "writing": lambda _: JsonlWriter().write(shop(), "a.jsonl"),
    "checking": lambda _: check_jsonl(JsonlWriter(formatter("EUR")).write(shop(), "b.jsonl"), currency="USD"),
    "asking": lambda client: Predictor(client, "ft:x").predict_many(shop()),
    "asking by batch": lambda client: Predictor(client, "ft:x").predict_batch(shop()),
    "calibrating": calibrated,
    "evaluating a predictor": lambda client: Evaluator().evaluate(Predictor(client, "ft:x"), shop()),
    "evaluating in another": lambda _: Evaluator(currency="USD").score(shop(), [1.0] * 40),
    "baselines": lambda _: Evaluator(baselines=shop(currency="USD")).score(shop(), [1.0] * 40),
    "auditing": lambda _: audit(shop(), currency="USD"),
    "auditing two": lambda _: audit(shop(), test=shop(currency="USD")),
    "comparing": lambda _: compare(evaluated(1, "a"), evaluated(3, "b", currency="USD")),
    "comparing two of one name": lambda _: compare(evaluated(1, "a"), evaluated(3, "a", currency="USD")),
    "ranking": lambda _: Leaderboard([evaluated(1, "a"), evaluated(3, "b", currency="USD")]),
    "choosing": lambda _: choose([evaluated(1, "a"), evaluated(3, "b", currency="USD")]),
    "testing the chosen one": lambda _: choose(
        [evaluated(1, "a")], test=evaluated(1, "a", currency="USD"), rounds=50
    ),
    "choosing a checkpoint": lambda client: best_checkpoint(
        FineTuneJob(client, JobRecord(id="ftjob-1", status="succeeded")),
        shop(),
        baselines=shop(currency="USD"),
    ),
}


@pytest.mark.parametrize("step", REFUSED.values(), ids=REFUSED)
def test_two_currencies_are_refused_before_anything_is_asked_or_written(
    client: openai.OpenAI, step: Callable[[openai.OpenAI], Any]
) -> None:
    with pytest.raises(DataError, match=r"are in (EUR|USD) and .* in (EUR|USD); nothing is converted"):
        step(client)
    assert not Path("a.jsonl").exists()


def test_euros_are_asked_for_and_read(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(reply("€20.00"))
    predictor = Predictor(client, "ft:x", formatter=formatter("EUR"))
    assert {prediction.price for prediction in predictor.predict_many(shop(3))} == {20.0}


def zeros(**said: Any) -> ItemDataset:
    rows = [{"title": f"Lamp {n}", "price": float(n % 20)} for n in range(40)]
    return ItemDataset.from_records(rows, **said)


TAUGHT: dict[str, Callable[[Any, openai.OpenAI], Any]] = {
    "writing": lambda items, _: JsonlWriter().write(items, "a.jsonl"),
    "calibrating": lambda items, client: Predictor(client, "ft:x").calibrate(items),
    "a baseline": lambda items, _: MedianBaseline.fit(items),
}


@pytest.mark.parametrize("step", TAUGHT.values(), ids=TAUGHT)
def test_a_price_of_0_that_nobody_explained_is_not_taught(
    client: openai.OpenAI, service: respx.MockRouter, step: Callable[[Any, openai.OpenAI], Any]
) -> None:
    service.post("/chat/completions").mock(reply("$20.00"))
    with pytest.raises(InvalidItem, match=r"(?s)row 1.*has a price of 0.*zero_is='price'.*zero_is='unknown'"):
        step(zeros(), client)
    with pytest.raises(InvalidItem, match="price of 0"):
        step(list(zeros()), client)
    assert not Path("a.jsonl").exists()
    step(zeros(zero_is="price"), client)


def test_an_evaluation_on_prices_of_0_tells_their_rows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "finetune_pricer"):
        evaluation = Evaluator(rounds=20).score(zeros(), [1.0] * 40)
    told = r"2 of the items have a price of 0 \(rows 1, 21\): read them with zero_is='unknown'"
    assert re.match(told, evaluation.manifest["prices of 0"])
    assert re.search(told, caplog.text)
    explained = Evaluator(rounds=20).score(zeros(zero_is="price"), [1.0] * 40)
    assert "prices of 0" not in explained.manifest


def test_items_of_which_nobody_named_the_currency_are_in_whichever_somebody_names(tmp_path: Path) -> None:
    items = ItemDataset.from_items([Item(title="Fan Rs. 1,299/- only", price=1299)] * 2)
    assert items.currency == "USD"
    assert not audit(items, currency="INR").ok
    rupees = ChatFormatter(currency="INR")
    assert JsonlWriter(rupees).write(items, tmp_path / "train.jsonl").currency == "INR"

    items.to_parquet(tmp_path / "items.parquet")
    again = ItemDataset.from_file(tmp_path / "items.parquet")
    assert JsonlWriter(rupees).write(again[:1] + items, tmp_path / "train.jsonl").currency == "INR"

    dollars = ItemDataset.from_items(items, currency="USD")
    assert dollars == items
    with pytest.raises(DataError, match="in USD and those of currency= in INR"):
        audit(items + dollars, currency="INR")


def test_ranges_are_learned_from_prices_of_one_currency() -> None:
    items = [Item(id=str(n), title=f"Lamp {n}", price=n + 1) for n in range(20)]
    pounds = [Prediction(item_id=item.id, price=item.price, currency="GBP") for item in items]
    assert Ranges.learn(pounds, items).currency == "GBP"
    assert Ranges.learn(pounds, ItemDataset.from_items(items, currency="GBP")).currency == "GBP"
    unnamed = [Prediction(item_id=item.id, price=item.price) for item in items]
    assert Ranges.learn(unnamed, ItemDataset.from_items(items, currency="EUR")).currency == "EUR"
    with pytest.raises(DataError, match="the items are in EUR and those of the predictions in GBP"):
        Ranges.learn(pounds, ItemDataset.from_items(items, currency="EUR"))


@pytest.mark.parametrize("currency", ["XYZ", "eur", "", "EURO"])
@pytest.mark.parametrize(
    "name",
    [
        lambda code: ItemDataset.from_items([], currency=code),
        lambda code: ItemDataset.from_records([{"title": "a", "price": 1}], currency=code),
        lambda code: ChatFormatter(currency=code),
        lambda code: Evaluator(currency=code),
        lambda code: parse_price("twenty", code),
    ],
)
def test_what_is_no_code_of_a_currency_is_refused_by_every_door(
    name: Callable[[str], Any], currency: str
) -> None:
    with pytest.raises(DataError, match="currency must be an ISO code"):
        name(currency)
