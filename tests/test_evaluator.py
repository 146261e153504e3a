"""Predictions become evidence, and what cannot be scored is counted."""

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
import respx

from finetune_pricer import Evaluator, Item, ItemDataset, Prediction, Predictions, Predictor
from finetune_pricer.errors import EvaluationError, InvalidItem, ModelNotFound
from finetune_pricer.evaluate import Metric
from helpers import answering, priced, refusal, reply

ITEMS = priced(10, first=100.0)


def off_by(dollars: float) -> Callable[[Item], float]:
    return lambda item: (item.price or 0) + dollars


def test_the_line_says_error_interval_number_and_unscored() -> None:
    evaluation = Evaluator().evaluate(off_by(5), ITEMS)
    assert str(evaluation) == "MAE $5.00 (95% CI 5.00 to 5.00, too short), n=10, 0 unscored"


def test_the_line_has_the_form_of_the_documentation() -> None:
    metric = Metric(value=67.75, low=53.6, high=82.4, n=200)
    assert f"MAE ${metric}, n=200" == "MAE $67.75 (95% CI 53.60 to 82.40), n=200"
    large = Metric(value=1067.75, low=1000, high=1100, n=2)
    assert str(large) == "1,067.75 (95% CI 1,000.00 to 1,100.00)"


def test_a_single_item_has_no_interval() -> None:
    evaluation = Evaluator().evaluate(off_by(5), ITEMS[:1])
    assert str(evaluation) == "MAE $5.00 (95% CI unknown), n=1, 0 unscored"
    assert math.isnan(evaluation.mae.low)


def test_every_metric_has_value_interval_and_n() -> None:
    evaluation = Evaluator().evaluate(off_by(50), ITEMS)
    assert (float(evaluation.mae), evaluation.rmse.value, evaluation.median_absolute_error.value) == (
        50,
        50,
        50,
    )
    assert (evaluation.green.value, evaluation.orange.value, evaluation.red.value) == (0, 1, 0)
    for metric in (evaluation.mae, evaluation.rmsle, evaluation.r2, evaluation.green):
        assert metric.n == 10
        assert metric.low <= metric.value <= metric.high


ANSWERS: dict[str, tuple[Any, float | None, str | None]] = {
    "float": (7.0, 7.0, None),
    "int": (7, 7.0, None),
    "zero": (0, 0.0, None),
    "numpy": (np.float32(7), 7.0, None),
    "numpy array of one": (np.array(7.0), 7.0, None),
    "text": ("about $7", 7.0, None),
    "prediction": (Prediction(item_id="item-1", price=7.0), 7.0, None),
    "text without a price": ("dear", None, "no price in 'dear'"),
    "none": (None, None, "no price was given"),
    "nan": (float("nan"), None, "not a finite price: nan"),
    "infinity": (np.inf, None, "not a finite price: inf"),
    "true": (True, None, "not true or false"),
    "a list": ([7.0], None, "TypeError"),
    "prediction without a price": (
        Prediction(item_id="item-1", price=None, error="cut"),
        None,
        "cut",
    ),
}


@pytest.mark.parametrize(("answer", "price", "unscored"), ANSWERS.values(), ids=ANSWERS)
def test_whatever_a_function_gives_is_a_price_or_unscored(
    answer: Any, price: float | None, unscored: str | None
) -> None:
    items = priced(2)
    evaluation = Evaluator().evaluate(lambda item: item.price if item.id == "item-0" else answer, items)
    record = evaluation.records[1]
    assert record.price == price
    assert (unscored or "") in (record.unscored or "")
    assert evaluation.unscored == (price is None)


def test_an_exception_in_one_item_is_one_unscored_item_in_no_mean() -> None:
    def failing(item: Item) -> float:
        if item.id == "item-3":
            raise ZeroDivisionError("at three")
        return (item.price or 0) + 5

    evaluation = Evaluator().evaluate(failing, ITEMS)
    assert (evaluation.mae.value, evaluation.n, evaluation.unscored) == (5, 9, 1)
    assert evaluation.records[3].unscored == "ZeroDivisionError: at three"
    assert str(evaluation).endswith("n=9, 1 unscored; WARNING: 10% of the items are unscored")


@pytest.mark.parametrize(("unscored", "warned"), [(0, False), (1, True), (3, True)])
def test_any_share_unscored_is_warned_of(unscored: int, warned: bool) -> None:
    items = priced(40)
    answers = [None] * unscored + [5.0] * (40 - unscored)
    assert (Evaluator().score(items, answers).warning is not None) is warned


def test_when_nothing_could_be_scored_the_first_reason_is_said() -> None:
    with pytest.raises(
        EvaluationError,
        match="not one of 10 items could be scored; the first: no price in 'x'; all 10 answers",
    ) as caught:
        Evaluator().evaluate(lambda _: "x", ITEMS)
    assert list(caught.value.predictions) == ["x"] * 10


def test_predictions_that_were_paid_for_are_in_the_error_that_nothing_could_be_scored(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    message = {"role": "assistant", "content": "no idea"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    service.post("/chat/completions").respond(
        json={"id": "x", "choices": [{"index": 0, "message": message}], "usage": usage}
    )
    with pytest.raises(EvaluationError) as caught:
        Evaluator().evaluate(Predictor(client, "ft:m"), ITEMS)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again.predictions, Predictions)
    assert [one.item_id for one in again.predictions] == [item.id for item in ITEMS]
    assert {(one.text, one.usage.prompt_tokens) for one in again.predictions} == {("no idea", 7)}


def test_answers_to_items_that_count_nothing_are_not_lost() -> None:
    with pytest.raises(EvaluationError, match=r"weight above 0; all 10 answers") as caught:
        Evaluator().evaluate(off_by(1), ITEMS, weights=[0.0] * 10)
    assert len(caught.value.predictions) == 10


def test_nobody_is_asked_when_the_baselines_cannot_be_fitted() -> None:
    asked: list[Item] = []
    unpriced = ItemDataset.from_items([Item(title="a")])
    with pytest.raises(EvaluationError, match="training items of a baseline have no prices"):
        Evaluator(baselines=unpriced).evaluate(asked.append, ITEMS)
    assert not asked


def test_a_model_to_stand_beside_that_is_not_there_costs_no_answer(
    client: openai.OpenAI, service: respx.MockRouter
) -> None:
    service.post("/chat/completions").respond(
        404, json={"error": {"code": "model_not_found", "message": "no such model"}}
    )
    found = Evaluator(beside=[Predictor(client, "gone")], rounds=50).evaluate(off_by(1), ITEMS)
    assert found.mae.value == pytest.approx(1)
    assert found.manifest["left out: gone"] == "no such model"


def test_no_items_are_nothing_to_evaluate() -> None:
    with pytest.raises(EvaluationError, match="no items to evaluate"):
        Evaluator().evaluate(off_by(0), [])


def test_an_unpriced_item_is_named_with_its_row_before_anything_is_asked() -> None:
    asked: list[Item] = []
    items = [*ITEMS[:2], Item(id="x-1", title="Chair")]
    with pytest.raises(
        InvalidItem, match=r"row 3, item 'x-1' \(Chair\) has no price, which evaluating needs"
    ):
        Evaluator().evaluate(asked.append, items)
    assert not asked
    with pytest.raises(InvalidItem, match="row 3"):
        Evaluator().score(items, [1.0, 2.0, 3.0])


def test_a_predictor_is_scored_by_its_replies(client: openai.OpenAI, service: respx.MockRouter) -> None:
    def answer(text: str) -> Any:
        number = int(text.rsplit(maxsplit=1)[-1])
        return reply("no idea") if number == 9 else reply(f"${100 + number + 5}")

    service.post("/chat/completions").mock(side_effect=answering(answer))
    evaluation = Evaluator().evaluate(Predictor(client, "ft:x"), ITEMS)
    assert (evaluation.name, evaluation.mae.value, evaluation.unscored) == ("ft:x", 5, 1)
    assert evaluation.records[9].text == "no idea"


def test_a_model_that_does_not_exist_raises(client: openai.OpenAI, service: respx.MockRouter) -> None:
    service.post("/chat/completions").mock(refusal(404, "no model ft:x", code="model_not_found"))
    with pytest.raises(ModelNotFound, match="no model ft:x"):
        Evaluator().evaluate(Predictor(client, "ft:x"), ITEMS)


def test_predictions_made_elsewhere_are_scored() -> None:
    predictions = [Prediction(item_id=item.id, price=(item.price or 0) + 5) for item in ITEMS]
    assert Evaluator().score(ITEMS, predictions).mae.value == 5
    assert Evaluator().score(ITEMS, np.array([item.price for item in ITEMS]).tolist(), name="n").name == "n"


def test_predictions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EvaluationError, match="10 items but 1 predictions"):
        Evaluator().score(ITEMS, [1.0])
    swapped = [Prediction(item_id=item.id, price=1) for item in [ITEMS[1], ITEMS[0], *ITEMS[2:]]]
    with pytest.raises(EvaluationError, match="for 'item-1' stands where item 'item-0' is; keep the order"):
        Evaluator().score(ITEMS, swapped)
    with pytest.raises(EvaluationError, match="slice items and predictions instead"):
        Evaluator(size=3).score(ITEMS, [1.0] * 10)


def test_a_sample_is_drawn_by_the_seed_and_said() -> None:
    def drawn(seed: int) -> list[str]:
        evaluation = Evaluator(size=4, seed=seed).evaluate(off_by(0), ITEMS)
        assert evaluation.sample == f"4 of 10 items, seed {seed}"
        return [record.item_id for record in evaluation.records]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert Evaluator(size=10).evaluate(off_by(0), ITEMS).sample is None


def test_a_dataset_is_evaluated_like_a_list() -> None:
    assert Evaluator(size=5).evaluate(off_by(5), ItemDataset.from_items(ITEMS)).mae.value == 5


def test_the_median_of_the_training_items_stands_beside_the_model() -> None:
    train = ItemDataset.from_items([Item(title=str(price), price=price) for price in (1, 100, 900)])
    evaluation = Evaluator(baselines=train).evaluate(off_by(1), ITEMS)
    median, *_ = evaluation.baselines
    assert median.name == "always the training median"
    assert {record.price for record in median.records} == {100.0}
    assert median.mae.value == pytest.approx(4.5)


def test_a_baseline_without_prices_is_refused() -> None:
    unpriced = ItemDataset.from_items([Item(title="a")])
    with pytest.raises(EvaluationError, match="training items of a baseline have no prices"):
        Evaluator(baselines=unpriced).evaluate(off_by(1), ITEMS)


def test_a_function_is_called_in_order_by_one_worker() -> None:
    asked: list[str] = []

    def note(item: Item) -> float:
        asked.append(item.id)
        return 1.0

    Evaluator(workers=1).evaluate(note, ITEMS)
    assert asked == [item.id for item in ITEMS]


def test_the_frame_has_a_row_for_each_item_and_no_error_for_the_unscored() -> None:
    frame = Evaluator().score(ITEMS[:2], [105.0, None]).to_frame()
    assert frame["item_id"].tolist() == ["item-0", "item-1"]
    assert frame["truth"].tolist() == [100.0, 101.0]
    assert frame["error"].isna().tolist() == [False, True]
    assert frame["error"][0] == 5


def test_the_name_is_given_or_the_functions_own() -> None:
    def fair(item: Item) -> float:
        return item.price or 0

    assert Evaluator().evaluate(fair, ITEMS).name == "fair"
    assert Evaluator().evaluate(fair, ITEMS, name="mine").name == "mine"
    assert re.search("lambda", Evaluator().evaluate(lambda item: item.price, ITEMS).name)


def test_a_sample_drawn_evenly_by_price_is_scored_for_the_natural_mix_and_says_so() -> None:
    random = np.random.default_rng(0)
    prices = random.lognormal(3.6, 1.2, 3000)
    shop = ItemDataset.from_items(
        Item(title=f"Thing {n}", price=float(price)) for n, price in enumerate(prices)
    )
    whole = Evaluator(rounds=2).evaluate(lambda item: 50.0, shop)
    drawn = shop.sample(400, by="price")
    found = Evaluator(rounds=50).evaluate(lambda item: 50.0, drawn)
    assert found.mae.value == pytest.approx(whole.mae.value, rel=0.1)
    assert "n=400, weighted by what each item stands for in the natural mix, 0 unscored" in str(found)
    assert "Items are weighted by what each item stands for" in found.to_markdown()
    plain = Evaluator(rounds=50).evaluate(lambda item: 50.0, drawn, weights=[1.0] * 400)
    assert plain.mae.value > 1.5 * whole.mae.value
    assert Evaluator(rounds=50, size=100).evaluate(lambda item: 50.0, drawn).is_weighted
    assert not Evaluator(rounds=50).evaluate(lambda item: 50.0, shop.sample(100)).is_weighted
